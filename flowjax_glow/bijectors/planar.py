"""Planar map: stretches or squeezes space along one direction, about one hyperplane.

z = x + u tanh(w.x + b), logdet = log(1 + w.u tanh'(w.x + b)).  Rezende & Mohamed 2015, section 4.1,
arXiv:1505.05770. It is invertible where w.u > -1; to that end, as in appendix A.1, u is a free vector v
whose part along w is replaced: w.u = softplus(w.v) - 1.
"""

import math

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, check_vectors, per_channel
from flowjax_glow.bijectors.solve import solve_increasing

# The least slope along w. The paper has 0, where an inverse exists but cannot be computed.
MIN_SLOPE = 1e-3


def planar() -> Bijector:
    """Bijector on (batch, dim); cond is ignored, since there is no network.

    params: {"w": (dim,), "v": (dim,), "b": ()}; w is not 0. init draws w and b from a standard normal,
    and takes the v with which the map is the identity.

    forward is the formula. inverse solves one increasing equation of one unknown for each example,
    a + w.u tanh(a + b) = w.z with a = w.x, to the dtype's resolution (bijectors.solve). Where samples
    have to be fast, as in variational inference, take invert(planar()), whose inverse is the formula.

    Raises:
      ValueError: when applied, for an input that is not (batch, dim).
    """

    def init(key, x, cond=None):
        del cond
        w_key, b_key = jax.random.split(key)
        w = jax.random.normal(w_key, check_vectors(x).shape[1:], x.dtype)
        v = w * (math.log(math.expm1(1 - MIN_SLOPE)) / jnp.sum(w**2))
        return {"w": w, "v": v, "b": jax.random.normal(b_key, (), x.dtype)}

    def forward(params, x, cond=None, key=None):
        del cond, key
        u, slope = _constrained(params)
        t = jnp.tanh(_along(params["w"], x) + params["b"])
        return x + t[:, None] * per_channel(u, x), _log_slope(slope, t)

    def inverse(params, z, cond=None, key=None):
        del cond, key
        u, slope = _constrained(params)
        end, reach = _along(params["w"], z), jnp.abs(slope - 1)
        a = solve_increasing(
            lambda a: a + (slope - 1) * jnp.tanh(a + params["b"]), end, end - reach, end + reach
        )
        t = jnp.tanh(a + params["b"])
        return z - t[:, None] * per_channel(u, z), -_log_slope(slope, t)

    return Bijector(init, forward, inverse)


def _along(w, x):
    return jnp.sum(check_vectors(x) * per_channel(w, x), axis=1)


def _constrained(params):
    """u, and the slope along w on the hyperplane, 1 + w.u."""
    w, v = params["w"], params["v"]
    free = jnp.sum(w * v)
    slope = MIN_SLOPE + jax.nn.softplus(free)
    return v + w * ((slope - 1 - free) / jnp.sum(w**2)), slope


def _log_slope(slope, t):
    # 1 + w.u tanh', tanh' = 1 - t^2, as a sum of what is not negative: nothing cancels.
    return jnp.log(t**2 + slope * (1 - t**2))
