"""Batch normalisation as a bijector: by the batch's statistics in training, by running ones otherwise.

z = (x - mean) / sqrt(variance + eps).  Dinh et al. 2017 (RealNVP), section 3.7, arXiv:1605.08803; that
nothing learned comes after it, and eps, are the released code's.

A running statistic is a leaf of params under the dict key base.RUNNING, and a gradient moves it:
`follow` gives it the cotangent running - statistic, whatever the loss, and training/optimizers.py takes
running <- running - (1 - momentum) * gradient. So it is saved, averaged and summed over devices as the
params are, and no function of the contract returns a second thing.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowjax_glow.base import RUNNING, Bijector, per_channel
from flowjax_glow.bijectors.mask import MASKS, merge, split

EPS = 1e-4

# {"mean": (channels,), "variance": (channels,)}
Moments = dict[str, Float[Array, " channels"]]


def batch_norm(*, eps: float = EPS, mask: str | None = None, flip: bool = False) -> Bijector:
    """Per-channel affine bijector on (batch, ..., channels), or on one half of it.

    params: {"running": {"mean": (channels,), "variance": (channels,)}}, which init sets to the batch's.
    logdet: -positions / 2 * sum(log(variance + eps)), nats, the same for every example. With a key the
    statistics are those of the batch, and are differentiated through; logdet is then the released
    code's, in which they count as constants, and examples are not independent. Without one they are
    the running ones, which are constants, and there is an inverse.

    Args:
      eps: added to the variance.
      mask, flip: None for all of x; or those of a coupling, whose changed half alone is normalised, by
        the statistics of x with zeros in place of the other, as the released code takes them: for a
        checkerboard of pixels mean / 2 and variance / 2 + mean^2 / 4. See bijectors.mask.

    Raises:
      ValueError: for an unknown mask, and when inverse is called with a key; so a repeat around it
        cannot be trained with memory="constant".
    """
    if mask is not None and mask not in MASKS:
        raise ValueError(f"mask must be one of {MASKS}; got {mask!r}")

    def halves(x):
        return (None, x) if mask is None else split(x, mask, flip)

    def joined(kept, changed):
        return changed if mask is None else merge(kept, changed, mask, flip)

    def of_batch(x, changed):
        return _with_zeros(moments(changed), _positions(changed) / _positions(x))

    def init(key, x, cond=None):
        del key, cond
        return {RUNNING: of_batch(x, halves(x)[1])}

    def forward(params, x, cond=None, key=None):
        del cond
        kept, changed = halves(x)
        statistics = of_batch(x, changed) if key is not None else None
        used = follow(params[RUNNING], statistics)
        return joined(kept, normalize(changed, used, eps)), logdet(changed, used)

    def inverse(params, z, cond=None, key=None):
        del cond
        if key is not None:
            raise ValueError(
                "batch_norm's inverse must be called without a key, for by the statistics of a batch "
                "there is none; a repeat around it needs memory='stored' or 'recompute'; got a key"
            )
        kept, changed = halves(z)
        used = follow(params[RUNNING], None)
        sd = per_channel(jnp.sqrt(used["variance"] + eps), z)
        return joined(kept, changed * sd + per_channel(used["mean"], z)), -logdet(changed, used)

    def logdet(changed, used):
        log_variance = jnp.sum(jnp.log(used["variance"] + eps))
        return jnp.full((changed.shape[0],), -0.5 * _positions(changed) * log_variance)

    return Bijector(init, forward, inverse)


def moments(x: Float[Array, "batch *positions channels"]) -> Moments:
    """The mean and the variance of each channel over all else."""
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    return {"mean": mean, "variance": jnp.mean((x - per_channel(mean, x)) ** 2, axes)}


def normalize(x: Array, used: Moments, eps: float = EPS) -> Array:
    """(x - mean) / sqrt(variance + eps) in every channel."""
    reciprocal = jax.lax.rsqrt(used["variance"] + eps)
    return (x - per_channel(used["mean"], x)) * per_channel(reciprocal, x)


def follow(running: Any, statistics: Any | None) -> Any:
    """The statistics to use, pytrees alike: those of the batch; or, where None, the running ones.

    The gradient of running is then running - statistics, whatever becomes of the result, and that of
    statistics is the ordinary one; without statistics running is a constant, of gradient zero. Use a
    leaf once, since what a leaf used twice gets is the sum. Inside repeat every depth has its own. A
    mean of gradients, over devices or microbatches, makes a leaf follow the mean of their statistics:
    for variances that is less than the variance of the whole batch, by the variance between the parts'
    means. What differentiates through statistics must do so in reverse mode.
    """
    return jax.lax.stop_gradient(running) if statistics is None else _follow(running, statistics)


@jax.custom_vjp
def _follow(running, statistics):
    del running
    return statistics


def _follow_forward(running, statistics):
    return statistics, jax.tree.map(jnp.subtract, running, statistics)


_follow.defvjp(_follow_forward, lambda difference, bar: (difference, bar))


def _with_zeros(of: Moments, share: float) -> Moments:
    """The moments of numbers of which a share has those given, and the rest is 0."""
    mean, variance = of["mean"], of["variance"]
    return {"mean": share * mean, "variance": share * (variance + (1 - share) * mean**2)}


def _positions(x):
    return x[0].size // x.shape[-1]
