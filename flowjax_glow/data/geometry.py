"""The shape that the images of a set are brought to, before anything random is done to them.

MNIST in three channels of 32 x 32, as released with Glow, is pad=2, channels=3. CelebA at 64 x 64 is
crop=148, image_size=64; what was released with RealNVP takes rows 40 to 187 in place of the middle, 35
to 182, and resizes them bilinearly. LSUN at 64 x 64 is image_size=96, random_crop=64; RealNVP and Glow
crop from the whole image, of which the shorter side is 96, and at random in evaluation too.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8


class Geometry(NamedTuple):
    """What is done to each image, in this order.

    crop: takes the middle so many pixels a side. image_size: takes the largest square in the middle,
    and resizes it to so many pixels a side with a Lanczos filter. pad: so many pixels of zeros on every
    side. channels: 3 repeats grey. random_crop: takes the middle again, in place of the crops that
    `batch_at` draws in training.
    """

    crop: int | None = None
    image_size: int | None = None
    pad: int = 0
    channels: int | None = None
    random_crop: int | None = None

    def shape(self, own: tuple[int | None, int | None, int]) -> tuple[int, int, int]:
        """(height, width, channels) of what comes out.

        Images that are all of one square size are resized only after a crop, so that nobody trains on
        another set than its name says: crop=32, image_size=16 halves images of 32 x 32.

        Args:
          own: of the images as they are; None where that is not the same for all.

        Raises:
          ValueError: where the images cannot be brought to it.
        """
        height, width, own_channels = own
        size = "any size" if None in (height, width) else f"{height} x {width}"
        if self.pad < 0:
            raise ValueError(f"pad must not be negative; got {self.pad}")
        for name, value in (("crop", self.crop), ("image_size", self.image_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive; got {value}")

        if self.crop is not None:
            if any(side is not None and side < self.crop for side in (height, width)):
                raise ValueError(f"crop must fit into images of {size}; got {self.crop}")
            side = self.image_size or self.crop
        elif height is not None and height == width:
            if self.image_size not in (None, height):
                raise ValueError(
                    f"image_size must be {height} for images of {size}, unless crop is given; "
                    f"got {self.image_size}"
                )
            side = height
        elif self.image_size is not None:
            side = self.image_size
        else:
            raise ValueError(
                f"image_size must be given for images of {size}, to be resized to a square; got None"
            )
        side += 2 * self.pad
        if self.random_crop is not None:
            if not 1 <= self.random_crop <= side:
                raise ValueError(f"random_crop must be in 1 .. {side}; got {self.random_crop}")
            side = self.random_crop

        allowed = (1, 3) if own_channels == 1 else (own_channels,)
        channels = own_channels if self.channels is None else self.channels
        if channels not in allowed:
            rule = " or ".join(map(str, allowed))
            raise ValueError(f"channels must be {rule} for images of {own_channels}; got {channels}")
        return side, side, channels

    def apply(self, image: Any, shape: tuple[int, ...]) -> UInt8[np.ndarray, "size size channels"]:
        """An image brought to `shape`.

        Args:
          image: uint8 (height, width, channels), or a PIL image, which becomes grey (ITU-R 601 luma)
            or RGB as `shape` has it. Transparency is dropped.
          shape: what `shape` gave for the set.

        Raises:
          ValueError: if the image is smaller than the crop.
        """
        channels = shape[-1]
        if not isinstance(image, np.ndarray):
            image = np.asarray(image.convert("L" if channels == 1 else "RGB"))
            image = image.reshape(*image.shape[:2], channels)
        if self.crop is not None:
            height, width, _ = image.shape
            if self.crop > min(height, width):
                raise ValueError(f"crop must fit into images of {height} x {width}; got {self.crop}")
            image = _middle(image, self.crop)
        if self.image_size is not None and image.shape[:2] != (self.image_size, self.image_size):
            image = _resized(image, self.image_size)
        if self.pad:
            image = np.pad(image, ((self.pad, self.pad), (self.pad, self.pad), (0, 0)))
        if image.shape[-1] != channels:
            image = np.repeat(image, channels, axis=-1)
        return image if self.random_crop is None else _middle(image, self.random_crop)


def _middle(
    image: UInt8[np.ndarray, "height width channels"], size: int
) -> UInt8[np.ndarray, "size size channels"]:
    height, width, _ = image.shape
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]


def _resized(
    image: UInt8[np.ndarray, "height width channels"], size: int
) -> UInt8[np.ndarray, "size size channels"]:
    from PIL import Image, ImageOps

    channels = image.shape[-1]
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(size, size, channels)
