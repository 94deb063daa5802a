"""Reshape: the same numbers in the same order, in events of another shape. logdet 0."""

import math

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.isometry import isometry


def reshape(event_shape: tuple[int, ...], new_shape: tuple[int, ...]) -> Bijector:
    """Bijector from (batch, *event_shape) to (batch, *new_shape), rows first. No params.

    Raises:
      ValueError: for shapes of different sizes; when applied, for an event of another shape.
    """
    if math.prod(event_shape) != math.prod(new_shape):
        raise ValueError(f"shapes must have the same size; got {event_shape} and {new_shape}")

    def to(old, new):
        def run(value):
            if value.shape[1:] != old:
                raise ValueError(f"expected (batch, *{old}); got shape {value.shape}")
            return value.reshape(value.shape[0], *new)

        return run

    event_shape, new_shape = tuple(event_shape), tuple(new_shape)
    return isometry(to(event_shape, new_shape), to(new_shape, event_shape))
