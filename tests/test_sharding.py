"""Devices: every driver takes the same steps, on any mesh, and few messages pass between devices."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import perturb
from configs import tiny
from jax.sharding import PartitionSpec

import flowjax_glow as fg
from flowjax_glow.data.split import Split
from flowjax_glow.evaluation import likelihood
from flowjax_glow.sharding import fsdp_shardings, fsdp_specs, make_mesh, put_state, shard_batch
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.drivers import check_devices, make_driver
from flowjax_glow.training.state import init_state
from flowjax_glow.training.step import make_train_step

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(17, size=(2, 16, 4, 4, 1)).astype(np.uint8)
BATCHES = [{"example": images, "label": np.zeros(16, np.int32)} for images in IMAGES]
FLOW = fg.glow((4, 4, 1), levels=1, depth=2, width=32, permutation="plu")
# Plain descent shows the gradients themselves, which Adam would hide; clipping, whether the norm is of
# all devices' parts. Momentum is a state to shard.
UNIFORM = fg.uniform_dequantizer(n_bins=17)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9))


def first_state():
    images = jnp.asarray(IMAGES[0])
    params = perturb(fg.init(FLOW, KEY, fg.dequantize(KEY, images, n_bins=17)))
    return init_state({"flow": params, "dequantizer": {}}, OPTIMIZER, KEY)


def two_steps(driver, fsdp=1, accumulate=1, per_call=1):
    """The state and the metrics of each device call."""
    step = make_train_step(FLOW, OPTIMIZER, dequantizer=UNIFORM, accumulate=accumulate)
    run = make_driver(driver, step, make_mesh(fsdp))
    state, metrics = run.put_state(first_state()), []
    for start in range(0, 2, per_call):
        state, values = run.steps(state, run.put_batches(BATCHES[start : start + per_call]))
        metrics.append(numbers(values))
    return state, metrics


def numbers(metrics):
    assert metrics["finite"].all()
    return {name: float(value) for name, value in metrics.items() if name != "finite"}


def two_steps_alone():
    """The same on one device, by hand."""
    step = make_train_step(FLOW, OPTIMIZER, dequantizer=UNIFORM)
    state, metrics = first_state(), []
    gradients, update = jax.jit(step.gradients), jax.jit(step.update)
    for batch in BATCHES:
        loss, grads = gradients(state.params, jax.random.fold_in(state.key, state.step), batch)
        state, values = update(state, loss, grads)
        metrics.append(numbers(values))
    return state, metrics


def check_equal(found, expected):
    """Sums in float32 in another order: 1e-5, also absolute, where a gradient cancels to nothing."""
    (state, metrics), (state_alone, metrics_alone) = found, expected
    for values, alone in zip(metrics[::-1], metrics_alone[::-1], strict=False):
        assert values == pytest.approx(alone, rel=1e-5)
    assert int(state.step) == 2
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    for name in ("params", "opt_state", "average"):
        jax.tree.map(close, getattr(state, name), getattr(state_alone, name))
    assert jnp.array_equal(jax.random.key_data(state.key), jax.random.key_data(KEY))


@pytest.fixture(scope="module")
def alone():
    return two_steps_alone()


@pytest.mark.parametrize(
    "how",
    [
        {"driver": "shard_map"},
        {"driver": "shard_map", "fsdp": 2, "accumulate": 4},
        {"driver": "shard_map", "fsdp": 2, "per_call": 2},
        {"driver": "pmap", "accumulate": 2},
        {"driver": "pmap", "per_call": 2},
        {"driver": "jit", "accumulate": 2},
        {"driver": "jit", "fsdp": 2, "per_call": 2},
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_every_driver_takes_the_same_steps(how, alone):
    found = two_steps(**how)
    check_equal(found, alone)
    assert len(found[1]) == 2 // how.get("per_call", 1)
    split = [x for x in jax.tree.leaves(found[0]) if not x.sharding.is_fully_replicated]
    # Weights of the convolutions inside the nets, with their momentum and average, and nothing small.
    assert (len(split) > 0) == ("fsdp" in how)
    assert all(x.size >= 1024 for x in split)


_EIGHT = """
from test_sharding import check_equal, jax, two_steps, two_steps_alone
assert jax.device_count() == 8
alone = two_steps_alone()
for driver, fsdp in (("shard_map", 1), ("shard_map", 4), ("pmap", 1), ("jit", 2)):
    check_equal(two_steps(driver, fsdp, accumulate=2), alone)
