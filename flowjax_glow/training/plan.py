"""What a run would take on an accelerator, on paper: work, memory and days; nothing is run.

The work is counted from the jaxpr of the step's gradients, memory is the account of the compiler for
the CPU, and a day is what a stated fraction of the vendor's peak does in it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flowjax_glow.flow import count_parameters
from flowjax_glow.report.devices import Device
from flowjax_glow.report.flops import Count, count
from flowjax_glow.sharding import AXES, fsdp_shardings
from flowjax_glow.training.checks import check_config
from flowjax_glow.training.config import Config
from flowjax_glow.training.drivers import check_devices, make_driver
from flowjax_glow.training.experiment import Experiment, abstract_state, build, train_step
from flowjax_glow.training.state import TrainState
from flowjax_glow.training.step import TrainStep

_DAY = 86_400
# Of a GPU's memory JAX takes this share unless told otherwise ($XLA_CLIENT_MEM_FRACTION).
_USABLE = 0.75


def plan(
    config: Config,
    device: Device,
    *,
    fraction: float = 0.4,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The record of a plan: one flat JSON object, in operations, bytes, seconds and days.

    Of as many of the accelerators as this process has devices, which must be CPUs: the step is
    compiled for them, so that each gets its share of the batch and, with fsdp, of the state. Nothing
    is allocated on them.

    model_flops_per_step is three times the forward pass, what utilisation is usually stated in;
    executed_flops_per_step has what the memory mode computes again. at_least: whether a loop of
    unknown length makes both lower bounds. xla_once_flops_per_step is XLA's cost analysis, of all
    operations but with each loop's body once, and once_flops_per_step ours in that way;
    xla_flops_per_step is XLA's, extrapolated by the ratio that the loops make in ours.

    Args:
      device: what to plan for. fraction: of its peak that is reached, in executed operations.
      report: is told what takes long, once all is checked.

    Raises:
      ValueError: for a config that cannot be, on so many devices, or a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1]; got {fraction}")
    check_config(config)
    peak, computed_in = _peak(config, device)
    experiment, mesh = build(config), check_devices(config)
    train, devices = config.train, mesh.size
    step = train_step(experiment)
    state = abstract_state(experiment)
    if report is not None:
        report("compiling the training step for CPUs; a large one takes minutes")
    forward, executed, by_xla = _count(experiment, step, state, train.batch_size // devices)
    flops = devices * executed.flops
    seconds = flops / (fraction * peak * devices)
    record = {
        "model": config.model.name,
        "data_set": config.data.name,
        "event_shape": list(experiment.flow.event_shape),
        "device": device.name,
        "devices": devices,
        "source": device.source,
        "computed_in": computed_in,
        "peak_flops_per_second": peak,
        "fraction": fraction,
        "batch_size": train.batch_size,
        "steps": train.steps,
        "parameters": count_parameters(state.params),
        "forward_flops_per_example": devices * forward.flops / train.batch_size,
        "model_flops_per_step": 3 * devices * forward.flops,
        "executed_flops_per_step": flops,
        "at_least": executed.at_least,
        "once_flops_per_step": devices * executed.once,
        "xla_once_flops_per_step": devices * by_xla,
        "xla_flops_per_step": devices * by_xla * executed.flops / max(executed.once, 1),
        "seconds_per_step": seconds,
        "examples_per_second": train.batch_size / seconds,
        "days": train.steps * seconds / _DAY,
        "all_reduce_seconds": _all_reduce(state, mesh, device),
        "paper_bits_per_dim": config.paper.get("bits_per_dim"),
        "device_memory": device.memory * 2**30,
        **_memory(state, mesh, _compile(experiment, step, state, mesh)),
    }
    return record | {"advice": _advice(config, record)}


def _peak(config: Config, device: Device) -> tuple[float, str]:
    dtype = config.model.get("dtype")
    if dtype not in (None, "float32", "bfloat16"):
        raise ValueError(f"model.dtype must be float32 or bfloat16 to plan with; got {dtype}")
    if dtype == "bfloat16":
        return device.bfloat16, "bfloat16"
    return device.float32, f"float32, as {device.float32_as}"


def _batch(experiment: Experiment, *sizes: int, **options: Any) -> dict[str, Any]:
    dtype = jnp.float32 if experiment.n_bins is None else jnp.uint8
    shape = (*sizes, *experiment.flow.event_shape)
    return {
        "example": jax.ShapeDtypeStruct(shape, dtype, **options),
        "label": jax.ShapeDtypeStruct(sizes, jnp.int32, **options),
    }


class _Work(NamedTuple):
    """Of one device in a step: the loss alone, all of the gradients, and those as XLA counts them."""

    forward: Count
    executed: Count
    by_xla: float


def _count(experiment: Experiment, step: TrainStep, state: TrainState, share: int) -> _Work:
    arguments = state.params, state.key, _batch(experiment, share)
    # The backward pass is dead where only the loss is wanted.
    forward = count(lambda *of: step.gradients(*of)[0], *arguments)
    executed = count(step.gradients, *arguments)
    analysis: Any = jax.jit(step.gradients).lower(*arguments).cost_analysis()
    return _Work(forward, executed, analysis["flops"])


def _compile(experiment: Experiment, step: TrainStep, state: TrainState, mesh: Mesh) -> Any:
    """The training loop's device call, compiled for the devices of the mesh."""
    config = experiment.config
    # pmap takes other arguments, and holds on a device what shard_map does there.
    name = "shard_map" if config.parallel.driver == "pmap" else config.parallel.driver
    sharding = NamedSharding(mesh, PartitionSpec(None, AXES))
    batches = _batch(
        experiment, config.train.steps_per_call, config.train.batch_size, sharding=sharding
    )
    placed = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        fsdp_shardings(state, mesh),
    )
    steps: Any = make_driver(name, step, mesh).steps  # jitted
    return steps.lower(placed, batches).compile()


