"""Checkerboard to channels: the colours of a checkerboard become the two halves of the channels.

A channel coupling then changes the one colour given the other, by a net that sees as many positions,
of half the channels, as every channel coupling's does: so that nets may be alike in a model that has
both. Kolesnikov et al. 2024 (Jet), arXiv:2412.15129, as in the released code.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector, split_channels
from flowjax_glow.bijectors.isometry import isometry
from flowjax_glow.bijectors.mask import merge, split


def checkerboard_to_channels() -> Bijector:
    """Bijector on (batch, height, width, channels); width and channels even. logdet 0. No params.

    Of each colour, (batch, height, width / 2, channels), a position is cut in two halves of its
    channels, which lie side by side in the output's half, (batch, height, width, channels / 2).

    Raises:
      ValueError: for another rank, and for a width or a number of channels that is odd.
    """

    def forward(x):
        n, h, w, c = _image_shape(x)
        halves = [half.reshape(n, h, w, c // 2) for half in split(x, "checkerboard")]
        return jnp.concatenate(halves, axis=-1)

    def inverse(z):
        n, h, w, c = _image_shape(z)
        first, second = (half.reshape(n, h, w // 2, c) for half in split_channels(z))
        return merge(first, second, "checkerboard")

    return isometry(forward, inverse)


def _image_shape(x):
    if x.ndim != 4 or x.shape[-2] % 2 or x.shape[-1] % 2:
        raise ValueError(
            "checkerboard_to_channels needs (batch, height, width, channels) with width and channels "
            f"even; got {x.shape}"
        )
    return x.shape
