"""Pictures: what is drawn is where it should be, as large and in the colour that it should have."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from flowjax_glow.report.plots import (
    COLOURS,
    density_curves,
    gif,
    grid_lines,
    heat_map,
    histograms,
    image_grid,
    image_strip,
    scatter,
    to_uint8,
    warped_grid,
)


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


def colour(index):
    return np.array([int(COLOURS[index][i : i + 2], 16) for i in (1, 3, 5)])


def where(picture, rgb):
    """The rows and columns of the pixels of just that colour."""
    return np.nonzero((picture == rgb).all(axis=-1))


def coloured_rows():
    """2 rows of 3 images of 4 x 4 pixels, each of one colour, which is no grey as ink is."""
    levels = np.arange(10, 70, 10, dtype=np.uint8).reshape(2, 3, 1, 1, 1)
    return np.broadcast_to(levels + np.array([0, 50, 100], np.uint8), (2, 3, 4, 4, 3))


def test_a_strip_without_labels_is_the_grid():
    rows = coloured_rows()
    grid = image_grid(rows.reshape(6, 4, 4, 3), columns=3, tile=16)
    assert np.array_equal(image_strip(rows, tile=16), grid)


LABELS = {
    "small": (["a", "b"], ["-1", "0", "1"]),
    "larger than images": (
        ["smiling faces", "neutral"],
        ["reconstruction", "of\nthree\nlines", "x"],
    ),
    "rows alone": (["a", "b"], None),
    "columns alone": (None, ["a", "b", "c"]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_stand_beside_the_images_and_never_on_them(labels):
    row_labels, column_labels = labels
    picture = image_strip(coloured_rows(), row_labels=row_labels, column_labels=column_labels, tile=16)
    ink = (picture != 255).any(axis=-1)
    boxes = []
    for rgb in coloured_rows()[:, :, 0, 0].reshape(-1, 3):
        y, x = where(picture, rgb)
        boxes.append((y.min(), y.max() + 1, x.min(), x.max() + 1))
        top, bottom, left, right = boxes[-1]
        assert (bottom - top, right - left) == (16, 16)
        assert (picture[top:bottom, left:right] == rgb).all()
        ink[top:bottom, left:right] = False
    # What is left is ink of labels, left of all images and above them.
    first_row, first_column = min(box[0] for box in boxes), min(box[2] for box in boxes)
    assert not ink[first_row:, first_column:].any()
    middles_down = sorted({(top + bottom) / 2 for top, bottom, _, _ in boxes})
    middles_right = sorted({(left + right) / 2 for _, _, left, right in boxes})
    beside = first_row - 2 + np.nonzero(ink[first_row - 2 :, :first_column].any(axis=1))[0]
    above = np.nonzero(ink[: first_row - 2].any(axis=0))[0]
    for labels, inked, middles, margin in (
        (row_labels, beside, middles_down, first_column),
        (column_labels, above, middles_right, first_row),
    ):
        if labels is None:
            assert margin == 2
            continue
        nearest = np.abs(inked[:, None] - np.array([middles])).argmin(axis=1)
        for i, middle in enumerate(middles):
            own = inked[nearest == i]
            assert abs((own.min() + own.max()) / 2 - middle) <= 4  # letters reach up more than down
    # No label is cut off at the edge.
    assert not ink[[0, -1]].any()
    assert not ink[:, [0, -1]].any()


def test_other_numbers_of_labels_are_refused():
    with pytest.raises(ValueError, match="column_labels must be 3, one each; got 2"):
        image_strip(coloured_rows(), column_labels=["a", "b"])
    with pytest.raises(ValueError, match="row_labels must be 2, one each; got 3"):
        image_strip(coloured_rows(), row_labels=["a", "b", "c"])


def test_histograms_share_an_axis_and_have_one_colour_each():
    rng = np.random.default_rng(0)
    picture = histograms(
        {"low": rng.normal(0.0, 1.0, 4000), "high": rng.normal(10.0, 0.5, 1000)}, "bits/dim"
    )
    height, width, _ = picture.shape
    picture[: height // 8] = 255  # the names
    (_, x_low), (y_high, x_high) = (where(picture, colour(i)) for i in (0, 1))
    assert x_low.max() < width / 2 < x_high.min()
    # Densities, not counts: 1,000 numbers half as spread out are twice as high as 4,000.
    y_low = where(picture, colour(0))[0]
    floor = max(y_low.max(), y_high.max())
    assert 1.7 < (floor - y_high.min()) / (floor - y_low.min()) < 2.4


@pytest.mark.parametrize("bad", [np.array([]), np.array([1.0, np.nan])])
def test_histograms_refuse_what_cannot_be_drawn(bad):
    with pytest.raises(ValueError, match="values must be finite, and some; got 'bad'"):
        histograms({"good": np.ones(3), "bad": bad}, "nats")


def test_densities_are_curves_over_their_axis():
    x = np.linspace(0.0, 10.0, 201)
    bump = np.exp(-((x - 2.0) ** 2))
    picture = density_curves(x, {"bump": bump, "half as high": 0.5 * np.roll(bump, 100)}, "x")
    height, width, _ = picture.shape
    picture[: height // 8] = 255  # the names
    tops = []
    for i in range(2):
        y, across = where(picture, colour(i))
        tops.append((y.min(), across[y == y.min()].mean()))
    (y_first, x_first), (y_second, x_second) = tops
    floor = where(picture, colour(0))[0].max()
    assert 1.9 < (floor - y_first) / (floor - y_second) < 2.1
    assert x_second - x_first == pytest.approx(width / 2, rel=0.1)


def test_grid_lines_are_upright_and_lying_lines_over_a_square():
    lines = grid_lines(2.0, lines=5, points=9)
    assert lines.shape == (10, 9, 2)
    assert (np.ptp(lines[:5, :, 0], axis=1) == 0).all()
    assert (np.ptp(lines[5:, :, 1], axis=1) == 0).all()
    assert (np.ptp(lines[:5, :, 1], axis=1) == 4).all()
    assert np.array_equal(lines[:5, 0, 0], [-2.0, -1.0, 0.0, 1.0, 2.0])


def test_a_warped_grid_is_drawn_where_the_map_takes_it():
    lines = grid_lines(1.0, lines=3)
    to_the_right = 0.25 * lines + np.array([2.0, 0.0])
    points = np.array([[-2.0, 2.0]])  # left, and above
    picture = warped_grid({"x": lines, "z": to_the_right}, clouds=[points, points], reach=3.0)
    height, width, _ = picture.shape
    assert width == 2 * height
    for panel, (low, high) in ((picture[:, :height], (-1.0, 1.0)), (picture[:, height:], (1.75, 2.25))):
        red, green, blue = np.moveaxis(panel.astype(int), -1, 0)
        y, x = where(panel, (0xCC,) * 3)  # the frame, which is [-3, 3]^2
        left, side, top = x.min(), np.ptp(x), y.min()
        upright = np.nonzero((blue - red > 60) & (blue > green))
        lying = np.nonzero((green - red > 60) & (green > blue))
        for y, x in (upright, lying):
            expected = left + (np.array([low, high]) + 3) / 6 * side
            assert np.abs(np.array([x.min(), x.max()]) - expected).max() < 3
            assert abs((y.min() + y.max()) / 2 - (top + side / 2)) < 3
        y, x = np.nonzero(red - blue > 60)  # the point
        assert abs(x.mean() - (left + side / 6)) < 2
        assert abs(y.mean() - (top + side / 6)) < 2


def test_as_many_clouds_as_grids():
    lines = grid_lines(1.0, lines=3)
    with pytest.raises(ValueError, match="clouds must be 2, one for each grid; got 1"):
        warped_grid({"x": lines, "z": lines}, clouds=[np.zeros((1, 2))])


def test_a_gif_shows_the_frames_in_turn():
    frames = [np.full((20, 30, 3), 255, np.uint8) for _ in range(3)]
    for i, frame in enumerate(frames):
        frame[:, 10 * i : 10 * i + 10] = (0, 114, 178)
    with Image.open(io.BytesIO(gif(frames, milliseconds=100))) as film:
        assert (film.info["duration"], film.info["loop"]) == (100, 0)
        shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    assert np.array_equal(shown, frames)
