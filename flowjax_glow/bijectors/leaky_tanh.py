"""Leaky tanh: tanh on [-bound, bound] and its tangents outside, so that it is onto the line.

z = tanh(t) + (x - t) / cosh(bound)^2, t = clip(x, -bound, bound); logdet = sum(log(1 / cosh(t)^2)).

tanh alone is not onto, so that most latents would have no data, and from |x| = 9 on it is 1 in float32,
which cannot be inverted. The log of its slope is taken as 2 (log 2 - t - softplus(-2 t)).
"""

import math

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, sum_event


def leaky_tanh(*, bound: float = 3.0) -> Bijector:
    """Element-wise bijector of the line, once continuously differentiable. No params. logdet in nats.

    Data on (-1, 1) want `logit(low=-1.0, high=1.0, margin=0.0)`, which is twice the inverse of tanh.

    Args:
      bound: where the tangents begin. The inverse multiplies rounding errors by cosh(bound)^2, which is
        101 at 3.

    Raises:
      ValueError: for a bound that is not positive.
    """
    if not bound > 0:
        raise ValueError(f"bound must be positive; got {bound}")
    edge, slope = math.tanh(bound), math.cosh(bound) ** -2

    def init(key, x, cond=None):
        del key, x, cond
        return {}

    def logdet(x):
        t = jnp.clip(x, -bound, bound)
        return sum_event(2.0 * (math.log(2.0) - t - jax.nn.softplus(-2.0 * t)))

    def forward(params, x, cond=None, key=None):
        del params, cond, key
        t = jnp.clip(x, -bound, bound)
        return jnp.tanh(t) + slope * (x - t), logdet(x)

    def inverse(params, z, cond=None, key=None):
        del params, cond, key
        u = jnp.clip(z, -edge, edge)
        x = jnp.arctanh(u) + (z - u) / slope
        return x, -logdet(x)

    return Bijector(init, forward, inverse)
