"""Logit: data on an interval, such as pixels, to the whole line.

z = log p - log(1 - p), p = margin + (1 - 2 margin) u, u = (x - low) / (high - low).
Dinh et al. 2017, section 4.1, arXiv:1605.08803; margin 0.05 is theirs.
"""

import math

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, sum_event


def logit(*, margin: float = 0.05, low: float = 0.0, high: float = 1.0) -> Bijector:
    """Element-wise bijector from the interval [low, high] to the line. No params.

    logdet: the sum over the event of log((1 - 2 margin) / (high - low)) + softplus(z) + softplus(-z),
    nats. A margin keeps the ends finite. Its price is that what maps onto the line is the interval
    widened by margin / (1 - 2 margin) of its width at either end: inverse may return values from there,
    and beyond it forward is nan. With margin 0 the ends go to -inf and inf, with an infinite logdet.

    The sigmoid is `invert(logit(margin=0.0))`.

    Args:
      margin: the share of (0, 1) that is left out at either end, in [0, 0.5).
      low, high: the ends of the interval: -0.5 and 0.5 for what dequantize returns.

    Raises:
      ValueError: for a margin outside [0, 0.5), or ends that are not in order.
    """
    if not 0 <= margin < 0.5:
        raise ValueError(f"margin must be in [0, 0.5); got {margin}")
    if not low < high:
        raise ValueError(f"low must be below high; got {low} and {high}")
    shrink = (1 - 2 * margin) / (high - low)

    def init(key, x, cond=None):
        del key, x, cond
        return {}

    def logdet(z):
        return sum_event(math.log(shrink) + jax.nn.softplus(z) + jax.nn.softplus(-z))

    def forward(params, x, cond=None, key=None):
        del params, cond, key
        # The distances to the two ends, each small at its own: 1 - p would lose what is left of it.
        p, q = margin + shrink * (x - low), margin + shrink * (high - x)
        z = jnp.log(p) - jnp.log(q)
        return z, logdet(z)

    def inverse(params, z, cond=None, key=None):
        del params, cond, key
        # From the nearer end, for the same reason.
        from_low = low + (jax.nn.sigmoid(z) - margin) / shrink
        from_high = high - (jax.nn.sigmoid(-z) - margin) / shrink
        return jnp.where(z < 0, from_low, from_high), -logdet(z)

    return Bijector(init, forward, inverse)
