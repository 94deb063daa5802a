"""Affine autoregressive bijector: each number is shifted and scaled as those before it say.

z_i = (x_i - mu_i) exp(-alpha_i), mu and alpha functions of x_<i, logdet = -sum(alpha).  Papamakarios et
al. 2017 (Masked Autoregressive Flow, MAF), equations 3 to 5, arXiv:1705.07057.
"""

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.affine import affine
from flowjax_glow.bijectors.conditioner import MakeNet
from flowjax_glow.bijectors.masked_autoregressive import masked_autoregressive


def affine_autoregressive(make_net: MakeNet, *, scale: str = "bounded") -> Bijector:
    """Bijector on (batch, dim): a layer of MAF; `invert` of it is one of IAF.

    The net gives two numbers an entry: shift = -mu, and h, of which scale is a function. params: those
    of the network, make_net(2 * dim). logdet: the sum of log_scale over the event, nats. inverse takes
    dim passes of the network.

    invert(affine_autoregressive(make_net)) is a layer of the inverse autoregressive flow (Kingma et al.
    2016, arXiv:1606.04934): it samples in one pass, and takes dim for the density of given data.

    Args:
      make_net: as in bijectors.masked_autoregressive; partial(MADE, width=...) of nets.masked.
      scale: as in bijectors.affine. "exp" is the paper's, alpha = -h; with "bounded" one layer
        scales by e^-2 to e^2.

    Raises:
      ValueError: for an unknown scale; when applied, for an input that is not (batch, dim).
    """
    forward, inverse = affine(scale)
    return masked_autoregressive(
        make_net,
        2,
        lambda h, x: forward(h[..., 0], h[..., 1], x),
        lambda h, z: inverse(h[..., 0], h[..., 1], z),
    )
