"""What the workers on JAX share, ours among them: devices, the Adam step, sampling, the fit to moons.

Every task is tried on one device, whose operations may use all threads, and with the batch split over
one virtual device a core; on moons also with 100 steps a call. The fastest is kept, for each library.
"""

import functools
import math
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks.peers import data
from benchmarks.peers.protocol import Make, Run, Worker

AXIS = "data"
Built = tuple[Run, dict[str, Any]]
CHUNK = 100  # steps a call, where a step is so short that the call would count

# XLA on a CPU waits for ever in an all-reduce where more than 32 calls are under way on 2 cores.
IN_FLIGHT = 8


class Model(NamedTuple):
    """A flow as functions of its trained parameters.

    log_prob: (params, x) -> (batch,), nats. draw: (params, key, num) -> x. prepare: what a caller that
    samples many times may compute once.
    """

    params: Any
    log_prob: Callable[[Any, jax.Array], jax.Array]
    draw: Callable[[Any, jax.Array, int], jax.Array]
    prepare: Callable[[Any], Any] = lambda params: params


def use_devices(options: dict[str, Any]) -> None:
    """On a CPU, makes as many virtual devices as the batch can be split over; before any is used."""
    jax.config.update("jax_num_cpu_devices", math.gcd(options["batch"], options["threads"]))


