"""The two ways in which a coupling divides its input: by channels, or like a checkerboard.

Dinh et al. 2017 (RealNVP), section 3.4, arXiv:1605.08803; on vectors the checkerboard is the odd/even
split of NICE (Dinh et al. 2015, section 5.1, arXiv:1410.8516). Nothing is masked with zeros: each half
is an array of its own, so that no work is done for the other.
"""

import jax.numpy as jnp
from jaxtyping import Array

from flowjax_glow.base import split_channels

MASKS = ("channel", "checkerboard")


def split(x: Array, mask: str, flip: bool = False) -> tuple[Array, Array]:
    """Divides x, (batch, ..., channels), into the half that is kept and the half that is changed.

    "channel": the first half of the channels, (batch, ..., channels / 2), and the second.
    "checkerboard": of an image (batch, height, width, channels) the pixels whose row and column add up
    to an even number, (batch, height, width / 2, channels), and the others; of a vector (batch, dim)
    the even entries, (batch, dim / 2), and the odd ones. flip: the other half is kept.

    Raises:
      ValueError: for an unknown mask, and for a number of channels, a width or a dim that is odd.
    """
    if mask == "channel":
        first, second = split_channels(x)
    elif mask == "checkerboard" and x.ndim == 2:
        first, second = _pairs(x, -1, "dim")
    elif mask == "checkerboard" and x.ndim == 4:
        left, right = _pairs(x, -2, "width")
        first, second = _swap_odd_rows(left, right)
    elif mask == "checkerboard":
        raise ValueError(
            f"checkerboard needs (batch, dim) or (batch, height, width, channels); got shape {x.shape}"
        )
    else:
        raise ValueError(f"mask must be one of {MASKS}; got {mask!r}")
    return (second, first) if flip else (first, second)


def merge(kept: Array, changed: Array, mask: str, flip: bool = False) -> Array:
    """The inverse of split."""
    first, second = (changed, kept) if flip else (kept, changed)
    if mask == "channel":
        return jnp.concatenate([first, second], axis=-1)
    if first.ndim == 2:
        return jnp.stack([first, second], axis=-1).reshape(first.shape[0], -1)
    n, height, half, channels = first.shape
    pairs = jnp.stack(_swap_odd_rows(first, second), axis=3)
    return pairs.reshape(n, height, 2 * half, channels)


def _pairs(x, axis, name):
    axis %= x.ndim
    size = x.shape[axis]
    if size % 2:
        raise ValueError(f"{name} must be even for a checkerboard; got {size} in shape {x.shape}")
    pairs = x.reshape(*x.shape[:axis], size // 2, 2, *x.shape[axis + 1 :])
    return jnp.take(pairs, 0, axis=axis + 1), jnp.take(pairs, 1, axis=axis + 1)


def _swap_odd_rows(a, b):
    odd = (jnp.arange(a.shape[1]) % 2 == 1).reshape(1, -1, 1, 1)
    return jnp.where(odd, b, a), jnp.where(odd, a, b)
