"""Spline autoregressive bijector: each number is bent by a spline that those before it give.

z_i = spline(x_i; h(x_<i)), logdet = the sum of the log slopes.  Durkan et al. 2019 (Neural Spline
Flows, RQ-NSF (AR)), section 3, arXiv:1906.04032; the spline is that of bijectors/spline.py.
"""

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.conditioner import MakeNet
from flowjax_glow.bijectors.masked_autoregressive import masked_autoregressive
from flowjax_glow.bijectors.spline import spline


def spline_autoregressive(make_net: MakeNet, *, bins: int = 8, bound: float = 3.0) -> Bijector:
    """Bijector on (batch, dim): a layer of RQ-NSF (AR).

    Each entry goes through a spline whose bins' widths, heights and inner slopes are 3 bins - 1 outputs
    of make_net((3 bins - 1) * dim). Where the net gives 0 the spline is the identity. params: those of
    the network. logdet: the sum over the event of the log slopes, nats. inverse takes dim passes of the
    network.

    Args:
      make_net: as in bijectors.masked_autoregressive; partial(MADE, width=...) of nets.masked.
      bins: of each spline, at least 2. bound: half the width of the interval that is bent.

    Raises:
      ValueError: for too few bins or a bound that is not positive; when applied, for an input that is
        not (batch, dim).
    """
    return masked_autoregressive(make_net, 3 * bins - 1, *spline(bins, bound))
