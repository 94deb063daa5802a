"""Patchify: trades space for channels, (h, w, c) -> (h/p, w/p, p p c), one token a patch.

Dosovitskiy et al. 2021 (ViT), section 3.1, arXiv:2010.11929. Unlike in squeeze, where the entries of
an input channel lie side by side, a token holds its patch row by row, so that its first half is the
upper half of the patch.
"""

from flowjax_glow.base import Bijector, check_images
from flowjax_glow.bijectors.isometry import isometry


def patchify(size: int) -> Bijector:
    """Bijector on (batch, height, width, channels), height and width divisible by size. logdet 0.

    Output channel (size i + j) channels + c is input channel c at row i, column j of the patch. No
    params.

    Raises:
      ValueError: for a size below 1; when applied, for an input it does not divide.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1; got {size}")

    def forward(x):
        n, h, w, c = check_images(x)
        if h % size or w % size:
            raise ValueError(f"height and width must be divisible by the patch's {size}; got {h}x{w}")
        z = x.reshape(n, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
        return z.reshape(n, h // size, w // size, size * size * c)

    def inverse(z):
        n, h, w, c = check_images(z)
        if c % size**2:
            raise ValueError(f"channels must be a multiple of the patch's {size}x{size}; got {c}")
        x = z.reshape(n, h, w, size, size, c // size**2).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(n, size * h, size * w, c // size**2)

    return isometry(forward, inverse)
