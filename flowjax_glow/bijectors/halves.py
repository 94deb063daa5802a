"""What Flow++ does with the two halves of a coupling between couplings: maps each, and swaps them.

Ho et al. 2019 (Flow++), arXiv:1902.00275, released code (`Pointwise` and `TupleFlip`, on a pair of
halves). Here a flow's value stays one array, divided as bijectors.mask says.
"""

import jax

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.isometry import isometry
from flowjax_glow.bijectors.mask import MASKS, merge, split


def halves(bijector: Bijector, *, mask: str = "channel") -> Bijector:
    """Takes each half of (batch, ..., channels) through `bijector`, with parameters of its own.

    params: a pair of those of bijector, for the half that a coupling keeps and for the one it changes.
    logdet: the sum of both. The bijector keeps the shape of what it is given.

    Args:
      mask: "channel" or "checkerboard". See bijectors.mask.

    Raises:
      ValueError: for an unknown mask; when applied, for an input that does not divide in halves.
    """
    _check(mask)
    return _halves((bijector, bijector), mask)


def _halves(pair, mask):
    def init(key, x, cond=None):
        parts = zip(pair, jax.random.split(key), split(x, mask), strict=True)
        return tuple(b.init(k, half, cond) for b, k, half in parts)

    def apply(fns, params, x, cond, key):
        keys = (None, None) if key is None else jax.random.split(key)
        (a, a_logdet), (b, b_logdet) = (
            fn(p, half, cond, k)
            for fn, p, half, k in zip(fns, params, split(x, mask), keys, strict=True)
        )
        return merge(a, b, mask), a_logdet + b_logdet

    def forward(params, x, cond=None, key=None):
        return apply([b.forward for b in pair], params, x, cond, key)

    def inverse(params, z, cond=None, key=None):
        return apply([b.inverse for b in pair], params, z, cond, key)

    def prepare(params):
        return tuple(b.prepare(p) for b, p in zip(pair, params, strict=True))

    def rebuild(replace):
        return _halves(tuple(map(replace, ("first half", "second half"), pair)), mask)

    stochastic = any(b.stochastic for b in pair)
    return Bijector(init, forward, inverse, prepare, stochastic=stochastic, rebuild=rebuild)


def swap_halves(*, mask: str = "channel") -> Bijector:
    """Exchanges the halves of (batch, ..., channels), so that the next coupling changes the other.

    No params. logdet 0. Its own inverse. Couplings without flip that are all alike, each with a swap
    behind it, are one block to repeat.

    Args:
      mask: "channel" or "checkerboard". See bijectors.mask.

    Raises:
      ValueError: for an unknown mask; when applied, for an input that does not divide in halves.
    """
    _check(mask)

    def swap(x):
        first, second = split(x, mask)
        return merge(second, first, mask)

    return isometry(swap, swap)


def _check(mask):
    if mask not in MASKS:
        raise ValueError(f"mask must be one of {MASKS}; got {mask!r}")
