"""Fixed permutations of the channels: reverse, as in RealNVP, shuffle, and any other.

reverse and shuffle are what Glow's invertible 1x1 convolution generalises and is compared with:
Kingma & Dhariwal 2018, section 3.2, arXiv:1807.03039. logdet 0.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.isometry import isometry


def reverse() -> Bijector:
    """Reverses the channels of (batch, ..., channels). No params."""

    def flip(x):
        return x[..., ::-1]

    return isometry(flip, flip)


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


def permute(permutation: Sequence[int]) -> Bijector:
    """Permutes the channels of (batch, ..., channels): z[..., i] = x[..., permutation[i]]. No params.

    Raises:
      ValueError: for what is not a permutation of 0, ..., channels - 1; when applied, for another
        number of channels.
    """
    if sorted(permutation) != list(range(len(permutation))):
        raise ValueError(f"permutation must hold each of 0, ..., n - 1 once; got {permutation}")
    order = np.asarray(permutation, np.int32)

    def along(order):
        def run(value):
            if value.shape[-1] != order.size:
                raise ValueError(f"channels must be {order.size}; got {value.shape[-1]}")
            return jnp.take(value, order, axis=-1)

        return run

    return isometry(along(order), along(np.argsort(order).astype(np.int32)))
