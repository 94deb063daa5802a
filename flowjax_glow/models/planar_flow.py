"""Planar flow: many planar maps, one after the other.

Rezende & Mohamed 2015, section 4.1, arXiv:1505.05770, in figures 3 and 4 with 2 to 80 maps.
"""

from flowjax_glow.bijectors.planar import planar
from flowjax_glow.combine import invert
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.priors import standard_normal

EXPLICIT = ("sample", "density")


def planar_flow(
    event_shape: tuple[int, ...], *, depth: int = 32, explicit: str = "sample", memory: str = "stored"
) -> Flow:
    """A planar flow on vectors of event_shape (dim,), with depth * (2 dim + 1) parameters.

    Args:
      event_shape: of one example.
      depth: how many maps.
      explicit: the direction that is a formula; in the other one every map solves an equation an
        example. "sample", as in the paper: latents to data, for variational inference. "density": data
        to latents, for maximum likelihood.
      memory: what repeat keeps for the backward pass.

    Raises:
      ValueError: for an event that is not a vector, an unknown explicit, or a depth below 1.
    """
    if len(event_shape) != 1:
        raise ValueError(f"event_shape must be (dim,); got {event_shape}")
    if explicit not in EXPLICIT:
        raise ValueError(f"explicit must be one of {EXPLICIT}; got {explicit!r}")
    step = planar() if explicit == "density" else invert(planar())
    return Flow(repeat(step, depth, memory=memory), standard_normal(), event_shape)
