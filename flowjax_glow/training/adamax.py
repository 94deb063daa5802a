"""Adamax as Glow was released with it: Adam by the largest recent gradient, and Adam's bias correction.

m = b1 m + (1 - b1) g,  u = max(b2 u, |g|),  step = sqrt(1 - b2^t) / (1 - b1^t) * m / (u + eps).

The function adamax of optim.py in openai/glow. In Kingma & Ba 2015, section 7.1, arXiv:1412.6980, and
in optax, u is taken as unbiased, and there is no sqrt(1 - b2^t): at b2 = 0.99 that makes the first step
ten times as long, and only after 390 steps are the two within 1%.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from flowjax_glow.base import Params


class AdamaxState(NamedTuple):
    """Steps taken, the moving mean of gradients, and the largest magnitude, decaying."""

    step: Int[Array, ""]
    mean: Params
    largest: Params


def scale_by_released_adamax(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Gradients rescaled by the Adamax of Glow's release; not optax.scale_by_adamax.

    There b2 is 1 - 1 / (steps of 50,000 images of 32x32): 0.989796 = 1 - 1 / 98 on 8 devices, 64 images
    each, and 0.95 = 1 - 1 / 20 on 40.

    Args:
      b1: decay of the mean. b2: decay of the largest magnitude. eps: added to that.
    """

    def init(params):
        zeros = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return AdamaxState(jnp.zeros((), jnp.int32), *zeros)

    def update(updates, state, params=None):
        del params
        step = state.step + 1
        t = step.astype(jnp.float32)
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, updates)
        largest = jax.tree.map(lambda u, g: jnp.maximum(b2 * u, jnp.abs(g)), state.largest, updates)
        scaled = jax.tree.map(lambda m, u: correction.astype(m.dtype) * m / (u + eps), mean, largest)
        return scaled, AdamaxState(step, mean, largest)

    return optax.GradientTransformation(init, update)
