"""A flow: a bijector, the prior of its latents and the shape of its data; what can be asked of it.

log p(x) = log p(z) + log |det dz/dx|, exact, and z is the exact code of x.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flowjax_glow.base import (
    Batch,
    Bijector,
    LogDet,
    Params,
    PRNGKey,
    check_batch,
    is_running,
    split_trainable,
)
from flowjax_glow.priors import Prior

Data = Float[Array, "batch *event"]


class Flow(NamedTuple):
    """A generative model with exact likelihood.

    bijector: data -> latents. prior: of the latents. event_shape: of one example, such as (32, 32, 3).
    """

    bijector: Bijector
    prior: Prior
    event_shape: tuple[int, ...]


def init(flow: Flow, key: PRNGKey, x: Data, cond: Batch | None = None) -> Params:
    """Parameters for the flow, initialised on the batch x. Pure; give it the whole global batch.

    Raises:
      ValueError: as do all functions here, for another shape or dtype than the flow's, no example, a
        cond of another length; and for values that are not finite, of an array in the host's memory.
    """
    _check_event(flow, x, cond)
    return jax.jit(flow.bijector.init)(key, x, cond)


def log_prob(
    flow: Flow, params: Params, x: Data, cond: Batch | None = None, key: PRNGKey | None = None
) -> LogDet:
    """The log density of each example, (batch,), in nats.

    key: for dropout, and for the estimate of a stochastic bijector. Without one the density is exact.
    """
    _check_event(flow, x, cond)
    z, logdet = flow.bijector.forward(params, x, cond, key)
    return flow.prior.log_prob(z) + logdet


class Estimate(NamedTuple):
    """The mean of many estimates, one for each example, and its standard error: (batch,) each."""

    mean: LogDet
    standard_error: LogDet


def estimate_log_prob(
    flow: Flow, params: Params, x: Data, key: PRNGKey, draws: int, cond: Batch | None = None
) -> Estimate:
    """log_prob of a flow whose log-determinant is estimated, as the mean of independent draws, in nats.

    For a flow that is not stochastic: log_prob itself, with errors of 0.

    Args:
      draws: how many, at least 2; one after the other, so that memory does not grow with them.

    Raises:
      ValueError: for fewer than 2 draws.
    """
    if draws < 2:
        raise ValueError(f"draws must be at least 2; got {draws}")
    if not flow.bijector.stochastic:
        exact = log_prob(flow, params, x, cond)
        return Estimate(exact, jnp.zeros_like(exact))
    params = prepare(flow, params)
    keys = jax.random.split(key, draws)
    values = jax.lax.map(lambda k: log_prob(flow, params, x, cond, k), keys)
    return Estimate(jnp.mean(values, 0), jnp.std(values, 0, ddof=1) / draws**0.5)


def encode(flow: Flow, params: Params, x: Data, cond: Batch | None = None) -> Batch:
    """The latents of x, all of them: decode gives x back.

    For a multi-scale model a tuple of arrays, the level that leaves first (the finest) first.
    """
    _check_event(flow, x, cond)
    return flow.bijector.forward(params, x, cond)[0]


def decode(flow: Flow, params: Params, z: Batch, cond: Batch | None = None) -> Data:
    """The data whose latents are z."""
    _check_latents(flow, z, cond)
    return flow.bijector.inverse(params, z, cond)[0]


def sample(
    flow: Flow,
    params: Params,
    key: PRNGKey,
    num: int,
    *,
    temperature: float | Float[Array, ""] = 1.0,
    cond: Batch | None = None,
) -> Data:
    """Draws `num` examples, (num, *event_shape); temperature scales the latents' deviation.

    cond, where the flow needs it, has one entry an example.

    Raises:
      ValueError: for no examples, a temperature that is negative or not finite, and a cond of another
        length.
    """
    if isinstance(num, bool) or not isinstance(num, int | np.integer) or num < 1:
        raise ValueError(f"num must be a whole number of at least 1; got {num!r}")
    check_temperature(temperature)
    like = latent_shapes(flow, params, num, cond)
    return decode(flow, params, flow.prior.sample(key, like, temperature), cond)


def check_temperature(temperature: float | Float[Array, ""]) -> None:
    """Whether latents can be drawn at it; one that is traced is not looked at.

    Raises:
      ValueError: for one that is negative or not finite.
    """
    if isinstance(temperature, int | float) and not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and not negative; got {temperature}")


def latent_shapes(flow: Flow, params: Params, num: int, cond: Batch | None = None) -> Any:
    """The shapes and dtypes of the latents of `num` examples, as jax.ShapeDtypeStruct."""
    dtype = jax.tree.leaves(split_trainable(params)[0])[0].dtype
    x = jax.ShapeDtypeStruct((num, *flow.event_shape), dtype)
    return jax.eval_shape(functools.partial(encode, flow), params, x, cond)


def prepare(flow: Flow, params: Params) -> Params:
    """Params with all that depends on them alone computed, such as the kernels' inverses.

    Worth it before many calls with the same params; every function here takes either.
    """
    return flow.bijector.prepare(params)


def count_parameters(params: Params) -> int:
    """The number of trained parameters; running statistics are not among them."""
    leaves = jax.tree_util.tree_leaves_with_path(split_trainable(params)[0])
    return sum(leaf.size for path, leaf in leaves if not is_running(path))


def _check_event(flow: Flow, x: Any, cond: Batch | None) -> None:
    check_batch("x", x, kind=jnp.floating, event_shape=flow.event_shape)
    _check_cond(cond, x.shape[0])


def _check_latents(flow: Flow, z: Batch, cond: Batch | None) -> None:
    # Any tuple of latents has one number for each of the data's.
    for leaf in (leaves := jax.tree.leaves(z)):
        check_batch("z", leaf, kind=jnp.floating)
    shapes, size = [leaf.shape for leaf in leaves], math.prod(flow.event_shape)
    entries = sum(math.prod(shape[1:]) for shape in shapes)
    if len({shape[0] for shape in shapes}) != 1 or entries != size:
        raise ValueError(
            f"expected z of {size} entries an example, as encode gives it; got shapes {shapes}"
        )
    _check_cond(cond, shapes[0][0])


def _check_cond(cond: Batch | None, examples: int) -> None:
    for leaf in jax.tree.leaves(cond):
        if jnp.shape(leaf)[:1] != (examples,):
            raise ValueError(
                f"expected cond with an entry for each of the {examples} examples; got shape "
                f"{jnp.shape(leaf)}"
            )
