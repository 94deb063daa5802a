"""Fixed permutations of the channels: reverse, as in RealNVP, and shuffle.

They are the two things that Glow's invertible 1x1 convolution generalises and is compared with:
Kingma & Dhariwal 2018, section 3.2, arXiv:1807.03039. logdet 0.
"""

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector


def reverse() -> Bijector:
    """Reverses the channels of (batch, ..., channels). No params."""

    def init(key, x, cond=None):
        del key, x, cond
        return {}

    def flip(params, x, cond=None, key=None):
        del params, cond, key
        return x[..., ::-1], jnp.zeros((x.shape[0],), x.dtype)

    return Bijector(init, flip, flip)


def shuffle() -> Bijector:
    """Permutes the channels of (batch, ..., channels) by a permutation that init draws once.

    params: {"permutation": (channels,) int32}, a constant: z[..., i] = x[..., permutation[i]].
    """

    def init(key, x, cond=None):
        del cond
        return {"permutation": jax.random.permutation(key, x.shape[-1]).astype(jnp.int32)}

    def forward(params, x, cond=None, key=None):
        del cond, key
        return jnp.take(x, params["permutation"], axis=-1), jnp.zeros((x.shape[0],), x.dtype)

    def inverse(params, z, cond=None, key=None):
        del cond, key
        order = prepare(params)["order"]
        return jnp.take(z, order, axis=-1), jnp.zeros((z.shape[0],), z.dtype)

    def prepare(params):
        return {"order": jnp.argsort(params["permutation"]), **params}

    return Bijector(init, forward, inverse, prepare)
