"""Lossless codecs, to set bits per dimension beside."""

import numpy as np
import pytest

from flowjax_glow.data import codecs


def noise(n, height=32, width=32, channels=3):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("codec", codecs.CODECS)
@pytest.mark.parametrize("channels", [1, 3])
def test_codecs_beat_8_bits_on_smooth_images_and_not_on_noise(codec, channels):
    if codec == "jpegxl":
        pytest.importorskip("pillow_jxl")
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None], (5, 32, 32, channels))
    each = codecs.lossless_bits_per_dim(ramp.copy(), codec)
    assert each.shape == (5,)
    assert (each < 3).all()
    # Headers are shared: one image's worth of them, and tiles repeat.
    assert codecs.mosaic_bits_per_dim(ramp.copy(), codec) < each.mean()

    noisy = noise(5, channels=channels)
    assert (codecs.lossless_bits_per_dim(noisy, codec) >= 8).all()
    assert codecs.mosaic_bits_per_dim(noisy, codec) >= 8


def test_png_bits_are_those_of_the_file(tmp_path):
    from PIL import Image

    (image,) = images = noise(1)
    Image.fromarray(image).save(tmp_path / "image.png", compress_level=9)
    expected = 8 * (tmp_path / "image.png").stat().st_size / image.size
    np.testing.assert_array_equal(codecs.lossless_bits_per_dim(images, "png"), [expected])


def test_an_unknown_codec_is_refused():
    with pytest.raises(ValueError, match="codec must be one of png, webp, jpegxl; got 'gif'"):
        codecs.lossless_bits_per_dim(np.zeros((1, 8, 8, 1), np.uint8), "gif")
