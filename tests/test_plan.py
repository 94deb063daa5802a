"""A run on paper: operations counted, memory as the compiler tells it, and the command."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

import flowjax_glow as fg
from benchmarks import flops
from flowjax_glow.report.devices import DEVICES, find_device
from flowjax_glow.report.flops import count, count_flops
from flowjax_glow.sharding import AXES, make_mesh
from flowjax_glow.training.plan import plan
from tests.configs import tiny

ROOT = Path(__file__).parents[1]
MATMUL = 2 * 4 * 8 * 8  # (4, 8) @ (8, 8)


def _loss(x, w):
    return jnp.sum(jnp.sin(x @ w))


def _layers(x, w, *, length):
    return jax.lax.scan(lambda x, _: (jnp.sin(x @ w), None), x, None, length=length)[0]


def _in_both(x, w):
    return jax.lax.scan(lambda x, _: (_layers(x, w, length=5), None), x, None, length=3)[0]


def _either(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w)


def _unused(x, w):
    _ = x @ w @ w
    return x @ w


def _over_devices(x, w):
    return jax.shard_map(
        jnp.matmul,
        mesh=make_mesh(),
        in_specs=(PartitionSpec(AXES), PartitionSpec()),
        out_specs=PartitionSpec(AXES),
    )(x, w)


@jax.custom_vjp
def _own_gradient(x, w):
    return x @ w


_own_gradient.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, bar: (bar @ kept[1].T, None))


def _value_and_grad(fn):
    return jax.value_and_grad(lambda *args: jnp.sum(fn(*args)), argnums=(0, 1))


@pytest.mark.parametrize(
    ("fn", "products"),
    [
        (jnp.matmul, 1),
        (lambda x, w: jnp.einsum("ij,jk->ki", x, w), 1),
        (jax.jit(jnp.matmul), 1),
        (lambda x, w: jax.vmap(jnp.matmul, in_axes=(None, 0))(x, jnp.stack([w] * 6)), 6),
        (lambda x, w: jax.vmap(lambda row: row @ w)(x), 1),
        (functools.partial(_layers, length=5), 5),
        (_in_both, 15),
        (_either, 2),
        (_unused, 1),
        (_over_devices, 1),
        (_value_and_grad(jnp.matmul), 3),
        (jax.grad(_loss, argnums=1), 2),
        (_value_and_grad(functools.partial(_layers, length=5)), 15),
        (_value_and_grad(jax.checkpoint(_loss)), 4),
        (jax.value_and_grad(lambda x, w: jnp.sum(_own_gradient(x, w))), 2),
    ],
    ids=[
        *("matmul", "einsum", "jit", "vmap", "vmap of rows", "scan", "scan in a scan", "cond"),
        *("unused", "shard_map", "both gradients", "one gradient", "gradients of a scan", "checkpoint"),
        "custom_vjp",
    ],
)  # fmt: skip
def test_products_are_counted(fn, products):
    shapes = jax.ShapeDtypeStruct((4, 8), jnp.float32), jax.ShapeDtypeStruct((8, 8), jnp.float32)
    assert count_flops(fn, *shapes) == products * MATMUL
    assert not count(fn, *shapes).at_least


@pytest.mark.parametrize("groups", [1, 3])
def test_a_convolution_is_its_taps_at_every_position(groups):
    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip

    x, kernel = jnp.ones((2, 5, 4, 3)), jnp.ones((3, 3, 3 // groups, 6))
    assert count_flops(conv, x, kernel) == 2 * (2 * 5 * 4 * 6) * (3 * 3 * 3 // groups)


def test_a_loop_of_unknown_length_is_counted_once_and_said():
    def loop(x, w):
        return jax.lax.while_loop(lambda x: jnp.sum(x) < 1, lambda x: x @ w, x)

    assert count(loop, jnp.ones((4, 8)), jnp.ones((8, 8))) == (MATMUL, MATMUL, True)


def _cost(program: Any) -> float:
    return program.cost_analysis()["flops"]


def test_xla_counts_the_body_of_a_loop_once():
    # Or the extrapolation of the plan would be wrong.
    def compilers(length):
        fn = functools.partial(_layers, length=length)
        assert count(fn, x, w)[:2] == (length * MATMUL, MATMUL)
        return _cost(jax.jit(fn).lower(x, w).compile())

    x, w = jnp.ones((4, 8)), jnp.ones((8, 8))
    assert MATMUL <= compilers(5) == compilers(50) < 1.1 * MATMUL


def _glow(*, size, batch, **hyperparameters):
    flow = fg.glow((size, size, 3), **hyperparameters)
    x = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    params = jax.eval_shape(functools.partial(fg.init, flow), jax.random.key(0), x)
    return functools.partial(fg.log_prob, flow), params, x


SMALL = {"size": 16, "levels": 2, "depth": 3, "width": 128, "batch": 8}
FULL = {"size": 32, "levels": 3, "depth": 32, "width": 512, "batch": 1}


def test_the_operations_of_glow_are_those_of_its_sizes():
    by_hand = flops.total(flops.glow_products(**SMALL), training=False)
    # By hand the product with a diagonal after the last convolution is left out.
    counted = count(*_glow(**SMALL))
    assert by_hand <= counted.flops < 1.02 * by_hand
    # Nor is what is no product counted, one operation in 20 at this width.
    log_prob, *arguments = _glow(**SMALL)
    assert counted.once < _cost(jax.jit(log_prob).lower(*arguments)) < 1.1 * counted.once


def test_fullsize_glow_takes_the_papers_operations():
    # Of an image, forward; a multiplication and an addition are two. The released net has 8.13e9.
    by_hand = flops.total(flops.glow_products(**FULL), training=False)
    assert count_flops(*_glow(**FULL)) == pytest.approx(8.13e9, rel=1e-3)
    assert by_hand == pytest.approx(8.13e9, rel=2e-3)


@pytest.mark.parametrize(("memory", "forwards"), [("stored", 3), ("recompute", 4), ("constant", 4)])
def test_what_a_memory_mode_computes_again_is_counted(memory, forwards):
    log_prob, params, x = _glow(memory=memory, **SMALL)
    gradients = jax.value_and_grad(lambda params, x: jnp.mean(log_prob(params, x)))
    forward = count_flops(log_prob, params, x)
    # Nobody wants the gradient of the images, which spares a product; W's derivatives are more of them.
    assert count_flops(gradients, params, x) == pytest.approx(forwards * forward, rel=0.05)


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Of a narrow and a wide model, and of the wide one with its state split over both devices."""

    def of(width, fsdp=1):
        config = tiny(tmp_path_factory.getbasetemp(), batch_size=8)
        config.model.width, config.parallel.fsdp = width, fsdp
        return plan(config, find_device("h100"), fraction=0.5)

    with jax.numpy_dtype_promotion("standard"):  # for optax
        return of(4), of(64), of(64, fsdp=2)


