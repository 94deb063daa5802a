"""How a conditioner takes in cond: joined to the channels of what it reads."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from flowjax_glow.base import Batch


def join(h: Array, cond: Batch | None, channels: int | None) -> Array:
    """h, (batch, ..., c), with cond's channels behind its own, (batch, ..., c + channels).

    cond: (batch, channels), the same at every position of h; or, for images h, an image (batch, height,
    width, channels) whose height and width are multiples of h's, of which each block is averaged, so
    that every level of a multi-scale model may be given the same image.

    Args:
      channels: of cond; None for a net without, which ignores cond and leaves h as it is.

    Raises:
      ValueError: if cond is missing, or of another shape.
    """
    if channels is None:
        return h
    if cond is None:
        raise ValueError(f"a net with {channels} channels of cond needs cond; got None")
    batch, *positions, _ = h.shape
    wanted = f"cond must be ({batch}, {channels}) or an image ({batch}, height, width, {channels})"
    shape: Any = getattr(cond, "shape", ())
    if len(shape) not in (2, 4) or shape[0] != batch or shape[-1] != channels:
        raise ValueError(f"{wanted}; got {shape or type(cond).__name__}")
    features = jnp.asarray(cond, h.dtype)
    if features.ndim == 2:
        features = features.reshape(batch, *[1] * len(positions), channels)
        features = jnp.broadcast_to(features, (batch, *positions, channels))
    else:
        features = _shrink(features, positions)
    return jnp.concatenate([h, features], axis=-1)


def _shrink(image, positions):
    batch, height, width, channels = image.shape
    if len(positions) != 2 or height % positions[0] or width % positions[1]:
        raise ValueError(
            f"cond's height and width must be multiples of {tuple(positions)}; got {height}x{width}"
        )
    (rows, columns), (i, j) = positions, (height // positions[0], width // positions[1])
    return image.reshape(batch, rows, i, columns, j, channels).mean((2, 4))
