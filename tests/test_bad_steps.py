"""Steps that are not finite: they change nothing, are counted and named, and too many stop the run."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

import flowjax_glow as fg
from experiments.configs import default, moons_spline
from flowjax_glow import models
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.sharding import make_mesh
from flowjax_glow.training import loop
from flowjax_glow.training.bad_steps import BadSteps, NonFiniteError
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.drivers import make_driver
from flowjax_glow.training.experiment import abstract_state, build
from flowjax_glow.training.metrics import read_metrics
from flowjax_glow.training.optimizers import make_optimizer
from flowjax_glow.training.state import init_state
from flowjax_glow.training.step import make_train_step, tensors

pytestmark = pytest.mark.usefixtures("optax_promotes")

KEY = jax.random.key(0)
VECTORS = fg.uniform_dequantizer(n_bins=None)
X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
FLOW = fg.Flow(fg.affine_coupling(partial(MLP, width=32)), fg.standard_normal(), (4,))
GOOD = {"example": X, "label": np.zeros(8, np.int32)}
# One number of one example on one device.
BAD = {**GOOD, "example": np.where(np.arange(32).reshape(8, 4) == 29, np.nan, X).astype(np.float32)}


def kept(state):
    """What a bad step leaves alone, as bits."""
    return jax.tree.map(np.array, (state.params, state.opt_state, state.average))


def check_same_bits(found, expected):
    jax.tree.map(np.testing.assert_array_equal, kept(found), expected)


def counts(state):
    return int(state.step), int(state.bad_steps), int(state.bad_in_a_row)


@pytest.mark.parametrize(
    ("driver", "fsdp", "per_call"),
    [
        ("shard_map", 1, 1),
        ("shard_map", 2, 2),
        ("pmap", 1, 1),
        ("pmap", 1, 2),
        ("jit", 1, 2),
        ("jit", 2, 1),
    ],
)
def test_a_bad_batch_changes_nothing_but_the_counts(driver, fsdp, per_call):
    optimizer = make_optimizer(default.get_config().optimizer, steps=10**6, batch_size=8)
    step = make_train_step(FLOW, optimizer, dequantizer=VECTORS)
    run = make_driver(driver, step, make_mesh(fsdp))
    params = {"flow": fg.init(FLOW, KEY, jnp.asarray(X)), "dequantizer": {}}
    state = run.put_state(init_state(params, optimizer, KEY))
    names = tensors(state)

    def call(state, batch):
        return run.steps(state, run.put_batches([batch] * per_call))

    state, metrics = call(state, GOOD)
    assert metrics["finite"].shape == (len(names),)
    assert metrics["finite"].all()
    before = kept(state)
    for calls in (1, 2):
        state, metrics = call(state, BAD)
        check_same_bits(state, before)
        assert counts(state) == ((1 + calls) * per_call, calls * per_call, calls * per_call)
        assert int(metrics["bad_steps"]) == int(metrics["bad_in_a_row"]) == calls * per_call
        bad = {name for name, is_finite in zip(names, metrics["finite"], strict=True) if not is_finite}
        assert {"loss", "grad_norm", "gradient/flow/Dense_0/kernel"} <= bad
    state, metrics = call(state, GOOD)
    assert counts(state) == (4 * per_call, 2 * per_call, 0)
    assert math.isfinite(metrics["nats"])
    moved = jax.tree.map(lambda a, b: np.any(a != b), kept(state), before)
    assert all(any(jax.tree.leaves(tree)) for tree in moved)
    if per_call == 2:  # what happened inside a call is not forgotten at its end
        state, metrics = run.steps(state, run.put_batches([BAD, GOOD]))
        assert counts(state)[2] == 0
        assert int(metrics["bad_in_a_row"]) == 1
        assert not metrics["finite"].all()
        assert math.isfinite(metrics["nats"])


PARAMS = {"flow": {"a": jnp.ones((3, 2)), "b": jnp.ones(2), "signs": jnp.ones(2, jnp.int32)}}
SMALL = {"flow": {"a": jnp.full((3, 2), 0.1), "b": jnp.full(2, 0.1), "signs": None}}


def with_b(value):
    return {"flow": {**SMALL["flow"], "b": jnp.asarray([0.1, value], jnp.float32)}}


@pytest.mark.parametrize(
    ("loss", "grads", "rate", "bad"),
    [
        (math.nan, SMALL, 0.1, ["loss"]),
        (math.inf, SMALL, 0.1, ["loss"]),
        (1.0, with_b(math.inf), 0.1, ["grad_norm", "gradient/flow/b", "update/flow/b"]),
        (1.0, with_b(-math.inf), 0.1, ["grad_norm", "gradient/flow/b", "update/flow/b"]),
        (1.0, with_b(math.nan), 0.1, ["grad_norm", "gradient/flow/b", "update/flow/b"]),
        # Finite, but no norm can be taken of it.
        (1.0, with_b(1e30), 0.1, ["grad_norm", "gradient/flow/b", "update/flow/b"]),
        # A finite gradient whose step overflows.
        (1.0, SMALL, 1e38, ["update/flow/a", "update/flow/b"]),
        (1.0, SMALL, math.nan, ["update/flow/a", "update/flow/b"]),
        (1.0, with_b(1e15), 0.1, []),
    ],
)
def test_what_is_not_finite_is_named(loss, grads, rate, bad):
    optimizer = optax.sgd(rate, momentum=0.9)
    step = make_train_step(FLOW, optimizer, dequantizer=VECTORS)
    state = init_state(PARAMS, optimizer, KEY)
    after, metrics = jax.jit(step.update)(state, jnp.asarray(loss), grads)
    pairs = zip(tensors(state), metrics["finite"], strict=True)
    assert [name for name, is_finite in pairs if not is_finite] == bad
    if bad:
        check_same_bits(after, kept(state))
        assert counts(after) == (1, 1, 1)
    else:
        assert counts(after) == (1, 0, 0)
        assert jnp.all(after.params["flow"]["b"] < 1)


@pytest.mark.parametrize("name", ["adam", "adamax", "rmsprop"])
@pytest.mark.parametrize(("clip_norm", "scale"), [(50.0, 1.0), (50.0, 1e4), (math.inf, 1e4)])
def test_no_gradient_takes_what_is_not_finite_into_the_state(name, clip_norm, scale):
    config = default.get_config().optimizer
    config.update(name=name, clip_norm=clip_norm, gradient_scale=scale, warmup_examples=0)
    optimizer = make_optimizer(config, steps=10**6, batch_size=8)
    step = make_train_step(FLOW, optimizer, dequantizer=VECTORS)
    small = [0.0, 1e-45, 1e-38, 1e-20, 1.0, 1e5, 1e12, 1e15]
    large = [1e16, 1e18, 1.8e19, 1.9e19, 1e22, 1e30, 3e38, math.inf, -math.inf, math.nan]

    def two(value):
        state = init_state(PARAMS, optimizer, KEY)
        first, _ = step.update(state, jnp.ones(()), with_b(value))
        return state, first, step.update(first, jnp.ones(()), SMALL)[0]

    state, first, second = jax.vmap(two)(jnp.asarray(small + large))
    for after in (first, second):
        for leaf in jax.tree.leaves(kept(after)):
            assert np.isfinite(leaf).all()
    is_bad = np.asarray(first.bad_steps) == 1
    same = jax.tree.map(lambda a, b: (a == b).reshape(len(a), -1).all(1), kept(first), kept(state))
    np.testing.assert_array_equal(np.all(jax.tree.leaves(same), axis=0), is_bad)
    assert not is_bad[: len(small)].any()
    assert is_bad[-7:].all()
    np.testing.assert_array_equal(second.bad_steps, is_bad)


def look(watch, step, row, total, finite, first=None):
    metrics = {"bad_in_a_row": row, "bad_steps": total, "finite": np.array(finite)}
    watch.look(range(step - 1 if first is None else first, step), metrics)


def test_bad_steps_are_said_now_and_then_and_in_the_end_stop_the_run():
    said = []
    watch = BadSteps(["loss", *(f"gradient/{i}" for i in range(8))], 3, said.append)
    look(watch, 1, 0, 0, [True] * 9)
    for total in range(1, 10):
        look(watch, 2 * total, 1, total, [True] * 8 + [False])
    look(watch, 30, 2, 11, [False] * 9, first=20)
    look(watch, 31, 0, 11, [True] * 9)
    assert [line.partition(":")[0] for line in said] == ["step 2", "step 4", "step 8", "step 16"]
    assert said[0] == "step 2: not finite: gradient/7; it changed nothing; such steps so far: 1"
    listed = "loss, gradient/0, gradient/1, gradient/2, gradient/3, gradient/4 and 3 more"
    with pytest.raises(NonFiniteError, match=f"^steps 31 to 40: not finite: {listed}; 3 steps in"):
        look(watch, 40, 3, 14, [False] * 9, first=30)


def coupling(event_shape, *, width):
    net = partial(MLP, width=width, depth=1)
    return fg.Flow(fg.affine_coupling(net), fg.standard_normal(), event_shape)


def test_a_run_survives_bad_steps_and_stops_at_too_many(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(models.MODELS, "coupling", coupling)
    config = moons_spline.get_config("smoke")
    config.model = ConfigDict({"name": "coupling", "width": 4})
    config.data.train_examples = 64
    config.optimizer.schedule = "constant"
    config.train.update(steps=40, eval_every=2, log_every=1, max_bad_steps=3, watch=0)
    batch_at = loop.batch_at

    def spoilt(experiment, split, step):
        batch = batch_at(experiment, split, step)
        factor = np.float32(np.nan if step in (1, 3, 4, 5) else 1.0)
        return {**batch, "example": factor * batch["example"]}

    monkeypatch.setattr(loop, "batch_at", spoilt)
    with pytest.raises(NonFiniteError, match=r"^step 6: not finite: loss, grad_norm, gradient/flow/"):
        loop.train(loop.set_up(config, str(tmp_path)))
    steps = [r for r in read_metrics(tmp_path) if "bad_steps" in r]
    found = [(r["step"], "nats" in r, r["bad_steps"]) for r in steps]
    assert found == [(1, True, 0), (2, False, 1), (3, True, 1), (4, False, 2), (5, False, 3)]
    assert "step 2: not finite: loss, grad_norm, gradient/flow/" in capsys.readouterr().out
    like = abstract_state(build(config))
    with Checkpoints(tmp_path / "checkpoints", create=False) as checkpoints:
        assert checkpoints.latest_step == 4
        state = checkpoints.restore(4, like)
    assert counts(state) == (4, 2, 1)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept(state)))

    # The row goes on where the checkpoint left it, and so it stops at the same step.
    with pytest.raises(NonFiniteError, match=r"^step 6: .*; 3 steps in a row changed nothing"):
        loop.train(loop.set_up(config, str(tmp_path)))
    config.train.max_bad_steps, config.train.steps = 4, 7
    state = loop.train(loop.set_up(config, str(tmp_path)))
    assert counts(state) == (7, 4, 0)
