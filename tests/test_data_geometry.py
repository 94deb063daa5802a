"""Images are brought to the shape that is asked for, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from flowjax_glow.data.geometry import Geometry

RNG = np.random.default_rng(0)


def apply(image, **what):
    geometry = Geometry(**what)
    shape = geometry.shape(image.shape)
    found = geometry.apply(image, shape)
    assert (found.shape, found.dtype) == (shape, np.uint8)
    return found


def grey(*rows):
    return np.array(rows, np.uint8)[:, :, None]


def test_nothing_is_done_unasked():
    image = RNG.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(apply(image), image)
    np.testing.assert_array_equal(apply(image, crop=5, image_size=5, channels=3), image)


def test_crop_takes_the_middle():
    image = np.arange(20, dtype=np.uint8).reshape(4, 5, 1)
    np.testing.assert_array_equal(apply(image, crop=2), grey([6, 7], [11, 12]))
    np.testing.assert_array_equal(apply(image, crop=4), image[:, :4])
    faces = RNG.integers(0, 256, (218, 178, 3), dtype=np.uint8)
    np.testing.assert_array_equal(apply(faces, crop=148), faces[35:183, 15:163])


def test_pad_adds_zeros():
    expected = grey([0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 0, 0, 0])
    np.testing.assert_array_equal(apply(grey([1, 2], [3, 4]), pad=1), expected)


def test_channels_repeat_grey():
    found = apply(grey([1, 2], [3, 4]), channels=3)
    np.testing.assert_array_equal(found, [[[1] * 3, [2] * 3], [[3] * 3, [4] * 3]])


def test_random_crop_takes_the_middle_of_what_the_rest_gives():
    found = apply(grey([1, 2], [3, 4]), pad=2, random_crop=4)
    np.testing.assert_array_equal(found, apply(grey([1, 2], [3, 4]), pad=1))


def lanczos(size, start, length, new):
    """The matrix (new, size) of a Lanczos filter of 3 lobes on the window [start, start + length).

    Widened by the reduction, of the distances between the pixels' centres, normalised at the edges.
    """
    scale = length / new
    centres = start + (np.arange(new) + 0.5) * scale
    x = ((np.arange(size) + 0.5)[None] - centres[:, None]) / max(scale, 1.0)
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("height", "width", "channels"), [(12, 18, 3), (15, 12, 1), (4, 5, 3)])
def test_the_middle_square_is_resized_by_a_lanczos_filter(height, width, channels):
    image = RNG.integers(60, 200, (height, width, channels), dtype=np.uint8)
    side = min(height, width)
    rows, columns = (lanczos(size, (size - side) / 2, side, 6) for size in (height, width))
    expected = np.einsum("ih,hwc,jw->ijc", rows, image.astype(float), columns)
    np.testing.assert_allclose(apply(image, image_size=6), expected, atol=1.01)  # rounded twice


def test_the_order_is_crop_resize_pad_channels_random_crop():
    image = np.zeros((10, 12, 1), np.uint8)
    image[3:7, 4:8] = 100  # the middle 4 x 4, of one level
    found = apply(image, crop=4, image_size=6, pad=2, channels=3, random_crop=8)
    expected = np.pad(np.full((6, 6, 3), 100), ((1, 1), (1, 1), (0, 0)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_pillow_come_out_as_arrays_do(channels):
    image = RNG.integers(0, 256, (9, 8, channels), dtype=np.uint8)
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    for what in ({"crop": 6}, {"image_size": 5, "pad": 1}, {"image_size": 5, "channels": 3}):
        geometry = Geometry(**what)
        shape = geometry.shape(image.shape)
        np.testing.assert_array_equal(geometry.apply(picture, shape), apply(image, **what))


@pytest.mark.parametrize(
    ("what", "own", "expected"),
    [
        ({}, (32, 32, 3), (32, 32, 3)),
        ({"image_size": 32, "channels": 3}, (32, 32, 3), (32, 32, 3)),
        ({"pad": 2, "channels": 3}, (28, 28, 1), (32, 32, 3)),
        ({"crop": 148, "image_size": 64}, (218, 178, 3), (64, 64, 3)),
        ({"image_size": 64}, (218, 178, 3), (64, 64, 3)),
        ({"image_size": 96, "random_crop": 64}, (None, None, 3), (64, 64, 3)),
        ({"crop": 32}, (None, None, 3), (32, 32, 3)),
        ({"crop": 32, "image_size": 16}, (32, 32, 3), (16, 16, 3)),
    ],
)
def test_shapes(what, own, expected):
    assert Geometry(**what).shape(own) == expected


@pytest.mark.parametrize(
    ("what", "own", "match"),
    [
        ({"image_size": 16}, (8, 8, 3), "image_size must be 8 for .* 8 x 8, unless crop .*; got 16"),
        ({}, (8, 9, 3), "image_size must be given for images of 8 x 9, to be resized .*; got None"),
        ({}, (None, None, 3), "image_size must be given for images of any size, .*; got None"),
        ({"image_size": 0}, (8, 9, 3), "image_size must be positive; got 0"),
        ({"crop": 0}, (8, 8, 3), "crop must be positive; got 0"),
        ({"crop": 9}, (10, 8, 3), "crop must fit into images of 10 x 8; got 9"),
        ({"pad": -1}, (8, 8, 3), "pad must not be negative; got -1"),
        ({"random_crop": 9}, (8, 8, 3), "random_crop must be in 1 .. 8; got 9"),
        ({"random_crop": 0}, (8, 8, 3), "random_crop must be in 1 .. 8; got 0"),
        ({"channels": 1}, (8, 8, 3), "channels must be 3 for images of 3; got 1"),
        ({"channels": 2}, (8, 8, 1), "channels must be 1 or 3 for images of 1; got 2"),
        ({"channels": 0}, (8, 8, 1), "channels must be 1 or 3 for images of 1; got 0"),
    ],
)
def test_mistakes_are_named(what, own, match):
    with pytest.raises(ValueError, match=match):
        Geometry(**what).shape(own)


def test_an_image_smaller_than_the_crop_is_refused():
    geometry = Geometry(crop=8, image_size=4)
    with pytest.raises(ValueError, match="crop must fit into images of 7 x 9; got 8"):
        geometry.apply(np.zeros((7, 9, 3), np.uint8), geometry.shape((None, None, 3)))
