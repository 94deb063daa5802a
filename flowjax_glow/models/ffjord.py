"""FFJORD: a continuous flow whose log-determinant is estimated without bias while it is trained.

Grathwohl et al. 2019, arXiv:1810.01367. With the default arguments it has the solver, the tolerances,
the hidden layers and the softplus of the released code on two-dimensional data, and the layers,
functions of time, of its paper's tabular experiments.
"""

from functools import partial

from jax.typing import DTypeLike

from flowjax_glow.bijectors.continuous import continuous
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.nets.timed_mlp import TimedMLP
from flowjax_glow.priors import standard_normal


def ffjord(
    event_shape: tuple[int, ...],
    *,
    depth: int = 1,
    width: int = 64,
    hidden_layers: int = 3,
    trace: str = "estimate",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    cond_channels: int | None = None,
    dtype: DTypeLike | None = None,
    memory: str = "stored",
) -> Flow:
    """A continuous flow on vectors of event_shape (dim,).

    Give log_prob a key in training: without one the log-determinant is exact, and costs dim derivatives
    of the net at every step instead of one.

    Args:
      event_shape: of one example.
      depth: how many continuous flows, one after the other.
      width: units of a hidden layer. hidden_layers: of each net.
      trace, rtol, atol: as in bijectors.continuous.
      cond_channels: of cond, (batch, cond_channels), which the nets then read; None: cond is ignored.
      dtype: of the computation inside the nets; the flow itself keeps the data's.
      memory: what repeat keeps for the backward pass.

    Raises:
      ValueError: for an event that is not a vector, a depth below 1, an unknown trace or a tolerance
        that is not positive.
    """
    if len(event_shape) != 1:
        raise ValueError(f"event_shape must be (dim,); got {event_shape}")
    make_net = partial(
        TimedMLP, width=width, depth=hidden_layers, cond_channels=cond_channels, dtype=dtype
    )
    step = continuous(make_net, trace=trace, rtol=rtol, atol=atol)
    return Flow(repeat(step, depth, memory=memory), standard_normal(), event_shape)
