"""Squeeze: trades space for channels, (h, w, c) -> (h/2, w/2, 4c).

Dinh et al. 2017, section 3.6, arXiv:1605.08803. The order of the output channels is that of Glow's
released code: the four pixels of an input channel's 2x2 block lie side by side.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector


def squeeze() -> Bijector:
    """Space-to-depth bijector on (batch, height, width, channels); height and width even. logdet 0.

    Output channel 4 c + 2 i + j is input channel c at row i, column j of the 2x2 block. No params.
    """

    def init(key, x, cond=None):
        del key, x, cond
        return {}

    def forward(params, x, cond=None, key=None):
        del params, cond, key
        n, h, w, c = _image_shape(x)
        if h % 2 or w % 2:
            raise ValueError(f"height and width must be even; got {h}x{w}")
        z = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
        return z.reshape(n, h // 2, w // 2, 4 * c), jnp.zeros((n,), x.dtype)

    def inverse(params, z, cond=None, key=None):
        del params, cond, key
        n, h, w, c = _image_shape(z)
        if c % 4:
            raise ValueError(f"channels must be a multiple of 4; got {c}")
        x = z.reshape(n, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3)
        return x.reshape(n, 2 * h, 2 * w, c // 4), jnp.zeros((n,), z.dtype)

    return Bijector(init, forward, inverse)


def _image_shape(x):
    if x.ndim != 4:
        raise ValueError(f"squeeze needs (batch, height, width, channels); got shape {x.shape}")
    return x.shape
