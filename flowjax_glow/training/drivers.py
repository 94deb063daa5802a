"""The drivers: one train step on all devices of a mesh, by shard_map, pmap or jit.

All take the mean of the gradients over the global batch and then the same update, so that they take
the same steps to rounding. They differ in who places what passes between the devices:

- shard_map: this file. With fsdp, params are gathered once before the forward pass, and gradients leave
  once, after the backward pass, by one reduce-scatter; without, by one all-reduce.
- pmap: this file too, for a state that is whole on every device.
- jit: the compiler, from where the arrays lie. It may sum weight gradients where they arise, inside the
  backward loop over the depth.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from flowjax_glow.base import split_trainable
from flowjax_glow.sharding import (
    AXES,
    SPLIT,
    WHOLE,
    all_gather,
    fsdp_shardings,
    fsdp_specs,
    make_mesh,
    mean,
    mean_and_scatter,
    put_state,
    shard_batch,
)
from flowjax_glow.training.config import Config
from flowjax_glow.training.state import TrainState
from flowjax_glow.training.step import Metrics, TrainStep

Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]


class Driver(NamedTuple):
    """What runs a train step on a mesh.

    put_state(state): a copy of a state, laid out as steps wants it. put_batches(batches): the same for
    this process's shares of the global batches of successive steps. steps(state, batches) -> (state,
    metrics): takes all those steps in one device call; the state is donated. The metrics are the last
    step's, but for "bad_in_a_row", the largest of any step, and "finite", whether in every step.
    """

    put_state: Callable[[TrainState], TrainState]
    put_batches: Callable[[list[Any]], Any]
    steps: Step


def make_driver(name: str, train_step: TrainStep, mesh: Mesh) -> Driver:
    """A driver by its name in DRIVERS."""
    return DRIVERS[name](train_step, mesh)


def check_devices(config: Config) -> Mesh:
    """The mesh that a config asks for.

    Raises:
      ValueError: for what config.parallel and config.train ask that the devices cannot do.
    """
    parallel, train = config.parallel, config.train
    if parallel.driver not in DRIVERS:
        names = ", ".join(sorted(DRIVERS))
        raise ValueError(f"parallel.driver must be one of {names}; got {parallel.driver!r}")
    if parallel.driver == "pmap" and parallel.fsdp != 1:
        raise ValueError(f"parallel.fsdp must be 1 with parallel.driver = pmap; got {parallel.fsdp}")
    mesh = make_mesh(parallel.fsdp)
    asked, found = parallel.platform, jax.default_backend()
    if asked not in (None, found):
        raise ValueError(
            f"parallel.platform must be {found}, which is what JAX finds here, or None for what there "
            f"is; got {asked!r}; for a GPU or TPU jax needs its support, such as pip install "
            "'jax[cuda13]'"
        )
    for field in ("accumulate", "steps_per_call"):
        if train[field] < 1:
            raise ValueError(f"train.{field} must be at least 1; got {train[field]}")
    if train.batch_size % (mesh.size * train.accumulate):
        times = "" if train.accumulate == 1 else f" times train.accumulate = {train.accumulate}"
        raise ValueError(
            f"train.batch_size must be divisible by the {mesh.size} devices{times}; got "
            f"{train.batch_size}"
        )
    for field in ("steps", "log_every", "eval_every"):
        if train[field] % train.steps_per_call:
            raise ValueError(
                f"train.{field} must be divisible by train.steps_per_call = {train.steps_per_call}; "
                f"got {train[field]}"
            )
    return mesh


def _shard_map(train_step: TrainStep, mesh: Mesh) -> Driver:
    def gradients(params, key, batch):
        specs = fsdp_specs(params, mesh)
        # The loss goes along with the gradients, whole.
        out_specs = (WHOLE, fsdp_specs(split_trainable(params)[0], mesh))

        def local(params, key, batch):
            device = jax.lax.axis_index(AXES)
            result = train_step.gradients(all_gather(params, specs), key, batch, device)
            return mean_and_scatter(result, out_specs)

        in_specs = (specs, WHOLE, SPLIT)
        # Without check_vma a gradient is what jax.grad gives of the local loss.
        sharded = jax.shard_map(
            local, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )
        return sharded(params, key, batch)

    return _on_global_arrays(gradients, train_step, mesh)


def _jit(train_step: TrainStep, mesh: Mesh) -> Driver:
    def gradients(params, key, batch):
        params = jax.lax.with_sharding_constraint(params, NamedSharding(mesh, WHOLE))
        loss, grads = train_step.gradients(params, key, batch)
        return loss, jax.lax.with_sharding_constraint(grads, fsdp_shardings(grads, mesh))

    return _on_global_arrays(gradients, train_step, mesh)


def _on_global_arrays(gradients: Callable[..., Any], train_step: TrainStep, mesh: Mesh) -> Driver:
    def step(state, batch):
        state, metrics = train_step.update(state, *gradients(state.params, _key(state), batch))
        return lay_out(state), metrics

    def lay_out(state):
        return jax.lax.with_sharding_constraint(state, fsdp_shardings(state, mesh))

    def steps(state, batches):
        state, metrics = _scan(step)(state, batches)
        return lay_out(state), metrics  # a loop's results may lie otherwise than its body's

    return Driver(
        functools.partial(_own, mesh),
        lambda batches: shard_batch(_stack(batches), mesh, axis=1),
        jax.jit(steps, donate_argnums=0),
    )


def _pmap(train_step: TrainStep, mesh: Mesh) -> Driver:
    def step(state, batch):
        device = jax.lax.axis_index("devices")
        result = train_step.gradients(state.params, _key(state), batch, device)
        return train_step.update(state, *mean(result, "devices"))

    devices = jax.local_device_count()
    return Driver(
        functools.partial(_own, mesh),
        lambda batches: jax.tree.map(
            lambda a: a.reshape(a.shape[0], devices, -1, *a.shape[2:]), _stack(batches)
        ),
        jax.pmap(
            _scan(step),
            axis_name="devices",
            in_axes=(None, 1),
            out_axes=(None, None),
            devices=list(mesh.devices.flat),
            donate_argnums=0,
        ),
    )


DRIVERS = {"shard_map": _shard_map, "pmap": _pmap, "jit": _jit}


def _own(mesh: Mesh, state: TrainState) -> TrainState:
    # Donation takes what it is given: not the caller's arrays, nor one array twice.
    return jax.tree.map(jnp.copy, put_state(state, mesh))


def _key(state: TrainState) -> jax.Array:
    return jax.random.fold_in(state.key, state.step)


def _scan(step: Step) -> Step:
    """The steps of batches with a leading axis of them."""

    def steps(state, batches):
        if jax.tree.leaves(batches)[0].shape[0] == 1:
            return step(state, jax.tree.map(lambda a: a[0], batches))
        state, metrics = jax.lax.scan(step, state, batches)
        last = jax.tree.map(lambda m: m[-1], metrics)
        row, finite = metrics["bad_in_a_row"].max(), metrics["finite"].all(axis=0)
        return state, {**last, "bad_in_a_row": row, "finite": finite}

    return steps


def _stack(batches: list[Any]) -> Any:
    return jax.tree.map(lambda *parts: np.stack(parts), *batches)
