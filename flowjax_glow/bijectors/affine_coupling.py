"""Affine coupling: one half of the input shifts and scales the other.

z1 = x1, z2 = (x2 + shift(x1)) * exp(log_scale(x1)), logdet = sum(log_scale).  Dinh et al. 2017
(RealNVP), section 3.1, arXiv:1605.08803, in the order of Glow's released code: the shift comes first,
and scale = sigmoid(h + 2), cut off below at 1/4. Of the network's output channels the first half is the
shift, the second h.
"""

from flowjax_glow.base import Bijector, split_channels
from flowjax_glow.bijectors.affine import affine
from flowjax_glow.bijectors.conditioner import MakeNet
from flowjax_glow.bijectors.coupling import coupling


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
      scale: "sigmoid", sigmoid(h + 2) but at least 1/4, which never enlarges; "double_sigmoid",
        2 sigmoid(h), and "bounded", exp(2 tanh(h / 2)), which are 1 where h is 0; or "exp", exp(h).
      mask: "channel" or "checkerboard". flip: swaps the halves' parts. See bijectors.mask.

    Raises:
      ValueError: for an unknown scale or mask; when applied, for an input that does not divide in
        halves.
    """
    forward, inverse = affine(scale)
    return coupling(
        make_net,
        2,
        lambda h, x: forward(*split_channels(h), x),
        lambda h, z: inverse(*split_channels(h), z),
        mask=mask,
        flip=flip,
    )
