"""Distributions of the latents, without parameters.

What is to be learned of a prior is a bijector in front of it, which whitens: learned_prior, of the
classes too (nets.table, nets.convnet).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from flowjax_glow.base import Batch, LogDet, PRNGKey, sum_event


class LogProbFn(Protocol):
    """log p(z) in nats, (batch,), for z an array or a pytree of arrays, (batch, ...)."""

    def __call__(self, z: Batch, /) -> LogDet: ...


class SampleFn(Protocol):
    """Draws z with the shapes and dtypes of `like`; the standard deviation is scaled by temperature."""

    def __call__(self, key: PRNGKey, like: Any, temperature: float | jax.Array, /) -> Batch: ...


class Prior(NamedTuple):
    """A density over latents and a way to sample it, as two pure functions."""

    log_prob: LogProbFn
    sample: SampleFn


def standard_normal() -> Prior:
    """Independent normals of mean 0 and variance 1."""
    return _independent(lambda z: -0.5 * (z**2 + math.log(2.0 * math.pi)), jax.random.normal)


def standard_logistic() -> Prior:
    """Independent logistics of mean 0 and scale 1, whose variance is pi^2 / 3.

    log p(z) = -softplus(z) - softplus(-z) for each number; its tails are heavier than the normal's.
    Dinh et al. 2015 (NICE), section 3.4, arXiv:1410.8516.
    """
    return _independent(lambda z: -jax.nn.softplus(z) - jax.nn.softplus(-z), jax.random.logistic)


def _independent(log_density: Callable[[Array], Array], draw: Callable[..., Array]) -> Prior:
    def log_prob(z):
        terms = [sum_event(log_density(leaf)) for leaf in jax.tree.leaves(z)]
        return sum(terms[1:], start=terms[0])

    def sample(key, like, temperature):
        leaves, structure = jax.tree.flatten(like)
        keys = jax.random.split(key, len(leaves))
        draws = [
            draw(k, leaf.shape, leaf.dtype) * jnp.asarray(temperature, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, draws)

    return Prior(log_prob, sample)


def normal_mixture(means: ArrayLike, scales: ArrayLike, weights: ArrayLike | None = None) -> Prior:
    """A fixed mixture of spherical normals over vectors, z of shape (batch, dim).

    p(z) = sum_k weights[k] N(z; means[k], scales[k]^2 I). With a component a class it is the latent
    space of FlowGMM: Izmailov et al. 2020, arXiv:1912.13025. Temperature scales the deviations of the
    components, and leaves their means and weights as they are.

    Args:
      means: (components, dim). scales: (components,), positive.
      weights: (components,), positive, divided by their sum; None: all the same.

    Raises:
      ValueError: for shapes that do not go together, and for scales or weights that are not positive;
        when applied, for z of another shape.
    """
    means, scales = np.asarray(means, float), np.asarray(scales, float)
    weights = np.ones(means.shape[:1]) if weights is None else np.asarray(weights, float)
    if means.ndim != 2 or not scales.shape == weights.shape == means.shape[:1]:
        raise ValueError(
            "means must be (components, dim), scales and weights (components,); "
            f"got {means.shape}, {scales.shape} and {weights.shape}"
        )
    if not (np.all(scales > 0) and np.all(weights > 0)):
        raise ValueError(f"scales and weights must be positive; got {scales} and {weights}")
    log_weights = np.log(weights / weights.sum())
    dim = means.shape[1]
    log_peaks = log_weights - dim * np.log(scales * math.sqrt(2.0 * math.pi))

    def log_prob(z):
        check(z)
        m, s, peaks = (jnp.asarray(a[None], z.dtype) for a in (means, scales[:, None], log_peaks))
        squares = jnp.sum(((z[:, None, :] - m) / s) ** 2, axis=-1)
        return jax.nn.logsumexp(peaks - 0.5 * squares, axis=-1)

    def sample(key, like, temperature):
        check(like)
        which, noise = jax.random.split(key)
        m, s, logits = (jnp.asarray(a, like.dtype) for a in (means, scales[:, None], log_weights))
        k = jax.random.categorical(which, logits, shape=like.shape[:1])
        z = jax.random.normal(noise, like.shape, like.dtype)
        return m[k] + s[k] * jnp.asarray(temperature, like.dtype) * z

    def check(z):
        shape = getattr(z, "shape", None)
        if shape is None or shape[1:] != (dim,):
            raise ValueError(f"the mixture is over vectors, (batch, {dim}); got z of shape {shape}")

    return Prior(log_prob, sample)
