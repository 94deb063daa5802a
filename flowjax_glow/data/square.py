"""An image of any size as a square one."""

from typing import Any

import numpy as np
from jaxtyping import UInt8


def square(image: Any, shape: tuple[int, int, int]) -> UInt8[np.ndarray, "size size channels"]:
    """The largest centred square of an image, resized to `shape` with a Lanczos filter.

    Args:
      image: a PIL image, or uint8 (height, width, channels).
      shape: (size, size, channels) with 1 channel (grey, ITU-R 601 luma) or 3 (RGB). Transparency
        is dropped.
    """
    from PIL import Image, ImageOps

    size, _, channels = shape
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    image = image.convert("L" if channels == 1 else "RGB")
    image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(shape)
