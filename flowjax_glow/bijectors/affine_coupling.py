"""Affine coupling: one half of the channels shifts and scales the other.

z1 = x1, z2 = (x2 + shift(x1)) * exp(log_scale(x1)), logdet = sum(log_scale).  Dinh et al. 2017
(RealNVP), section 3.1, arXiv:1605.08803, in the order of Glow's released code: the shift comes first,
shift and scale alternate in the network's output channels, and scale = sigmoid(h + 2).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax_glow.base import Bijector, sum_event
from flowjax_glow.bijectors.conditioner import MakeNet
from flowjax_glow.bijectors.coupling import coupling

# From the network's output h to the logarithm of the scale.
_LOG_SCALES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda h: jax.nn.log_sigmoid(h + 2.0),
    "exp": lambda h: h,
}


def affine_coupling(make_net: MakeNet, *, scale: str = "sigmoid") -> Bijector:
    """Bijector on (batch, ..., channels), channels even.

    The first half of the channels conditions and passes through; the second half is shifted and scaled
    by make_net(channels). params: those of the network. logdet: the sum of log_scale over the
    event, nats. In front of factor_out, scale="exp" whitens the half that leaves:
    (x2 - mean(x1)) / sd(x1) with shift = -mean and log_scale = -log sd.

    Args:
      make_net: as in bijectors.conditioner.
      scale: "sigmoid", sigmoid(h + 2), which never enlarges; or "exp", exp(h).

    Raises:
      ValueError: for an unknown scale, or an odd number of channels.
    """
    if scale not in _LOG_SCALES:
        raise ValueError(f"scale must be one of {sorted(_LOG_SCALES)}; got {scale!r}")

    def shift_and_log_scale(h):
        return h[..., 0::2], _LOG_SCALES[scale](h[..., 1::2])

    def forward(h, x):
        shift, log_scale = shift_and_log_scale(h)
        return (x + shift) * jnp.exp(log_scale), sum_event(log_scale)

    def inverse(h, z):
        shift, log_scale = shift_and_log_scale(h)
        return z * jnp.exp(-log_scale) - shift, -sum_event(log_scale)

    return coupling(make_net, 2, forward, inverse)
