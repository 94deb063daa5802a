"""Rates of lossless image codecs in bits per dimension, to set a flow's beside.

bits per dimension = 8 * bytes / (height * width * channels). Bytes are of the whole file, so on
small images, each compressed on its own, headers are much of the rate (the 57 bytes of PNG's are
0.15 bits per dimension of 32x32x3, and 7.1 of 8x8x1), and nothing is learnt from one image for the
next. `mosaic_bits_per_dim` compresses all the images as one, and so shares both out.
"""

import io
import math

import numpy as np
from jaxtyping import Float64, UInt8

_FORMATS = {
    "png": ("PNG", {"optimize": True, "compress_level": 9}),
    "webp": ("WEBP", {"lossless": True, "quality": 100, "method": 6}),
    "jpegxl": ("JXL", {"lossless": True, "effort": 9}),
}
CODECS = tuple(_FORMATS)


def lossless_bits_per_dim(
    images: UInt8[np.ndarray, "batch height width channels"], codec: str
) -> Float64[np.ndarray, " batch"]:
    """Bits per dimension of each image compressed on its own, at the codec's most thorough setting.

    Args:
      images: with 1 channel or 3.
      codec: one of CODECS; "jpegxl" needs the package pillow-jxl-plugin.

    Raises:
      ValueError: unknown codec, or one that does not return the same pixels.
    """
    return np.array([8 * _compress(image, codec) / image.size for image in images])


def mosaic_bits_per_dim(images: UInt8[np.ndarray, "batch height width channels"], codec: str) -> float:
    """Bits per dimension of all the images compressed as one, side by side in a square of them.

    The tiles missing from the last rows are black; their bytes count, their pixels do not. A codec
    can find the same patch in two tiles: on overlapping crops that flatters it (WebP on "photos":
    1.4, and 4.2 one by one; JPEG XL and PNG do not look as far).

    Args:
      images: with 1 channel or 3. WebP takes no more than 16,383 pixels a side.
      codec: as for `lossless_bits_per_dim`, which also says what is raised.
    """
    batch, height, width, channels = images.shape
    side = math.isqrt(batch - 1) + 1
    tiles = np.zeros((side**2, height, width, channels), np.uint8)
    tiles[:batch] = images
    tiles = tiles.reshape(side, side, height, width, channels).swapaxes(1, 2)
    mosaic = tiles.reshape(side * height, side * width, channels)
    return 8 * _compress(mosaic, codec) / images.size


def _compress(image: UInt8[np.ndarray, "height width channels"], codec: str) -> int:
    """Bytes of the compressed image, which is decompressed again and compared."""
    from PIL import Image

    if codec not in _FORMATS:
        raise ValueError(f"codec must be one of {', '.join(CODECS)}; got {codec!r}")
    if codec == "jpegxl":
        import pillow_jxl  # noqa: F401  registers the format with Pillow

    file_format, settings = _FORMATS[codec]
    original = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    buffer = io.BytesIO()
    original.save(buffer, file_format, **settings)
    decoded = Image.open(buffer).convert(original.mode)
    if not np.array_equal(np.asarray(decoded), np.asarray(original)):
        raise ValueError(f"codec must be lossless; {codec} did not return the same pixels")
    return buffer.getbuffer().nbytes
