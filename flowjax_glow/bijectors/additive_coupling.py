"""Additive coupling: one half of the channels shifts the other.

z1 = x1, z2 = x2 + m(x1), logdet = 0.  Dinh et al. 2015 (NICE), section 3.2, arXiv:1410.8516.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.conditioner import MakeNet
from flowjax_glow.bijectors.coupling import coupling


def additive_coupling(make_net: MakeNet) -> Bijector:
    """Volume-preserving bijector on (batch, ..., channels), channels even.

    The first half of the channels conditions and passes through; the second half is shifted by
    make_net(channels // 2). params: those of the network. logdet: 0.

    Raises:
      ValueError: if the number of channels is odd.
    """
    return coupling(
        make_net,
        1,
        lambda shift, x: (x + shift, jnp.zeros((x.shape[0],), x.dtype)),
        lambda shift, z: (z - shift, jnp.zeros((z.shape[0],), z.dtype)),
    )
