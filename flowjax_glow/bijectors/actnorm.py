"""Actnorm: a per-channel affine map, initialised from data.

z = (x + bias) * exp(3 * log_scale).  Kingma & Dhariwal 2018, section 3.1, arXiv:1807.03039; the
factor 3, which lets the scale learn three times as fast, is the released code's.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector, per_channel

LOG_SCALE_FACTOR = 3.0


def actnorm(*, eps: float = 1e-6) -> Bijector:
    """Per-channel affine bijector on (batch, ..., channels).

    params: {"bias": (channels,), "log_scale": (channels,)}. init sets both so that the batch it is
    given comes out with mean 0 and variance 1 in every channel. logdet: positions * sum(3 log_scale),
    nats, the same for every example.

    Args:
      eps: added to the standard deviation; bounds the scale of a channel that is constant.
    """

    def init(key, x, cond=None):
        del key, cond
        axes = tuple(range(x.ndim - 1))
        bias = -jnp.mean(x, axes)
        sd = jnp.sqrt(jnp.mean((x + per_channel(bias, x)) ** 2, axes))
        return {"bias": bias, "log_scale": -jnp.log(sd + eps) / LOG_SCALE_FACTOR}

    def forward(params, x, cond=None, key=None):
        del cond, key
        log_scale = LOG_SCALE_FACTOR * params["log_scale"]
        z = (x + per_channel(params["bias"], x)) * per_channel(jnp.exp(log_scale), x)
        return z, _logdet(x, log_scale)

    def inverse(params, z, cond=None, key=None):
        del cond, key
        log_scale = LOG_SCALE_FACTOR * params["log_scale"]
        x = z * per_channel(jnp.exp(-log_scale), z) - per_channel(params["bias"], z)
        return x, _logdet(z, -log_scale)

    return Bijector(init, forward, inverse)


def _logdet(x, log_scale):
    positions = x[0].size // x.shape[-1]
    return jnp.full((x.shape[0],), positions * jnp.sum(log_scale))
