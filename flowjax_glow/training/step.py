"""One training step in two pure parts, gradients and update; drivers.py runs it on many devices.

A step that would take a number that is not finite into the state changes nothing but the counts: see
TrainStep.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from flowjax_glow.base import Batch, Params, PRNGKey, is_running, merge_trainable, split_trainable
from flowjax_glow.dequantization import Dequantizer
from flowjax_glow.flow import Flow, log_prob
from flowjax_glow.likelihood import negative_log_likelihood, unit_of
from flowjax_glow.training.state import TrainState

Metrics = dict[str, Float[Array, ""] | Int[Array, ""] | Bool[Array, " tensors"]]


class TrainStep(NamedTuple):
    """Two pure functions, neither of which communicates.

    gradients(params, key, batch, device=0) -> (loss, grads)
    update(state, loss, grads) -> (state, metrics)

    gradients sees one device's share of the batch, {"example": (share, *event_shape), integers in
    [0, n_bins) or floating, "label": (share,)}, and returns means over it; the share of device d
    begins at example d * share of the global batch. update wants the mean over the global batch. grads
    has the structure of the trained params.

    Where the loss, the gradients or the optimizer's updates are not finite, or the sum of squares of a
    tensor of them, update leaves params, optimizer state and average as they are, bit for bit, and
    counts the step as a bad one. So what is finite stays so: a number and an update that can be squared
    have a finite sum, and so have averages of them; and what in an optimizer's state is not finite but
    in no update, Checkpoints.save refuses. None of optimizers.py has any: they clip by a norm.

    metrics: the loss, "bits_per_dim" or "nats", and "grad_norm", before all that the optimizer does;
    "bad_steps" and "bad_in_a_row" of the state after it; and "finite", of each of `tensors(state)`.
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
        squares = _squares(grads)
        norm = jnp.sqrt(optax.tree.sum(_learned(squares)))
        updates, _ = optimizer.update(grads, state.opt_state, trained)
        checked = _named(value, norm, squares, _squares(updates))
        finite = jnp.stack([jnp.isfinite(number) for _, number in checked])

        def take(trained, opt_state, average, grads, updates):
            # A second time, as only in here what comes out may be written over what was.
            _, opt_state = optimizer.update(grads, opt_state, trained)
            trained = optax.apply_updates(trained, updates)
            return trained, opt_state, _moving_average(average, trained, state.step, average_decay)

        def leave(trained, opt_state, average, *_):
            return trained, opt_state, average

        is_good = jnp.all(finite)
        before = (trained, state.opt_state, state.average)
        trained, opt_state, average = jax.lax.cond(is_good, take, leave, *before, grads, updates)
        bad = 1 - is_good.astype(jnp.int32)
        counts = {
            "bad_steps": state.bad_steps + bad,
            "bad_in_a_row": (state.bad_in_a_row + 1) * bad,
        }
        state = state._replace(
            step=state.step + 1,
            params=merge_trainable(trained, constants),
            opt_state=opt_state,
            average=average,
            **counts,
        )
        return state, {unit_of(n_bins).field: value, "grad_norm": norm, **counts, "finite": finite}

    return TrainStep(gradients, update)


def tensors(state: TrainState) -> list[str]:
    """What the entries of metrics["finite"] are of: "loss", "gradient/flow/0/bias", "update/...", ...

    In the order in which one that is not finite spoils others.
    """
    return [name for name, _ in _named(None, None, state.average, state.average)]


def _named(loss: Any, norm: Any, gradients: Params, updates: Params) -> list[tuple[str, Any]]:
    trees = {"gradient": gradients, "update": updates}
    return [("loss", loss), ("grad_norm", norm)] + [
        (f"{kind}/{jax.tree_util.keystr(path, simple=True, separator='/')}", leaf)
        for kind, tree in trees.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _squares(tree: Params) -> Params:
    """The sum of squares of each leaf: what a norm needs, and so no pass over memory of its own."""
    return jax.tree.map(lambda leaf: optax.tree.norm(leaf, squared=True), tree)


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
