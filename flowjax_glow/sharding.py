"""Devices: one mesh of all of them, where each array lies on it, and what passes between them.

The mesh has two axes, "data" and "fsdp". A batch is split over both; a state is whole on every device,
or its larger arrays are split over "fsdp". Device d of D, counted along both axes, holds rows d * B / D
up to (d + 1) * B / D of a global batch of B, and process p of P, whose devices follow one another,
rows p * B / P up to (p + 1) * B / P.
"""

import ctypes
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA, FSDP = AXES = ("data", "fsdp")
SPLIT, WHOLE = PartitionSpec(AXES), PartitionSpec()

# Arrays below this are not worth a message of their own. In elements: 4 KiB of float32.
_FSDP_LEAST = 1024


def join_processes() -> None:
    """Makes one machine of all processes of a TPU pod, a SLURM job, a JobSet or a local launch.

    Call it before any device is used. JAX finds the others in its environment.

    Raises:
      ValueError: where there is nothing to join.
    """
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise ValueError(
            "distributed needs a TPU pod, SLURM, Kubernetes, Open MPI or experiments.launch.local to "
            f"start the processes; found none ({error})"
        ) from error


def use_cpu_cores(batch_size: int | None = None) -> None:
    """On a CPU, makes every core a device; call it before any device is used.

    One device a core is faster than one device with many threads. batch_size: takes no more cores
    than divide it. Where $JAX_NUM_CPU_DEVICES says how many devices there are, that holds. Memory that
    a step frees stays in the process for the next.
    """
    _keep_freed_memory()
    if "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    jax.config.update("jax_num_cpu_devices", math.gcd(batch_size or cores, cores))


def _keep_freed_memory() -> None:
    # By default glibc gives large blocks back to the system as soon as they are freed, and the next
    # step pays for its temporaries in page faults: a fifth of the time of a step at width 512.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        m_trim_threshold, m_mmap_max = -1, -4  # as in malloc.h
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, -1)


