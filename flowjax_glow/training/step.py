"""One training step, pure and per device; the drivers in training.sharding run it on many."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flowjax_glow.base import Batch, Params, PRNGKey
from flowjax_glow.combine import merge_trainable, split_trainable
from flowjax_glow.flow import Flow, log_prob
from flowjax_glow.likelihood import bits_per_dim, dequantize
from flowjax_glow.training.state import TrainState

Metrics = dict[str, Float[Array, ""]]


def make_train_step(
    flow: Flow,
    optimizer: optax.GradientTransformation,
    *,
    n_bins: int,
    conditional: bool = False,
    average_decay: float = 0.999,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Builds `train_step(state, batch, axis_name=None) -> (state, metrics)`.

    batch: {"image": integers (batch, *event_shape) in [0, n_bins), "label": (batch,)}; under an axis
    name the shard of this device, and the loss is then the mean over the global batch. The noise of an
    image depends on the step and its place in the global batch, not on the device. metrics:
    "bits_per_dim" of the batch, and "grad_norm" before clipping.
    """

    def loss(trained: Params, constants: Params, x: Array, cond: Batch | None, key: PRNGKey):
        params = merge_trainable(trained, constants)
        lp = log_prob(flow, params, x, cond, key)
        return jnp.mean(bits_per_dim(lp, flow.event_shape, n_bins=n_bins))

    def train_step(
        state: TrainState, batch: dict[str, Any], axis_name: str | None = None
    ) -> tuple[TrainState, Metrics]:
        noise_key, net_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        device = 0 if axis_name is None else jax.lax.axis_index(axis_name)
        local = batch["image"].shape[0]
        x = dequantize(
            noise_key, batch["image"], n_bins=n_bins, index=device * local + jnp.arange(local)
        )
        cond = batch["label"] if conditional else None
        trained, constants = split_trainable(state.params)
        value, grads = jax.value_and_grad(loss)(
            trained, constants, x, cond, jax.random.fold_in(net_key, device)
        )
        if axis_name is not None:
            value, grads = jax.lax.pmean((value, grads), axis_name)

        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        trained = optax.apply_updates(trained, updates)
        average = _moving_average(state.average, trained, state.step, average_decay)
        metrics = {"bits_per_dim": value, "grad_norm": optax.tree.norm(grads)}
        params = merge_trainable(trained, constants)
        return TrainState(state.step + 1, params, opt_state, average, state.key), metrics

    return train_step


def _moving_average(average: Params, trained: Params, step: Array, decay: float) -> Params:
    # Short memory at first, so that the initial params are soon forgotten.
    t = step.astype(jnp.float32)
    d = jnp.minimum(decay, (1.0 + t) / (10.0 + t))
    return jax.tree.map(
        lambda a, p: d.astype(p.dtype) * a + (1 - d).astype(p.dtype) * p, average, trained
    )
