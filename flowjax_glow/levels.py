"""log p(x) of a multi-scale model, taken apart by level.

At level l a map f_l takes D_l + D_{l+1} + ... numbers to D_l that leave as latents z_l and the others,
which go on. log p(x) = sum_l [log p(z_l) + log |det df_l|], and a log-determinant is shared equally by
the numbers that go through its map: level m has

    log p(z_m) + sum_{l <= m} log |det df_l| D_m / (D_l + D_{l+1} + ...).

So every level is in the units of x, and their sum is log p(x). That the shares are equal is a
convention: a map may scale what goes on, and the next undo it. The levels are those of Dinh et al.
2017, section 3.6, arXiv:1605.08803.
"""

import math

import jax
import jax.numpy as jnp

from flowjax_glow.base import Batch, Bijector, LogDet, Params, check_batch
from flowjax_glow.combine import DEEPER
from flowjax_glow.flow import Data, Flow


def log_prob_by_level(
    flow: Flow, params: Params, x: Data, cond: Batch | None = None
) -> tuple[LogDet, ...]:
    """What each level adds to log_prob, in nats: one (batch,) for each of encode's latents, as ordered.

    Exact, without a key. The levels are what factor_out makes of a bijector, wherever in it that
    stands; a flow without it has one level, and its log_prob. The prior must be one under which the
    latents of the levels are independent, as those of priors.py are.

    Raises:
      ValueError: for x of another shape or dtype, and for a tuple of latents that no factor_out made.
    """
    check_batch("x", x, kind=jnp.floating, event_shape=flow.event_shape)
    logdets: list[LogDet] = []
    z, logdet = _noted(flow.bijector, logdets).forward(params, x, cond)
    leaves = jax.tree.leaves(z)
    cumulative = [logdet, *reversed(logdets)]  # of each level and all below it
    if len(leaves) != len(cumulative):
        raise ValueError(
            f"levels must be made by factor_out; got {len(leaves)} latents of {len(cumulative)} levels"
        )
    sizes = [math.prod(leaf.shape[1:]) for leaf in leaves]
    terms, each = [], jnp.zeros_like(logdet)  # of the log-determinants so far, what falls to a number
    for i, (leaf, inside) in enumerate(zip(leaves, [*cumulative[1:], 0.0], strict=True)):
        each = each + (cumulative[i] - inside) / sum(sizes[i:])
        terms.append(flow.prior.log_prob(leaf) + sizes[i] * each)
    return tuple(terms)


def _noted(bijector: Bijector, logdets: list[LogDet]) -> Bijector:
    """The bijector, which notes the logdet of whatever a factor_out in it hands on, the deepest first.

    What has no level inside stays as it is, so that a loop over depths stays one.
    """
    if bijector.rebuild is None:
        return bijector
    found = False

    def noted(place: str, part: Bijector) -> Bijector:
        nonlocal found
        inside = _noted(part, logdets)
        if place == DEEPER:
            inside = _telling(inside, logdets)
        found = found or inside is not part
        return inside

    rebuilt = bijector.rebuild(noted)
    return rebuilt if found else bijector


def _telling(bijector: Bijector, logdets: list[LogDet]) -> Bijector:
    def forward(params, x, cond=None, key=None):
        z, logdet = bijector.forward(params, x, cond, key)
        logdets.append(logdet)
        return z, logdet

    return bijector._replace(forward=forward)
