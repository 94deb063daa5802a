"""Pictures are of the right pixels."""

import numpy as np
import pytest

from flowjax_glow.report.plots import heat_map, image_grid, learning_curve, scatter, to_uint8
from flowjax_glow.report.record import environment


def test_levels_span_black_to_white():
    levels = np.arange(17, dtype=np.uint8)
    bright = to_uint8(levels, n_bins=17)
    assert (bright[0], bright[-1]) == (0, 255)
    assert (np.diff(bright.astype(int)) >= 15).all()


def test_a_grid_places_images_in_rows_on_white():
    images = np.zeros((3, 2, 2, 3), np.uint8)
    images[1] = 100
    images[2, 0, 0] = (1, 2, 3)
    grid = image_grid(images, columns=2, tile=4)
    assert grid.shape == (2 * 6 + 2, 2 * 6 + 2, 3)
    assert (grid[2:6, 2:6] == 0).all()
    assert (grid[2:6, 8:12] == 100).all()
    assert (grid[8:10, 2:4] == (1, 2, 3)).all()
    assert (grid[8:12, 8:12] == 255).all()


def test_grey_images_become_rgb_and_others_are_refused():
    assert image_grid(np.zeros((1, 4, 4, 1), np.uint8)).shape[-1] == 3
    with pytest.raises(ValueError, match="channels must be 1 or 3; got 2"):
        image_grid(np.zeros((1, 4, 4, 2), np.uint8))


def test_a_learning_curve_is_drawn(tmp_path):
    metrics = [{"step": s, "bits_per_dim": 4.0 / s} for s in range(1, 9)]
    metrics += [{"step": s, "valid_bits_per_dim": 4.2 / s} for s in (4, 8)]
    learning_curve(metrics, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_density_lies_in_the_plane_as_its_points_do():
    corner = np.array([1.0, 0.0])  # right, and below
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    picture = heat_map(
        lambda x: np.exp(-50 * np.sum((x - corner) ** 2, axis=1)), points, "", ["x", "y"], cells=50
    )
    height, width, _ = picture.shape
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    bright = np.argwhere((red > 240) & (red - blue > 40))
    middle = np.median(bright, axis=0)
    assert middle[0] > 0.7 * height
    assert middle[1] > 0.7 * width


def test_clouds_are_drawn_side_by_side_in_one_window():
    cloud = np.random.default_rng(0).normal(size=(2000, 2))
    picture = scatter({"data": cloud, "samples": cloud + 100.0}, ["x", "y"])
    height, width, _ = picture.shape
    assert width == 2 * height
    blue = (picture[..., 2].astype(int) - picture[..., 0] > 50).sum(axis=0)
    assert blue[: width // 2].sum() > 1000
    assert blue[width // 2 :].sum() == 0


def test_the_environment_names_versions():
    versions = environment()["versions"]
    assert {"python", "jax", "flax", "optax", "numpy"} <= versions.keys()
