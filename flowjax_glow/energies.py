"""Four densities on the plane, known but for their normalisation, that flows are fitted to.

log_density = -U for the energies U1 to U4 of Rezende & Mohamed 2015, table 1, arXiv:1505.05770. As
printed, exp(-U2), exp(-U3) and exp(-U4) go on for ever along the first axis and have no integral. The
paper draws them on [-4, 4]^2; here a wall, a quadratic term of scale WALL, ends them past |x_1| = 4,
and inside nothing is changed.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowjax_glow.base import LogDet

EDGE = 4.0
WALL = 0.2

LogDensity = Callable[[Float[Array, "batch 2"]], LogDet]


def arcs(x: Float[Array, "batch 2"]) -> LogDet:
    """-U1: two arcs of a ring of radius 2, left and right."""
    # At 0 the root has no derivative; this one's is 0.
    radius = jnp.sqrt(jnp.maximum(jnp.sum(x**2, axis=1), jnp.finfo(x.dtype).tiny))
    sides = _normal(x[:, 0], 2.0, 0.6), _normal(x[:, 0], -2.0, 0.6)
    return _normal(radius, 2.0, 0.4) + jnp.logaddexp(*sides)


def wave(x: Float[Array, "batch 2"]) -> LogDet:
    """-U2: a band along a sine."""
    return _normal(x[:, 1], _sine(x), 0.4) + _wall(x)


def bump(x: Float[Array, "batch 2"]) -> LogDet:
    """-U3: the band, and a copy of it that leaves it for a moment."""
    apart = 3 * jnp.exp(_normal(x[:, 0], 1.0, 0.6))
    bands = _normal(x[:, 1], _sine(x), 0.35), _normal(x[:, 1], _sine(x) - apart, 0.35)
    return jnp.logaddexp(*bands) + _wall(x)


def fork(x: Float[Array, "batch 2"]) -> LogDet:
    """-U4: the band, and a copy of it that leaves it for good."""
    apart = 3 * jax.nn.sigmoid((x[:, 0] - 1) / 0.3)
    bands = _normal(x[:, 1], _sine(x), 0.4), _normal(x[:, 1], _sine(x) - apart, 0.35)
    return jnp.logaddexp(*bands) + _wall(x)


ENERGIES: dict[str, LogDensity] = {"U1": arcs, "U2": wave, "U3": bump, "U4": fork}


def log_partition_on_grid(
    log_density: LogDensity, *, reach: float = 6.0, points: int = 1200
) -> Float[Array, ""]:
    """The log of the density's integral over [-reach, reach]^2, by the midpoint rule, in nats."""
    x, cell = grid(reach, points)
    return jax.nn.logsumexp(jax.jit(log_density)(x)) + math.log(cell)


def grid(reach: float, points: int) -> tuple[Float[Array, "cells 2"], float]:
    """The middles of the points^2 cells of [-reach, reach]^2, row by row, and the area of a cell."""
    side = (jnp.arange(points, dtype=float) + 0.5) * (2 * reach / points) - reach
    down, right = jnp.meshgrid(side, side, indexing="ij")
    return jnp.stack([right.ravel(), down.ravel()], axis=1), (2 * reach / points) ** 2


def _normal(x, mean, sd):
    """The log of a normal density, up to a constant."""
    return -0.5 * ((x - mean) / sd) ** 2


def _sine(x):
    return jnp.sin(2 * math.pi * x[:, 0] / 4)


def _wall(x):
    return _normal(jnp.maximum(jnp.abs(x[:, 0]), EDGE), EDGE, WALL)
