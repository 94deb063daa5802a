"""IAF: inverted masked autoregressive layers, the order of the entries reversed after each.

Kingma et al. 2016 (Inverse Autoregressive Flow), arXiv:1606.04934: x_i = z_i sigma_i + mu_i with mu and
sigma functions of z_<i, all entries at once; the paper's use is a posterior that is sampled and whose
samples' density is wanted.
"""

import math
from functools import partial

from jax.typing import DTypeLike

from flowjax_glow.bijectors.actnorm import actnorm
from flowjax_glow.bijectors.affine_autoregressive import affine_autoregressive
from flowjax_glow.bijectors.permute import reverse
from flowjax_glow.bijectors.reshape import reshape
from flowjax_glow.combine import chain, invert
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.nets.masked import MADE
from flowjax_glow.priors import standard_normal


def iaf(
    event_shape: tuple[int, ...],
    *,
    depth: int = 5,
    width: int = 512,
    hidden_layers: int = 2,
    residual: bool = False,
    cond_channels: int | None = None,
    dropout: float = 0.0,
    dtype: DTypeLike | None = None,
    memory: str = "stored",
) -> Flow:
    """An IAF on events of any shape, which are flattened first, rows first. encode returns vectors.

    A sample takes one pass of each net; the density of given data takes one for every entry, and its
    gradient keeps the activations of all of them. Every layer has an actnorm on its data side.

    Args:
      event_shape: of one example.
      depth: autoregressive layers. width, hidden_layers, residual: as in models.maf, and its defaults.
      cond_channels: makes every layer depend on cond, (batch, cond_channels).
      dropout: rate in the nets, where a key is given.
      dtype: of the computation inside the nets; the flow itself keeps the data's.
      memory: what repeat keeps for the backward pass.

    Raises:
      ValueError: for an unknown memory, or a depth or hidden_layers below 1.
    """
    make_net = partial(
        MADE,
        width=width,
        depth=hidden_layers,
        residual=residual,
        cond_channels=cond_channels,
        dropout=dropout,
        dtype=dtype,
    )
    step = chain(actnorm(), invert(affine_autoregressive(make_net)), reverse())
    flatten = reshape(event_shape, (math.prod(event_shape),))
    steps = repeat(step, depth, memory=memory)
    return Flow(chain(flatten, steps), standard_normal(), event_shape)