def check_backend() -> None:
    """Whether JAX finds the devices that it is told to use; of several processes, once they have met.

    Raises:
      ValueError: naming what it was told.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where jax was installed without them
        reason = " ".join(str(error).split()) or "it is not there"
        raise ValueError(
            "JAX_PLATFORMS must name what this machine and this jax have, or be left out for what is "
            f"there; got {os.environ.get('JAX_PLATFORMS')!r}: {reason}"
        ) from error


def make_mesh(fsdp: int = 1) -> Mesh:
    """All devices, along "data" and "fsdp"; the devices of a process follow one another.

    fsdp: how many devices share one copy of the state.

    Raises:
      ValueError: if fsdp does not divide the number of devices, or there are none.
    """
    check_backend()
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    if fsdp < 1 or len(devices) % fsdp:
        fits = [n for n in range(1, len(devices) + 1) if len(devices) % n == 0]
        raise ValueError(
            f"parallel.fsdp must divide the {len(devices)} devices; got {fsdp}; take one of {fits}"
        )
    grid = np.array(devices).reshape(-1, fsdp)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto, AxisType.Auto))


def fsdp_shardings(tree: Any, mesh: Mesh) -> Any:
    """How each array of a state lies on the mesh: split over "fsdp" along one axis, or whole.

    Split is the largest axis that fsdp divides, the last of equals. Whole are integers and keys, small
    arrays, and those without such an axis. The rule sees shape and dtype alone, so that a parameter,
    its gradient, its moments and its average lie the same way.
    """
    return jax.tree.map(lambda leaf: NamedSharding(mesh, _fsdp_spec(leaf, mesh.shape[FSDP])), tree)


def _fsdp_spec(leaf: Any, fsdp: int) -> PartitionSpec:
    fits = [axis for axis, size in enumerate(leaf.shape) if size % fsdp == 0]
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    if fsdp == 1 or not floating or leaf.size < _FSDP_LEAST or not fits:
        return WHOLE
    axis = max(fits, key=lambda axis: (leaf.shape[axis], axis))
    return PartitionSpec(*[None] * axis, FSDP)


def fsdp_specs(tree: Any, mesh: Mesh) -> Any:
    """The same as the specs that shard_map takes."""
    return jax.tree.map(lambda sharding: sharding.spec, fsdp_shardings(tree, mesh))


def mean(tree: Any, axes: Any) -> Any:
    """Inside shard_map or pmap: the mean over the devices of the axes, by one all-reduce.

    As one vector, since gloo takes as long for each array as for all of them together: 172 ms for 100
    arrays of 1 KiB on 2 processes, and 2 ms for one of 100 KiB.
    """
    vector, unravel = ravel_pytree(tree)
    return unravel(jax.lax.pmean(vector, axes))


def all_gather(tree: Any, specs: Any) -> Any:
    """Inside shard_map: whole, by one all-gather, what each device holds a part of by fsdp_specs."""

    def gather(parts):
        vector, unravel = ravel_pytree(parts)
        gathered = jax.vmap(unravel)(jax.lax.all_gather(vector, FSDP))
        return [x.reshape(-1, *x.shape[2:]) for x in gathered]

    return _by_layout(tree, specs, gather, lambda whole: whole)


def mean_and_scatter(tree: Any, specs: Any) -> Any:
    """Inside shard_map: the mean over all devices, of which each keeps its part by fsdp_specs.

    What is split leaves by one reduce-scatter over "fsdp" and one all-reduce over "data", what is whole
    by one all-reduce over both.
    """

    def scatter(leaves):
        fsdp = jax.lax.axis_size(FSDP)
        parts = [x.reshape(fsdp, -1, *x.shape[1:]) for x in leaves]
        _, unravel = ravel_pytree([x[0] for x in parts])
        vectors = jax.vmap(lambda part: ravel_pytree(part)[0])(parts)
        return unravel(jax.lax.pmean(jax.lax.psum_scatter(vectors, FSDP) / fsdp, DATA))

    return _by_layout(tree, specs, scatter, lambda whole: mean(whole, AXES))


def _by_layout(
    tree: Any,
    specs: Any,
    of_split: Callable[[list[Any]], list[Any]],
    of_whole: Callable[[list[Any]], list[Any]],
) -> Any:
    """of_split of the leaves that are split, that axis in front; of_whole of the others."""
    leaves, structure = jax.tree.flatten(tree)
    axes = [spec.index(FSDP) if FSDP in spec else None for spec in jax.tree.leaves(specs)]
    pairs = list(zip(leaves, axes, strict=True))
    split = [jnp.moveaxis(x, axis, 0) for x, axis in pairs if axis is not None]
    split = iter(of_split(split) if split else [])
    whole = iter(of_whole([x for x, axis in pairs if axis is None]))
    leaves = [next(whole) if axis is None else jnp.moveaxis(next(split), 0, axis) for axis in axes]
    return jax.tree.unflatten(structure, leaves)


def per_example(fn: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`fn(shared, batch)` over the mesh, each device with its share of the examples.

    shared is the same everywhere; batch and what fn returns have one entry an example.
    """
    return jax.shard_map(fn, mesh=mesh, in_specs=(WHOLE, SPLIT), out_specs=SPLIT, check_vma=False)


def shard_batch(batch: Any, mesh: Mesh, *, axis: int = 0) -> Any:
    """Puts this process's part of a batch on its devices, split along the axis of the examples.

    Raises:
      ValueError: if the devices do not divide the batch.
    """
    size, devices = jax.tree.leaves(batch)[0].shape[axis], jax.local_device_count()
    if size % devices:
        raise ValueError(f"the batch must be divisible by the {devices} devices; got {size}")
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, AXES))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
    )


def put_state(state: Any, mesh: Mesh) -> Any:
    """Lays a state, or any tree, out on the mesh by fsdp_shardings; all processes call it together."""
    return _put(state, fsdp_shardings(state, mesh))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a tree whole on every device of the mesh; all processes call it together."""
    return _put(tree, jax.tree.map(lambda _: NamedSharding(mesh, WHOLE), tree))


def to_this_process(tree: Any, mesh: Mesh) -> Any:
    """A tree whole and on the first device of this process, to compute on without the others.

    All processes call it together.
    """
    return jax.tree.map(lambda x: x.addressable_data(0), replicate(tree, mesh))


def _put(tree: Any, shardings: Any) -> Any:
    """Puts each leaf where its sharding says.

    Of what every process has a copy of its own, the first process's is taken: an initialisation that
    rounds differently on two machines would otherwise never meet again.
    """
    leaves = jax.tree.leaves(tree)
    if jax.process_count() == 1 or not all(leaf.is_fully_addressable for leaf in leaves):
        return jax.device_put(tree, shardings)
    is_key = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key), tree)
    tree = jax.tree.map(lambda x, key: jax.random.key_data(x) if key else x, tree, is_key)
    tree = jax.tree.map(
        lambda x, sharding: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]),
        multihost_utils.broadcast_one_to_all(tree),
        shardings,
    )
    return jax.tree.map(lambda x, key: jax.random.wrap_key_data(x) if key else x, tree, is_key)
