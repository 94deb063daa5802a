"""Scale: each number of the event is multiplied by a learned factor of its own.

z = x * exp(log_scale).  The last layer of NICE: Dinh et al. 2015, section 3.3, arXiv:1410.8516. In
front of a prior with unit scales it weighs the dimensions, as a spectrum does principal components.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector


def scale() -> Bijector:
    """Element-wise bijector on (batch, *event).

    params: {"log_scale": event}, 0 at first. logdet: the sum of log_scale, nats, the same for every
    example. actnorm has one factor a channel, and a shift; learned_prior has both for each number.
    """

    def init(key, x, cond=None):
        del key, cond
        return {"log_scale": jnp.zeros(x.shape[1:], x.dtype)}

    def forward(params, x, cond=None, key=None):
        del cond, key
        log_scale = params["log_scale"]
        return x * jnp.exp(log_scale)[None], jnp.full((x.shape[0],), jnp.sum(log_scale))

    def inverse(params, z, cond=None, key=None):
        del cond, key
        log_scale = params["log_scale"]
        return z * jnp.exp(-log_scale)[None], jnp.full((z.shape[0],), -jnp.sum(log_scale))

    return Bijector(init, forward, inverse)
