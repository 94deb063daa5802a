"""Additive coupling: one half of the channels shifts the other.

z1 = x1, z2 = x2 + m(x1), logdet = 0.  Dinh et al. 2015 (NICE), section 3.2, arXiv:1410.8516.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector, split_channels
from flowjax_glow.bijectors.conditioner import MakeNet, apply_net, init_net


def additive_coupling(make_net: MakeNet) -> Bijector:
    """Volume-preserving bijector on (batch, ..., channels), channels even.

    The first half of the channels conditions and passes through; the second half is shifted by
    make_net(channels // 2). params: those of the network. logdet: 0.

    Raises:
      ValueError: if the number of channels is odd.
    """

    def init(key, x, cond=None):
        x1, x2 = split_channels(x)
        return init_net(make_net(x2.shape[-1]), key, x1, cond)

    def forward(params, x, cond=None, key=None):
        x1, x2 = split_channels(x)
        shift = apply_net(make_net(x2.shape[-1]), params, x1, cond, key)
        return jnp.concatenate([x1, x2 + shift], axis=-1), jnp.zeros((x.shape[0],), x.dtype)

    def inverse(params, z, cond=None, key=None):
        z1, z2 = split_channels(z)
        shift = apply_net(make_net(z2.shape[-1]), params, z1, cond, key)
        return jnp.concatenate([z1, z2 - shift], axis=-1), jnp.zeros((z.shape[0],), z.dtype)

    return Bijector(init, forward, inverse)