def _memory(state: TrainState, mesh: Mesh, compiled: Any) -> dict[str, int]:
    """Bytes on one device."""
    found = compiled.memory_analysis()
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    parts = {
        "params_memory": _bytes(state.params, mesh),
        "optimizer_memory": _bytes(state.opt_state, mesh),
        "average_memory": _bytes(state.average, mesh),
    }
    return parts | {
        "batch_memory": kept - sum(parts.values()),
        "temporary_memory": found.temp_size_in_bytes,
        "memory": kept + found.temp_size_in_bytes,
    }


def _bytes(tree: Any, mesh: Mesh) -> int:
    """Of a tree's part on one device."""
    leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(fsdp_shardings(tree, mesh)), strict=True)
    return sum(
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, sharding in leaves
    )


def _all_reduce(state: TrainState, mesh: Mesh, device: Device) -> float:
    """Seconds for the gradients around a ring of all devices, of which each sends 2 (n - 1) / n."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.average))
    return 2 * (mesh.size - 1) / mesh.size * size / device.ring


def _advice(config: Config, record: dict[str, Any]) -> list[str]:
    """Overrides that would make a run fit whose memory is more than a device has to give."""
    room = _USABLE * record["device_memory"]
    if record["memory"] <= room:
        return []
    advice = []
    if config.model.get("memory") in ("stored", "recompute"):
        advice.append("--config.model.memory=constant rebuilds activations, and keeps none")
    train, devices = config.train, record["devices"]
    state = record["memory"] - record["temporary_memory"]
    share = train.batch_size // (devices * train.accumulate)
    parts = [n for n in range(2, share + 1) if share % n == 0]
    if parts and state < room:
        fits = (n for n in parts if state + record["temporary_memory"] / n <= room)
        accumulate = train.accumulate * next(fits, parts[-1])
        advice.append(f"--config.train.accumulate={accumulate} takes the batch in so many parts")
    if config.parallel.fsdp < devices:
        advice.append(f"--config.parallel.fsdp={devices} splits params, optimizer state and average")
    return advice or ["more devices, or some with more memory"]
