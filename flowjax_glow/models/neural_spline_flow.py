"""Neural spline flow on vectors: learned linear maps and rational-quadratic spline couplings in turn.

Durkan et al. 2019, RQ-NSF (C) of section 5.1, arXiv:1906.04032. Of images, the paper puts the same
coupling in the multi-scale architecture of Glow.
"""

from functools import partial

from jax.typing import DTypeLike

from flowjax_glow.bijectors.invertible_conv import invertible_conv
from flowjax_glow.bijectors.spline_coupling import spline_coupling
from flowjax_glow.combine import chain
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.nets.residual_mlp import ResidualMLP
from flowjax_glow.priors import standard_normal


def neural_spline_flow(
    event_shape: tuple[int, ...],
    *,
    depth: int = 10,
    width: int = 256,
    blocks: int = 2,
    bins: int = 8,
    bound: float = 3.0,
    cond_channels: int | None = None,
    dropout: float = 0.0,
    dtype: DTypeLike | None = None,
    memory: str = "stored",
) -> Flow:
    """A neural spline flow on vectors of event_shape (dim,), best standardised: splines bend near 0.

    `depth` steps of a linear map and a coupling, and a linear map behind them. A linear map is P L U, a
    random rotation at first, where the released code has a random permutation and L = U = 1; so it is
    always the second half of a vector that a coupling bends. The released code also sends the half that
    is kept through splines, one for each dimension, the same for all examples; here it stays.

    Args:
      event_shape: (dim,), dim even; the released code also divides odd ones, unevenly.
      depth: steps. width: units of the conditioners. blocks: residual blocks of each.
      bins: of each spline. bound: half the width of the interval that is bent.
      cond_channels: makes every coupling depend on cond, (batch, cond_channels).
      dropout: rate in the conditioners, where a key is given.
      dtype: of the computation inside the conditioners; the flow itself keeps the data's.
      memory: what repeat keeps for the backward pass.

    Raises:
      ValueError: for an event that is not a vector of even size, or bad depth, bins, bound or memory.
    """
    if len(event_shape) != 1 or event_shape[0] % 2:
        raise ValueError(f"event_shape must be (dim,) with dim even; got {event_shape}")
    make_net = partial(
        ResidualMLP,
        width=width,
        depth=blocks,
        cond_channels=cond_channels,
        dropout=dropout,
        dtype=dtype,
    )
    linear = invertible_conv(parametrization="plu")
    step = chain(linear, spline_coupling(make_net, bins=bins, bound=bound))
    return Flow(chain(repeat(step, depth, memory=memory), linear), standard_normal(), event_shape)