def test_memory_grows_with_width(plans):
    for field in ("params_memory", "optimizer_memory", "average_memory", "temporary_memory", "memory"):
        narrow, wide, _ = (record[field] for record in plans)
        assert 0 < narrow < wide


def test_a_state_takes_its_arrays(plans):
    record = plans[1]
    floats = 4 * record["parameters"]
    # Constants are among the params, and a few counts in the optimizer's state.
    assert record["average_memory"] == floats
    assert floats <= record["params_memory"] < 1.05 * floats
    assert 2 * floats <= record["optimizer_memory"] < 2.05 * floats
    # Images, labels, the step, the key, and the metrics that come out.
    assert 4 * (8 * 8 * 1 + 4) <= record["batch_memory"] < 4096


def test_fsdp_splits_what_is_large(plans):
    _, whole, split = plans
    for field in ("params_memory", "optimizer_memory", "average_memory"):
        assert 0.5 * whole[field] < split[field] < 0.7 * whole[field]


def test_days_are_work_over_speed(plans):
    record = plans[1]
    assert record["devices"] == 2
    speed = 2 * 0.5 * DEVICES["h100"].float32
    seconds = record["executed_flops_per_step"] / speed
    assert record["days"] * 86_400 == pytest.approx(4 * seconds)
    assert record["examples_per_second"] == pytest.approx(8 / seconds)
    assert record["model_flops_per_step"] == 3 * 8 * record["forward_flops_per_example"]
    # XLA counts what is no product too, which is most of so small a model.
    assert record["xla_once_flops_per_step"] > record["once_flops_per_step"]
    assert record["advice"] == []


@pytest.mark.usefixtures("optax_promotes")
def test_what_does_not_fit_is_told_how(tmp_path):
    config = tiny(tmp_path, batch_size=2**26)
    config.model.width, config.optimizer.warmup_examples = 16, 0
    record = plan(config, find_device("tpu-v5e"))
    assert record["memory"] > record["device_memory"] == 16 * 2**30
    said = " ".join(record["advice"])
    for override in ("model.memory=constant", "train.accumulate=", "parallel.fsdp=2"):
        assert f"--config.{override}" in said


def test_what_cannot_be_planned_is_refused(tmp_path):
    config = tiny(tmp_path)
    with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\]; got 1.5"):
        plan(config, find_device("a100"), fraction=1.5)
    config.model.dtype = "float16"
    with pytest.raises(ValueError, match="dtype must be float32 or bfloat16 to plan with; got float16"):
        plan(config, find_device("a100"))


def _run(*options: str, expect: int = 0, env: dict[str, str] | None = None):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.plan", CONFIG, *options],
        capture_output=True, text=True, cwd=ROOT, timeout=280, env=os.environ | (env or {}),
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


CONFIG = "--config=experiments/configs/glow_digits.py:smoke"


def test_the_command_prints_a_table_or_json(tmp_path):
    options = "--device=h100", "--count=4", "--config.model.levels=1", "--config.model.depth=1"
    env = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    printed = _run(*options, env=env | {"COLUMNS": "160"}).stdout
    for row in (
        "parameters",
        "executed FLOPs",
        "the same by XLA",
        "memory, a device",
        "days to 4 steps",
    ):
        assert row in printed
    record = json.loads(_run(*options, "--json", env=env).stdout)
    assert record["devices"] == 4
    # The second run found the program compiled, and has the same account of its memory.
    for value in (f"{record['parameters']:,}", f"{record['temporary_memory'] / 2**10:,.2f} KiB"):
        assert value in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device=abacus"], "device must be one of a100, h100"),
        (["--count=3"], "train.batch_size must be divisible by the 3 devices; got 8"),
    ],
)
def test_a_mistake_ends_with_one_line(options, message):
    done = _run(*options, expect=2)
    assert message in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
