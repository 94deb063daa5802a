"""MAF: masked autoregressive layers, the order of the entries reversed after each.

Papamakarios et al. 2017 (Masked Autoregressive Flow), arXiv:1705.07057. transform="spline" makes it the
RQ-NSF (AR) of Durkan et al. 2019 (Neural Spline Flows), arXiv:1906.04032, with reversals in place of
that paper's linear maps.
"""

import math
from functools import partial

from jax.typing import DTypeLike

from flowjax_glow.bijectors.actnorm import actnorm
from flowjax_glow.bijectors.affine_autoregressive import affine_autoregressive
from flowjax_glow.bijectors.batch_norm import batch_norm
from flowjax_glow.bijectors.permute import reverse
from flowjax_glow.bijectors.reshape import reshape
from flowjax_glow.bijectors.spline_autoregressive import spline_autoregressive
from flowjax_glow.combine import chain
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.nets.masked import MADE
from flowjax_glow.priors import standard_normal

TRANSFORMS = ("affine", "spline")
NORMALIZATIONS = {"actnorm": actnorm, "batch_norm": batch_norm}


def maf(
    event_shape: tuple[int, ...],
    *,
    depth: int = 5,
    width: int = 512,
    hidden_layers: int = 2,
    residual: bool = False,
    transform: str = "affine",
    bins: int = 8,
    bound: float = 3.0,
    normalize: str | None = "actnorm",
    cond_channels: int | None = None,
    dropout: float = 0.0,
    dtype: DTypeLike | None = None,
    memory: str = "stored",
) -> Flow:
    """A MAF on events of any shape, which are flattened first, rows first. encode returns vectors.

    The density takes one pass of each net, a sample one for every entry. The released code has 5 or 10
    layers with nets of 1 or 2 hidden layers: of 100 units for POWER and GAS, 512 for HEPMASS and
    MINIBOONE, 512 or 1024 for BSDS300, 1024 for MNIST, 1024 or 2048 for CIFAR-10; for GAS with tanh.
    Its scales are exp; here they are bounded, see affine_autoregressive.

    Args:
      event_shape: of one example.
      depth: autoregressive layers. width: units of a hidden layer; with fewer than the entries less 1,
        some conditionals do not see all entries before them. hidden_layers: of each net; where
        residual, its blocks of two. residual: see nets.masked.
      transform: "affine" or "spline".
      bins: of each spline. bound: half the width of the interval that is bent.
      normalize: what stands in front of each layer, where the released code has batch norm behind it:
        "actnorm"; "batch_norm", which trains with a key and not with memory="constant"; or None.
      cond_channels: makes every layer depend on cond, (batch, cond_channels).
      dropout: rate in the nets, where a key is given.
      dtype: of the computation inside the nets; the flow itself keeps the data's.
      memory: what repeat keeps for the backward pass; "constant" takes a pass for every entry.

    Raises:
      ValueError: for an unknown transform, normalize or memory, or bad depth, hidden_layers, bins or
        bound.
    """
    if transform not in TRANSFORMS:
        raise ValueError(f"transform must be one of {TRANSFORMS}; got {transform!r}")
    if normalize is not None and normalize not in NORMALIZATIONS:
        raise ValueError(
            f"normalize must be None or one of {sorted(NORMALIZATIONS)}; got {normalize!r}"
        )
    make_net = partial(
        MADE,
        width=width,
        depth=hidden_layers,
        residual=residual,
        cond_channels=cond_channels,
        dropout=dropout,
        dtype=dtype,
    )
    if transform == "affine":
        layer = affine_autoregressive(make_net)
    else:
        layer = spline_autoregressive(make_net, bins=bins, bound=bound)
    normalization = [] if normalize is None else [NORMALIZATIONS[normalize]()]
    steps = repeat(chain(*normalization, layer, reverse()), depth, memory=memory)
    flatten = reshape(event_shape, (math.prod(event_shape),))
    return Flow(chain(flatten, steps), standard_normal(), event_shape)
