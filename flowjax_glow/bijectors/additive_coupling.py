"""Additive coupling: one half of the input shifts the other.

z1 = x1, z2 = x2 + m(x1), logdet = 0.  Dinh et al. 2015 (NICE), section 3.2, arXiv:1410.8516.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.conditioner import MakeNet
from flowjax_glow.bijectors.coupling import coupling


def additive_coupling(make_net: MakeNet, *, mask: str = "channel", flip: bool = False) -> Bijector:
    """Volume-preserving bijector on (batch, ..., channels).

    One half conditions and passes through; the other is shifted by make_net(its channels).
    params: those of the network. logdet: 0.

    Args:
      make_net: as in bijectors.conditioner.
      mask: "channel" or "checkerboard". flip: swaps the halves' parts. See bijectors.mask.

    Raises:
      ValueError: for an unknown mask; when applied, for an input that does not divide in halves.
    """
    return coupling(
        make_net,
        1,
        lambda shift, x: (x + shift, jnp.zeros_like(x)),
        lambda shift, z: (z - shift, jnp.zeros_like(z)),
        mask=mask,
        flip=flip,
    )
