"""One training step in two pure parts, gradients and update; drivers.py runs it on many devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flowjax_glow.base import Batch, Params, PRNGKey, is_running, merge_trainable, split_trainable
from flowjax_glow.dequantization import Dequantizer
from flowjax_glow.flow import Flow, log_prob
from flowjax_glow.likelihood import negative_log_likelihood, unit_of
from flowjax_glow.training.state import TrainState

Metrics = dict[str, Float[Array, ""]]


class TrainStep(NamedTuple):
    """Two pure functions, neither of which communicates.

    gradients(params, key, batch, device=0) -> (loss, grads)
    update(state, loss, grads) -> (state, metrics)

    gradients sees one device's share of the batch, {"example": (share, *event_shape), integers in
    [0, n_bins) or floating, "label": (share,)}, and returns means over it; the share of device d
    begins at example d * share of the global batch. update wants the mean over the global batch. grads
    has the structure of the trained params. metrics: the loss, "bits_per_dim" or "nats", and
    "grad_norm", before all that the optimizer does.
    """

    gradients: Callable[..., tuple[Array, Params]]
    update: Callable[[TrainState, Array, Params], tuple[TrainState, Metrics]]


def make_train_step(
    flow: Flow,
    optimizer: optax.GradientTransformation,
    *,
    dequantizer: Dequantizer,
    conditional: bool = False,
    average_decay: float = 0.999,
    accumulate: int = 1,
) -> TrainStep:
    """The step of a flow: bits per dimension of dequantized images, or nats, down by an optimizer.

    params are {"flow": those of the flow, "dequantizer": those of the dequantizer}.

    The noise of an image depends on the key and its place in the global batch, not on the device; a
    dropout mask, and what a stochastic bijector draws, depends on the device and the microbatch too.

    Args:
      flow: gives log_prob.
      optimizer: of the trained leaves.
      dequantizer: makes images continuous; what it learns is learned with the flow.
      conditional: whether the flow is told the labels.
      average_decay: of the moving average of the trained params; (1 + step) / (10 + step) while that
        is less.
      accumulate: microbatches that a device takes one after the other; each holds 1 / accumulate of
        the activations. The same gradients, but for dropout masks, what a stochastic bijector draws,
        and batch norms, whose batch is then the microbatch.
    """
    n_bins = dequantizer.n_bins

    def loss(
        trained: Params,
        constants: Params,
        examples: Array,
        cond: Batch | None,
        index: Array,
        noise_key: PRNGKey,
        key: PRNGKey,
    ):
        params = merge_trainable(trained, constants)
        # No bijector of the flow has this number, and so this key: chain folds its own by position.
        dropout_key = jax.random.fold_in(key, 2**32 - 1)
        x, log_q = dequantizer.sample(params["dequantizer"], noise_key, examples, index, dropout_key)
        lp = log_prob(flow, params["flow"], x, cond, key) - log_q
        return jnp.mean(negative_log_likelihood(lp, flow.event_shape, n_bins=n_bins))

    def gradients(
        params: Params, key: PRNGKey, batch: dict[str, Any], device: int | Array = 0
    ) -> tuple[Array, Params]:
        noise_key, net_key = jax.random.split(key)
        net_key = jax.random.fold_in(net_key, device)
        share = batch["example"].shape[0]
        trained, constants = split_trainable(params)

        def of_microbatch(examples, labels, index, key):
            cond = labels if conditional else None
            of = jax.value_and_grad(loss)
            return of(trained, constants, examples, cond, index, noise_key, key)

        index = device * share + jnp.arange(share)
        if accumulate == 1:
            return of_microbatch(batch["example"], batch["label"], index, net_key)

        def add(total, microbatch):
            (examples, labels, index), i = microbatch
            result = of_microbatch(examples, labels, index, jax.random.fold_in(net_key, i))
            return jax.tree.map(jnp.add, total, result), None

        whole = (batch["example"], batch["label"], index)
        microbatches = jax.tree.map(lambda a: _microbatches(a, accumulate), whole)
        zero = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), trained))
        total, _ = jax.lax.scan(add, zero, (microbatches, jnp.arange(accumulate)))
        return jax.tree.map(lambda a: a / accumulate, total)

    def update(state: TrainState, value: Array, grads: Params) -> tuple[TrainState, Metrics]:
        trained, constants = split_trainable(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        trained = optax.apply_updates(trained, updates)
        average = _moving_average(state.average, trained, state.step, average_decay)
        metrics = {unit_of(n_bins).field: value, "grad_norm": optax.tree.norm(_learned(grads))}
        params = merge_trainable(trained, constants)
        return TrainState(state.step + 1, params, opt_state, average, state.key), metrics

    return TrainStep(gradients, update)


def _learned(grads: Params) -> list[Array]:
    # A running statistic's is a difference, and its optimizer's own.
    leaves = jax.tree_util.tree_leaves_with_path(grads)
    return [gradient for path, gradient in leaves if not is_running(path)]


def _microbatches(examples: Array, count: int) -> Array:
    # Example i goes to microbatch i % count, so that each device of a sharded batch has of every one.
    return examples.reshape(-1, count, *examples.shape[1:]).swapaxes(0, 1)


def _moving_average(average: Params, trained: Params, step: Array, decay: float) -> Params:
    # Short memory at first, so that the initial params are soon forgotten.
    t = step.astype(jnp.float32)
    d = jnp.minimum(decay, (1.0 + t) / (10.0 + t))
    return jax.tree.map(
        lambda a, p: d.astype(p.dtype) * a + (1 - d).astype(p.dtype) * p, average, trained
    )
