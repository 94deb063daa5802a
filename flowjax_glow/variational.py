"""Variational inference: a flow is fitted to a density that is known up to its normalisation.

With q the flow's density and exp(log_density) the target, of integral Z,
log Z = ELBO + KL(q | target), ELBO = E_q[log_density(x) - log q(x)].  Rezende & Mohamed 2015, section
4, arXiv:1505.05770. Everything is computed from latents to data, x and log q(x) both from
flow.bijector.inverse: forward never runs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flowjax_glow.base import Batch, LogDet, Params, PRNGKey, merge_trainable, split_trainable
from flowjax_glow.flow import Flow, latent_shapes

LogDensity = Callable[[Batch], LogDet]


class Elbo(NamedTuple):
    """An estimate of the ELBO and its standard error, in nats."""

    mean: Float[Array, ""]
    standard_error: Float[Array, ""]


class Partition(NamedTuple):
    """An estimate of log Z and its standard error, in nats, and how many draws it is worth.

    effective_samples: (sum w)^2 / sum(w^2) of the weights, between 1 and the number of draws.
    """

    log_z: Float[Array, ""]
    standard_error: Float[Array, ""]
    effective_samples: Float[Array, ""]


def sample_and_log_prob(flow: Flow, params: Params, key: PRNGKey, num: int) -> tuple[Batch, LogDet]:
    """Draws `num` examples, (num, *event_shape), with the log density of each, (num,), in nats.

    Both are differentiable functions of params: the draws are reparametrized.
    """
    z = flow.prior.sample(key, latent_shapes(flow, params, num), 1.0)
    x, logdet = flow.bijector.inverse(params, z)
    return x, flow.prior.log_prob(z) - logdet


def log_weights(
    flow: Flow, params: Params, log_density: LogDensity, key: PRNGKey, num: int
) -> Float[Array, " num"]:
    """log_density(x) - log q(x) of `num` draws x of the flow, in nats."""
    x, log_prob = sample_and_log_prob(flow, params, key, num)
    return log_density(x) - log_prob


def elbo(flow: Flow, params: Params, log_density: LogDensity, key: PRNGKey, num: int) -> Elbo:
    """The lower bound E_q[log_density(x) - log q(x)] of log Z, in nats, from `num` draws."""
    weights = log_weights(flow, params, log_density, key, num)
    return Elbo(jnp.mean(weights), jnp.std(weights, ddof=1) / math.sqrt(num))


def log_partition(
    flow: Flow, params: Params, log_density: LogDensity, key: PRNGKey, num: int
) -> Partition:
    """The importance-sampled log Z: the log of the mean weight w = exp(log_density(x)) / q(x).

    The standard error is the mean weight's, divided by it (delta method); the estimate is too low by
    about half its square. All three are right only where q has mass wherever the target has: a mode
    that q never visits is missing from them.
    """
    weights = log_weights(flow, params, log_density, key, num)
    log_mean = jax.nn.logsumexp(weights) - math.log(num)
    share = jnp.exp(weights - log_mean)  # of mean 1
    error = jnp.std(share, ddof=1) / math.sqrt(num)
    return Partition(log_mean, error, num / jnp.mean(share**2))


def fit(
    flow: Flow,
    params: Params,
    log_density: LogDensity,
    key: PRNGKey,
    *,
    steps: int,
    optimizer: Any,
    num: int = 256,
    warm_up: int = 0,
) -> tuple[Params, Float[Array, " steps"]]:
    """Raises the ELBO by stochastic gradients; one compiled loop.

    Args:
      params: to start from.
      key: folded with the step.
      steps: how many gradients. num: draws for each.
      optimizer: an optax.GradientTransformation.
      warm_up: log_density counts min(1, 0.01 + step / warm_up) at first, as in the paper's section 6,
        so that q spreads out before it settles on a mode; 0 for none.

    Returns:
      The fitted params, and the ELBO of each step's draws, (steps,), in nats.
    """
    trained, constants = split_trainable(params)

    def loss(trained, step):
        x, log_prob = sample_and_log_prob(
            flow, merge_trainable(trained, constants), jax.random.fold_in(key, step), num
        )
        target = log_density(x)
        share = jnp.minimum(1.0, 0.01 + step.astype(target.dtype) / warm_up) if warm_up else 1.0
        return jnp.mean(log_prob - share * target), jnp.mean(target - log_prob)

    def update(carry, step):
        trained, state = carry
        gradient, bound = jax.grad(loss, has_aux=True)(trained, step)
        change, state = optimizer.update(gradient, state, trained)
        trained = jax.tree.map(lambda p, c: p + jnp.asarray(c, p.dtype), trained, change)
        return (trained, state), bound

    @jax.jit
    def run(trained):
        return jax.lax.scan(update, (trained, optimizer.init(trained)), jnp.arange(steps))

    (trained, _), bounds = run(trained)
    return merge_trainable(trained, constants), bounds
