"""Devices: one mesh of all of them, and the train step run on each with its share of the batch."""

import functools
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"

# (state, batch) -> (state, metrics); training.step makes them, with an axis name as third argument.
TrainStep = Callable[..., tuple[Any, Any]]


def use_cpu_cores(batch_size: int | None = None) -> None:
    """On a CPU, makes every core a device; call it before any device is used.

    One device a core is faster than one device with many threads. batch_size: takes no more cores
    than divide it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    jax.config.update("jax_num_cpu_devices", math.gcd(batch_size or cores, cores))


def make_mesh() -> Mesh:
    """All devices along one axis, "data"."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def data_parallel(train_step: TrainStep, mesh: Mesh) -> TrainStep:
    """`(state, batch) -> (state, metrics)` over the mesh: state on every device, batch split over them.

    The gradients are averaged once, after the whole backward pass. The state's buffers are donated.
    """
    replicated, split = PartitionSpec(), PartitionSpec(AXIS)
    step = jax.shard_map(
        functools.partial(train_step, axis_name=AXIS),
        mesh=mesh,
        in_specs=(replicated, split),
        out_specs=(replicated, replicated),
        check_vma=False,
    )
    return jax.jit(step, donate_argnums=0)


def pmapped(train_step: TrainStep) -> TrainStep:
    """The same step under jax.pmap: state and metrics have a leading device axis, and so has batch."""
    return jax.pmap(functools.partial(train_step, axis_name=AXIS), axis_name=AXIS, donate_argnums=0)


def per_example(fn: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`fn(shared, batch)` over the mesh, each device with its share of the examples.

    shared is the same everywhere; batch and what fn returns have one entry an example.
    """
    replicated, split = PartitionSpec(), PartitionSpec(AXIS)
    return jax.shard_map(fn, mesh=mesh, in_specs=(replicated, split), out_specs=split, check_vma=False)


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Puts this process's part of a batch on its devices, split along the first axis.

    Raises:
      ValueError: if the devices do not divide the batch.
    """
    size, devices = jax.tree.leaves(batch)[0].shape[0], mesh.local_mesh.size
    if size % devices:
        raise ValueError(f"the batch must be divisible by the {devices} devices; got {size}")
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a tree on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
