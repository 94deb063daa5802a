"""Reshape: the same numbers in the same order, in events of another shape. logdet 0."""

import math

import jax.numpy as jnp

from flowjax_glow.base import Bijector


def reshape(event_shape: tuple[int, ...], new_shape: tuple[int, ...]) -> Bijector:
    """Bijector from (batch, *event_shape) to (batch, *new_shape), rows first. No params.

    Raises:
      ValueError: for shapes of different sizes; when applied, for an event of another shape.
    """
    if math.prod(event_shape) != math.prod(new_shape):
        raise ValueError(f"shapes must have the same size; got {event_shape} and {new_shape}")

    def init(key, x, cond=None):
        del key, x, cond
        return {}

    def to(old, new):
        def run(params, value, cond=None, key=None):
            del params, cond, key
            if value.shape[1:] != old:
                raise ValueError(f"expected (batch, *{old}); got shape {value.shape}")
            batch = value.shape[0]
            return value.reshape(batch, *new), jnp.zeros((batch,), value.dtype)

        return run

    event_shape, new_shape = tuple(event_shape), tuple(new_shape)
    return Bijector(init, to(event_shape, new_shape), to(new_shape, event_shape))