"""


@pytest.mark.slow
def test_on_eight_devices_too():
    subprocess.run(
        [sys.executable, "-c", _EIGHT],
        cwd=Path(__file__).parent,
        env=_environment(8),
        check=True,
        timeout=200,
    )


def _environment(devices):
    return {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


def _collectives(driver, fsdp):
    """(name, whether it is outside every loop) of each collective of the compiled step."""
    step = make_train_step(FLOW, OPTIMIZER, dequantizer=UNIFORM, accumulate=2)
    run = make_driver(driver, step, make_mesh(fsdp))
    lowered = jax.jit(run.steps).lower(run.put_state(first_state()), run.put_batches(BATCHES[:1]))
    text = str(lowered.compile().as_text())
    bodies = set(re.findall(r" while\(.* body=(%[\w.-]+)", text))
    assert bodies
    found, computation = [], ""
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            computation = line.split()[0]
        name = re.search(r" (all-reduce|all-gather|reduce-scatter|all-to-all)(-start)?\(", line)
        if name:
            found.append((name.group(1), computation not in bodies))
    return sorted(found)


def test_gradients_are_summed_once_and_outside_the_loops():
    assert _collectives("shard_map", fsdp=1) == [("all-reduce", True)]
    # The all-reduces are of split gradients over "data", of whole ones, of the sums of squares that say
    # whether gradients and updates are finite, and of the clipping's norm where the state is written.
    found = _collectives("shard_map", fsdp=2)
    assert all(outside for _, outside in found)
    names = [name for name, _ in found]
    assert names == ["all-gather", *["all-reduce"] * (len(names) - 2), "reduce-scatter"]
    assert len(names) <= 6


@pytest.mark.parametrize("driver", ["shard_map", "jit"])
def test_a_call_donates_its_state_and_waits_for_nothing_from_the_host(driver):
    step = make_train_step(FLOW, OPTIMIZER, dequantizer=UNIFORM)
    run = make_driver(driver, step, make_mesh())
    given = first_state()
    first = run.put_state(given)
    second, _ = run.steps(first, run.put_batches(BATCHES[:1]))
    batches = run.put_batches(BATCHES[1:])
    with jax.transfer_guard("disallow"):
        third, _ = run.steps(second, batches)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((first, second)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((given, third)))


@pytest.mark.parametrize(
    ("shape", "dtype", "fsdp", "spec"),
    [
        ((64, 32), "float32", 2, PartitionSpec("fsdp")),
        ((32, 64), "float32", 2, PartitionSpec(None, "fsdp")),
        ((8, 3, 3, 48, 48), "float32", 2, PartitionSpec(None, None, None, None, "fsdp")),
        ((64, 33), "float32", 2, PartitionSpec("fsdp")),
        ((64, 32), "float32", 1, PartitionSpec()),
        ((33, 65), "float32", 2, PartitionSpec()),
        ((16, 16), "float32", 2, PartitionSpec()),
        ((64, 32), "int32", 2, PartitionSpec()),
        ((), "float32", 2, PartitionSpec()),
    ],
)
def test_a_state_is_split_along_its_largest_axes(shape, dtype, fsdp, spec):
    assert fsdp_specs(jax.ShapeDtypeStruct(shape, dtype), make_mesh(fsdp)) == spec


def test_a_checkpoint_fits_every_mesh(tmp_path):
    state = first_state()
    split = put_state(state, make_mesh(2))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(split, 1.0)
        checkpoints.save(state._replace(step=jnp.asarray(1)), 2.0)
    with Checkpoints(tmp_path / "checkpoints", create=False) as checkpoints:
        back = state
        for saved in (0, 1):
            for shardings in (None, *(partial(fsdp_shardings, mesh=make_mesh(n)) for n in (1, 2))):
                back = checkpoints.restore(saved, state, shardings)
                jax.tree.map(np.testing.assert_array_equal, back.params, state.params)
                jax.tree.map(np.testing.assert_array_equal, back.opt_state, state.opt_state)
    # The last was onto fsdp=2: it lies as training wants it.
    assert _lies(back) == _lies(split._replace(step=back.step))


def _lies(state):
    return [leaf.sharding.spec for leaf in jax.tree.leaves(state._replace(key=None))]


def test_the_mesh_does_not_change_what_an_evaluation_finds():
    split = Split(IMAGES.reshape(-1, 4, 4, 1)[:31], np.zeros(31, np.int32))
    params = first_state().params["flow"]
    run = partial(likelihood, FLOW, params, split, KEY, dequantizer=UNIFORM, batch_size=8)
    a, b = (run(mesh=make_mesh(fsdp)).values for fsdp in (1, 2))
    assert a.shape == (1, 31)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parallel.fsdp": 3}, "parallel.fsdp must divide the 2 devices; got 3; take one of [1, 2]"),
        ({"parallel.fsdp": 0}, "parallel.fsdp must divide the 2 devices; got 0"),
        (
            {"parallel.driver": "pmapp"},
            "parallel.driver must be one of jit, pmap, shard_map; got 'pmapp'",
        ),
        (
            {"parallel.driver": "pmap", "parallel.fsdp": 2},
            "parallel.fsdp must be 1 with parallel.driver = pmap; got 2",
        ),
        ({"train.batch_size": 7}, "train.batch_size must be divisible by the 2 devices; got 7"),
        (
            {"train.accumulate": 3},
            "divisible by the 2 devices times train.accumulate = 3; got 8",
        ),
        ({"train.accumulate": 0}, "train.accumulate must be at least 1; got 0"),
        ({"train.steps_per_call": 0}, "train.steps_per_call must be at least 1; got 0"),
        (
            {"train.steps_per_call": 2},
            "train.log_every must be divisible by train.steps_per_call = 2; got 1",
        ),
        (
            {"train.steps_per_call": 2, "train.log_every": 2, "train.steps": 5},
            "train.steps must be divisible by train.steps_per_call = 2; got 5",
        ),
    ],
)
def test_what_the_devices_cannot_do_is_refused(fields, message, tmp_path):
    config = tiny(tmp_path)
    config.update_from_flattened_dict(fields)
    with pytest.raises(ValueError, match=re.escape(message)):
        check_devices(config)


def test_a_batch_that_the_devices_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="divisible by the 2 devices; got 3"):
        shard_batch(np.zeros((3, 2)), make_mesh())


def test_a_count_of_devices_in_the_environment_wins_over_the_cores():
    code = "from flowjax_glow.sharding import *; use_cpu_cores(); print(*make_mesh().devices.shape)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=_environment(5), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["5", "1"], done.stderr
