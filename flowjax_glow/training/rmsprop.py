"""RMSProp with momentum as NICE was released with it, in the two parts around the learning rate.

a = b2 a + (1 - b2) g^2,  v = b1 v - learning rate * g / max(sqrt(a), eps),  params = params + v.

RMSPropMomentum of pylearn2/training_algorithms/learning_rule.py in laurent-dinh/nice: a is not
corrected for having started at 0, and eps is a bound, not a summand. There b2 = 0.95 and eps = 1e-2,
for gradients of nats an image. In exp/nice_*.yaml b1, by pylearn2's MomentumAdjustor, is 0 in the first
five epochs and 0.5 from the sixth on; and the learning rate, by pylearn2's ExponentialDecay, is divided
by 1.0005 after every batch, not epoch, down to a tenth or, for CIFAR-10, a twentieth.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from flowjax_glow.base import Params


class RmsState(NamedTuple):
    """The moving mean of squared gradients."""

    mean_square: Params


class MomentumState(NamedTuple):
    """Steps taken, and the last of them, v."""

    step: Int[Array, ""]
    velocity: Params


def scale_by_bounded_rms(b2: float = 0.95, eps: float = 1e-2) -> optax.GradientTransformation:
    """Gradients over the root of their moving mean square, or over eps where that is larger.

    Args:
      b2: decay of the mean square. eps: the smallest divisor.
    """

    def init(params):
        return RmsState(jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        del params
        mean_square = jax.tree.map(lambda a, g: b2 * a + (1 - b2) * g**2, state.mean_square, updates)
        scaled = jax.tree.map(lambda a, g: g / jnp.maximum(jnp.sqrt(a), eps), mean_square, updates)
        return scaled, RmsState(mean_square)

    return optax.GradientTransformation(init, update)


def momentum(b1: float, *, start: int) -> optax.GradientTransformation:
    """Adds b1 times the last step, from step `start` on; steps are counted from 0.

    It comes after the learning rate, so that a step keeps the rate it was taken with.
    """

    def init(params):
        return MomentumState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        del params
        kept = jnp.where(state.step < start, 0.0, b1)
        velocity = jax.tree.map(lambda v, u: kept.astype(v.dtype) * v + u, state.velocity, updates)
        return velocity, MomentumState(state.step + 1, velocity)

    return optax.GradientTransformation(init, update)
