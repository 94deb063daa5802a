"""Leaky relu: negative numbers are multiplied by a constant, an invertible kink between linear maps.

z = max(x, 0) + slope * min(x, 0), logdet = log(slope) * (how many are negative).  As a layer of a flow:
Oliva et al. 2018 (Transformation Autoregressive Networks), arXiv:1801.09819.
"""

import math

import jax.numpy as jnp

from flowjax_glow.base import Bijector, sum_event


def leaky_relu(*, slope: float = 0.01) -> Bijector:
    """Element-wise bijector on (batch, *event). No params. logdet: in nats, constant between kinks.

    Raises:
      ValueError: for a slope that is not positive.
    """
    if not slope > 0:
        raise ValueError(f"slope must be positive; got {slope}")

    def init(key, x, cond=None):
        del key, x, cond
        return {}

    def bend(value, slope):
        negative = value < 0
        logdet = sum_event(math.log(slope) * negative.astype(value.dtype))
        return jnp.where(negative, slope * value, value), logdet

    def forward(params, x, cond=None, key=None):
        del params, cond, key
        return bend(x, slope)

    def inverse(params, z, cond=None, key=None):
        del params, cond, key
        return bend(z, 1 / slope)

    return Bijector(init, forward, inverse)
