"""Affine coupling: one half of the input shifts and scales the other.

z1 = x1, z2 = (x2 + shift(x1)) * exp(log_scale(x1)), logdet = sum(log_scale).  Dinh et al. 2017
(RealNVP), section 3.1, arXiv:1605.08803, in the order of Glow's released code: the shift comes first,
and scale = sigmoid(h + 2). Of the network's output channels the first half is the shift, the second h.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.conditioner import MakeNet
from flowjax_glow.bijectors.coupling import coupling

# The largest |log_scale| of scale="bounded".
BOUND = 2.0


class _Scale(NamedTuple):
    """A positive scale as a function of the network's output, and what is wanted of it."""

    scale: Callable[[Array], Array]
    reciprocal: Callable[[Array], Array]
    log_scale: Callable[[Array], Array]


def _bounded(h):
    return BOUND * jnp.tanh(h / BOUND)


_SCALES = {
    "sigmoid": _Scale(
        scale=lambda h: jax.nn.sigmoid(h + 2.0),
        reciprocal=lambda h: 1.0 + jnp.exp(-h - 2.0),
        log_scale=lambda h: jax.nn.log_sigmoid(h + 2.0),
    ),
    "bounded": _Scale(
        scale=lambda h: jnp.exp(_bounded(h)),
        reciprocal=lambda h: jnp.exp(-_bounded(h)),
        log_scale=lambda h: _bounded(h),
    ),
    "exp": _Scale(scale=jnp.exp, reciprocal=lambda h: jnp.exp(-h), log_scale=lambda h: h),
}


def affine_coupling(
    make_net: MakeNet, *, scale: str = "sigmoid", mask: str = "channel", flip: bool = False
) -> Bijector:
    """Bijector on (batch, ..., channels).

    One half conditions and passes through; the other is shifted and scaled by make_net(2 * its
    channels). params: those of the network. logdet: the sum of log_scale over the event, nats.
    In front of factor_out, scale="exp" whitens the half that leaves: (x2 - mean(x1)) / sd(x1) with
    shift = -mean and log_scale = -log sd.

    Args:
      make_net: as in bijectors.conditioner.
      scale: "sigmoid", sigmoid(h + 2), which never enlarges; "bounded", exp(2 tanh(h / 2)), which is 1
        where h is 0 and goes either way; or "exp", exp(h).
      mask: "channel" or "checkerboard". flip: swaps the halves' parts. See bijectors.mask.

    Raises:
      ValueError: for an unknown scale or mask; when applied, for an input that does not divide in
        halves.
    """
    if scale not in _SCALES:
        raise ValueError(f"scale must be one of {sorted(_SCALES)}; got {scale!r}")
    of = _SCALES[scale]

    def forward(h, x):
        shift, h = jnp.split(h, 2, axis=-1)
        return (x + shift) * of.scale(h), of.log_scale(h)

    def inverse(h, z):
        shift, h = jnp.split(h, 2, axis=-1)
        return z * of.reciprocal(h) - shift, -of.log_scale(h)

    return coupling(make_net, 2, forward, inverse, mask=mask, flip=flip)