def mesh(devices: int) -> Mesh:
    """The first so many devices, along one axis."""
    return jax.make_mesh(
        (devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def place(tree: Any, devices: Mesh, *spec: Any) -> Any:
    """A copy of a tree on the mesh, replicated unless spec splits it."""
    return jax.device_put(jax.tree.map(jnp.array, tree), NamedSharding(devices, PartitionSpec(*spec)))


def adam_step(log_prob, optimizer):
    """(state, x) -> (state, loss) on one device of the mesh.

    Loss and gradients travel as one vector: devices wait for each other at every array.
    """

    def loss(params, x):
        return -jnp.mean(log_prob(params, x))

    def step(state, x):
        params, moments = state
        flat, unravel = ravel_pytree(jax.value_and_grad(loss)(params, x))
        value, gradients = unravel(jax.lax.pmean(flat, AXIS))
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    return step


def train_step(model: Model, devices: Mesh, learning_rate: float, *, chunk: int = 0):
    """The jitted data-parallel step; with a chunk, of (chunk, batch, ...) examples in a scan."""
    step = adam_step(model.log_prob, optax.adam(learning_rate))
    split = PartitionSpec(None, AXIS) if chunk else PartitionSpec(AXIS)
    many = (lambda state, xs: jax.lax.scan(step, state, xs)) if chunk else step
    replicated = PartitionSpec()
    return jax.jit(
        jax.shard_map(
            many,
            mesh=devices,
            in_specs=(replicated, split),
            out_specs=(replicated, replicated),
            check_vma=False,
        ),
        donate_argnums=0,
    )


def initial_state(model: Model, devices: Mesh, learning_rate: float):
    """(params, moments), replicated."""
    return place((model.params, optax.adam(learning_rate).init(model.params)), devices)


def _train(model: Model, x, devices: Mesh, learning_rate: float) -> Built:
    state, batch = initial_state(model, devices, learning_rate), place(x, devices, AXIS)
    step, info = compiled(train_step(model, devices, learning_rate), state, batch)

    def run(steps: int) -> None:
        nonlocal state
        for i in range(steps):
            state, loss = step(state, batch)
            if i % IN_FLIGHT == 0:
                jax.block_until_ready(loss)
        jax.block_until_ready((state, loss))

    return run, info


def _log_prob(model: Model, x, devices: Mesh) -> Built:
    params, batch = place(model.params, devices), place(x, devices, AXIS)
    specs = (PartitionSpec(), PartitionSpec(AXIS))
    fn = jax.shard_map(
        model.log_prob, mesh=devices, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
    )
    return _calls(jax.jit(fn), params, batch)


def _draw(model: Model, num: int, devices: Mesh) -> Built:
    params = place(jax.jit(model.prepare)(model.params), devices)
    count = devices.devices.size

    def draw(params, key):
        key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
        return model.draw(params, key, num // count)

    specs = (PartitionSpec(), PartitionSpec())
    fn = jax.shard_map(
        draw, mesh=devices, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
    )
    key = place(jax.random.key(0), devices)
    return _calls(jax.jit(fn), params, key)


def _calls(jitted, *arguments) -> Built:
    fn, info = compiled(jitted, *arguments)

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(fn(*arguments))

    return run, info


def compiled(jitted, *arguments):
    """(the compiled function, {"trace_s", "xla_s", "temp_bytes"} of it)."""
    start = time.perf_counter()
    lowered = jitted.lower(*arguments)
    middle = time.perf_counter()
    fn = lowered.compile()
    info = {"trace_s": middle - start, "xla_s": time.perf_counter() - middle}
    memory = fn.memory_analysis()
    return fn, info | ({"temp_bytes": memory.temp_size_in_bytes} if memory else {})


def _by_devices(make: Callable[[Mesh], Built], most: int) -> dict[str, Make]:
    """One setting a number of devices, all of them first."""
    return {devices_name(n): functools.partial(lambda n: make(mesh(n)), n) for n in {most, 1}}


def devices_name(devices: int) -> str:
    """The setting's name."""
    return "1 device" if devices == 1 else f"{devices} devices"


def count_parameters(params: Any) -> int:
    """The number of trained parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def glow_worker(
    make: Callable[[jax.Array], Model],
    options: dict[str, Any],
    packages: tuple[str, ...],
    notes: str = "",
) -> Worker:
    """The tasks train, log_prob, sample and sample1 of an image flow; make: of a batch, NHWC."""
    use_devices(options)
    x = data.images(options["batch"], options["size"])
    model = make(jnp.asarray(x))
    most, rate = jax.device_count(), options["learning_rate"]
    return Worker(
        tasks={
            "train": _by_devices(lambda m: _train(model, x, m, rate), most),
            "log_prob": _by_devices(lambda m: _log_prob(model, x, m), most),
            "sample": _by_devices(lambda m: _draw(model, options["batch"], m), most),
            "sample1": _by_devices(lambda m: _draw(model, 1, m), 1),
        },
        calls={"parameters": lambda: count_parameters(model.params)},
        packages=("jax", "jaxlib", "optax", *packages),
        notes=notes,
    )


def moons_worker(
    make: Callable[[int, jax.Array], Model],
    options: dict[str, Any],
    packages: tuple[str, ...],
    notes: str = "",
) -> Worker:
    """The task train of a flow on moons, and the call fit: the held-out NLL after so many steps.

    make: of a seed and a batch; only params may depend on either.
    """
    use_devices(options)
    batch, rate = options["batch"], options["learning_rate"]
    steps_by_name: dict[str, Any] = {}
    model = make(0, jnp.asarray(data.moons(batch, 0)))

    def compile_step(name, devices, chunk):
        shape = (chunk, batch, 2) if chunk else (batch, 2)
        spec = (None, AXIS) if chunk else (AXIS,)
        state = initial_state(model, devices, rate)
        x = place(jnp.zeros(shape), devices, *spec)
        step, info = compiled(train_step(model, devices, rate, chunk=chunk), state, x)
        steps_by_name[name] = (step, devices, chunk)
        return info

    def runner(name, model, seed, steps):
        step, devices, chunk = steps_by_name[name]
        points = data.moons(steps * batch, seed).reshape(-1, *((chunk,) if chunk else ()), batch, 2)
        spec = (None, AXIS) if chunk else (AXIS,)
        batches = [place(x, devices, *spec) for x in points]
        state, done = initial_state(model, devices, rate), 0

        def run(steps: int) -> Any:
            nonlocal state, done
            for _ in range(max(1, steps // chunk) if chunk else steps):
                state, loss = step(state, batches[done % len(batches)])
                done += 1
                if done % IN_FLIGHT == 0:
                    jax.block_until_ready(loss)
            return jax.block_until_ready(state)

        return run

    def setting(name, devices, chunk):
        info = compile_step(name, mesh(devices), chunk)
        return runner(name, model, 0, 2 * CHUNK), info

    def fit(seed, steps, setting):
        fresh = make(seed, jnp.asarray(data.moons(batch, seed)))
        params, _ = runner(setting, fresh, seed, steps)(steps)
        test = jnp.asarray(data.moons(options["test"], options["test_seed"]))
        return float(-jnp.mean(jax.jit(model.log_prob)(jax.device_get(params), test)))

    settings = {
        devices_name(n) + (f", {chunk} steps a call" if chunk else ""): (n, chunk)
        for n in {1, jax.device_count()}
        for chunk in (CHUNK, 0)
    }
    return Worker(
        tasks={"train": {n: functools.partial(setting, n, *s) for n, s in settings.items()}},
        calls={"fit": fit, "parameters": lambda: count_parameters(model.params)},
        packages=("jax", "jaxlib", "optax", *packages),
        notes=notes,
    )


def threads() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
