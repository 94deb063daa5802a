"""What bijectors that only move numbers about, or rotate them, have in common: no params, logdet 0."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from flowjax_glow.base import Bijector

Map = Callable[[Array], Array]


def isometry(forward: Map, inverse: Map) -> Bijector:
    """Bijector of two functions of the value alone that are each other's inverse and keep distances."""

    def init(key, x, cond=None):
        del key, x, cond
        return {}

    def along(fn):
        def run(params, value, cond=None, key=None):
            del params, cond, key
            return fn(value), jnp.zeros((value.shape[0],), value.dtype)

        run.__qualname__ = fn.__qualname__  # for name_of: "squeeze", not "isometry"
        return run

    return Bijector(init, along(forward), along(inverse))
