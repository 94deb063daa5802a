"""Entrywise actnorm: an affine map with a scale and a shift for every entry, initialised from data.

z = x * exp(log_scale) + bias.  Ho et al. 2019 (Flow++), arXiv:1902.00275, released code (`Norm`), which
trains the scale itself, kept above 1e-10; its logarithm needs no bound.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector


def entrywise_actnorm(*, eps: float = 1e-8) -> Bijector:
    """Bijector on (batch, *event) that scales and shifts every entry by itself.

    params: {"bias": event, "log_scale": event}. init sets both so that the batch it is given, which
    should be a large one, comes out with mean 0 and variance 1 in every entry. logdet: the sum of
    log_scale, nats, the same for every example.

    Args:
      eps: added to the variance; bounds the scale of an entry that is constant.
    """

    def init(key, x, cond=None):
        del key, cond
        log_scale = -0.5 * jnp.log(jnp.var(x, axis=0) + eps)
        return {"bias": -jnp.mean(x, axis=0) * jnp.exp(log_scale), "log_scale": log_scale}

    def forward(params, x, cond=None, key=None):
        del cond, key
        z = x * jnp.exp(params["log_scale"])[None] + params["bias"][None]
        return z, jnp.full((x.shape[0],), jnp.sum(params["log_scale"]))

    def inverse(params, z, cond=None, key=None):
        del cond, key
        x = (z - params["bias"][None]) * jnp.exp(-params["log_scale"])[None]
        return x, jnp.full((z.shape[0],), -jnp.sum(params["log_scale"]))

    return Bijector(init, forward, inverse)
