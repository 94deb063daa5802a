"""Squeeze: trades space for channels, (h, w, c) -> (h/2, w/2, 4c).

Dinh et al. 2017, section 3.6, arXiv:1605.08803. In both orders of the output channels in which the
released codes have it: "channel" is that of Glow, and of RealNVP between its couplings; "diagonal" that
of RealNVP where half of the channels leave.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector, check_images
from flowjax_glow.bijectors.isometry import isometry

ORDERS = ("channel", "diagonal")
# (row, column) of a 2x2 block in the order "diagonal", each as 2 * row + column; then its inverse.
_DIAGONAL = (0, 3, 1, 2)
_OF_PIXEL = (0, 2, 3, 1)


def squeeze(*, order: str = "channel") -> Bijector:
    """Space-to-depth bijector on (batch, height, width, channels); height and width even. logdet 0.

    No params.

    Args:
      order: "channel", the four pixels of an input channel side by side: output channel 4 c + 2 i + j
        is input channel c at row i, column j of the 2x2 block. "diagonal", all channels of a pixel side
        by side: output channel channels * k + c is input channel c at the k-th of (0, 0), (1, 1),
        (0, 1), (1, 0), so that the two halves of the channels are the two colours of a checkerboard.

    Raises:
      ValueError: for an unknown order; when applied, for a height or width that is odd.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}; got {order!r}")

    def forward(x):
        n, h, w, c = check_images(x)
        if h % 2 or w % 2:
            raise ValueError(f"height and width must be even; got {h}x{w}")
        z = x.reshape(n, h // 2, 2, w // 2, 2, c)
        if order == "channel":
            z = z.transpose(0, 1, 3, 5, 2, 4)
        else:
            pixels = z.transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4, c)
            z = jnp.stack([pixels[:, :, :, k] for k in _DIAGONAL], axis=3)
        return z.reshape(n, h // 2, w // 2, 4 * c)

    def inverse(z):
        n, h, w, c = check_images(z)
        if c % 4:
            raise ValueError(f"channels must be a multiple of 4; got {c}")
        if order == "channel":
            x = z.reshape(n, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3)
        else:
            pixels = jnp.split(z, 4, axis=-1)
            x = jnp.stack([pixels[k] for k in _OF_PIXEL], axis=3)
            x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(n, 2 * h, 2 * w, c // 4)

    return isometry(forward, inverse)
