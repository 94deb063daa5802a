"""Distributions of the latents, without parameters: a learned prior is a bijector that whitens."""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

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

    def log_prob(z):
        terms = [sum_event(-0.5 * (leaf**2 + math.log(2.0 * math.pi))) for leaf in jax.tree.leaves(z)]
        return sum(terms[1:], start=terms[0])

    def sample(key, like, temperature):
        leaves, structure = jax.tree.flatten(like)
        keys = jax.random.split(key, len(leaves))
        draws = [
            jax.random.normal(k, leaf.shape, leaf.dtype) * jnp.asarray(temperature, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, draws)

    return Prior(log_prob, sample)
