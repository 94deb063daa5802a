"""Spline coupling: one half of the input bends the other by monotonic rational-quadratic splines.

z1 = x1, z2 = spline(x2; h(x1)), logdet = the sum of the log slopes.  Durkan et al. 2019 (Neural Spline
Flows), section 3, arXiv:1906.04032; the spline is that of bijectors/spline.py.
"""

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.conditioner import MakeNet
from flowjax_glow.bijectors.coupling import coupling
from flowjax_glow.bijectors.spline import spline


def spline_coupling(
    make_net: MakeNet,
    *,
    bins: int = 8,
    bound: float = 3.0,
    mask: str = "channel",
    flip: bool = False,
) -> Bijector:
    """Bijector on (batch, ..., channels).

    One half conditions and passes through; each number of the other goes through a spline whose bins'
    widths, heights and inner slopes are the 3 bins - 1 outputs of make_net((3 bins - 1) * its channels)
    for it. Where the net gives 0 the spline is the identity. params: those of the network. logdet: the
    sum over the event of the log slopes, nats.

    Args:
      make_net: as in bijectors.conditioner.
      bins: of each spline, at least 2. bound: half the width of the interval that is bent.
      mask: "channel" or "checkerboard". flip: swaps the halves' parts. See bijectors.mask.

    Raises:
      ValueError: for too few bins, a bound that is not positive or an unknown mask; when applied, for
        an input that does not divide in halves.
    """
    return coupling(make_net, 3 * bins - 1, *spline(bins, bound), mask=mask, flip=flip)
