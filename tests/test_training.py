"""Training: equal gradients on any devices, resumed runs bit for bit, clear stops."""

import json
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import perturb
from configs import tiny
from ml_collections import ConfigDict

import flowjax_glow as fg
from flowjax_glow.data.split import Split
from flowjax_glow.evaluation import likelihood, round_trip
from flowjax_glow.sharding import make_mesh
from flowjax_glow.training import loop
from flowjax_glow.training.bad_steps import NonFiniteError
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.experiment import (
    abstract_state,
    build,
    initial_state,
    load_split,
    load_trained,
)
from flowjax_glow.training.metrics import MetricsLog, Progress, read_metrics, training_seconds
from flowjax_glow.training.outcome import choose_protocol, evaluate_trained
from flowjax_glow.training.state import averaged_params, init_state
from flowjax_glow.training.step import make_train_step

KEY = jax.random.key(0)
UNIFORM = fg.uniform_dequantizer(n_bins=17)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(17, size=(8, 4, 4, 1)).astype(np.uint8)
BATCH = {"example": IMAGES, "label": np.arange(8, dtype=np.int32)}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def flow():
    return fg.glow((4, 4, 1), levels=1, depth=2, width=4, permutation="plu")


@pytest.fixture(scope="module")
def params(flow):
    return perturb(fg.init(flow, KEY, fg.dequantize(KEY, jnp.asarray(IMAGES), n_bins=17)))


def whole(params):
    """The params of a state, whose dequantizer has none."""
    return {"flow": params, "dequantizer": {}}


def one_device(step):
    """The train step on one device, without a driver."""

    @jax.jit
    def run(state, batch):
        key = jax.random.fold_in(state.key, state.step)
        return step.update(state, *step.gradients(state.params, key, batch))

    return run


@pytest.mark.usefixtures("optax_promotes")
def test_a_step_lowers_the_loss_and_leaves_constants_and_the_old_state_alone(flow, params):
    optimizer = optax.adam(1e-2)
    step = one_device(make_train_step(flow, optimizer, dequantizer=UNIFORM))
    state, first = step(init_state(whole(params), optimizer, KEY), BATCH)
    last = first
    for _ in range(30):
        state, last = step(state, BATCH)
    assert last["bits_per_dim"] < first["bits_per_dim"] - 0.1
    assert int(state.step) == 31
    before, after = fg.split_trainable(params)[1], fg.split_trainable(state.params["flow"])[1]
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert len(jax.tree.leaves(after)) == 2


def test_the_average_is_an_exponential_moving_one(flow, params):
    optimizer = optax.sgd(1e-2)
    step = one_device(make_train_step(flow, optimizer, dequantizer=UNIFORM, average_decay=0.5))
    state = init_state(whole(params), optimizer, KEY)
    expected = fg.split_trainable(state.params)[0]
    for t in range(12):
        state, _ = step(state, BATCH)
        decay = min(0.5, (1 + t) / (10 + t))
        now = fg.split_trainable(state.params)[0]
        expected = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, expected, now)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), state.average, expected)
    complete = averaged_params(state)
    assert jax.tree.structure(complete) == jax.tree.structure(state.params)


def test_evaluation_sees_every_example_once_whatever_the_batch(flow, params):
    split = Split(RNG.integers(17, size=(11, 4, 4, 1)).astype(np.uint8), np.zeros(11, np.int32))
    mesh = make_mesh()
    run = partial(likelihood, flow, params, split, KEY, dequantizer=UNIFORM, draws=3, mesh=mesh)
    small, large = run(batch_size=4), run(batch_size=64)
    assert small.values.shape == (3, 11)
    np.testing.assert_allclose(small.values, large.values, rtol=1e-5)

    key = jax.random.fold_in(KEY, 1)
    x = fg.dequantize(key, jnp.asarray(split.images), n_bins=17)
    by_hand = fg.bits_per_dim(fg.log_prob(flow, params, x), (4, 4, 1), n_bins=17)
    np.testing.assert_allclose(small.values[1], by_hand, rtol=1e-5)
    np.testing.assert_allclose(small.mean, small.values.mean())
    images = small.values.mean(axis=0)
    assert small.standard_error == pytest.approx(images.std(ddof=1) / np.sqrt(11))

    back = round_trip(flow, params, split, n_bins=17, batch_size=4, mesh=mesh)
    assert back.exact_images == 1.0
    assert 0 < back.error < 1e-4


def _state_of(config, workdir):
    experiment = build(config)
    with Checkpoints(workdir / "checkpoints", create=False) as checkpoints:
        assert checkpoints.latest_step is not None
        return checkpoints.restore(checkpoints.latest_step, abstract_state(experiment))


@pytest.mark.usefixtures("optax_promotes")
def test_a_run_leaves_what_it_promises_and_resumes_bit_for_bit(data_dir, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    record = loop.train_and_evaluate(tiny(data_dir), str(whole))

    class StoppedError(Exception):
        pass

    class Stopping(MetricsLog):
        def scalars(self, step, **values):
            if step == 3:
                raise StoppedError
            super().scalars(step, **values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "MetricsLog", Stopping)
        with pytest.raises(StoppedError):
            loop.train_and_evaluate(tiny(data_dir), str(halves))
    assert _state_of(tiny(data_dir), halves).step == 2
    again = loop.train_and_evaluate(tiny(data_dir), str(halves))

    a, b = (_state_of(tiny(data_dir), w) for w in (whole, halves))
    assert int(a.step) == 4
    data = [jax.tree.map(np.asarray, s._replace(key=jax.random.key_data(s.key))) for s in (a, b)]
    jax.tree.map(np.testing.assert_array_equal, *data)
    assert again["bits_per_dim"] == record["bits_per_dim"]

    for workdir in (whole, halves):
        for name in ("config.json", "evaluation.json", "learning_curve.png"):
            assert (workdir / name).stat().st_size > 0
        for name in ("temperature_0.7.png", "temperature_1.0.png", "test_images.png"):
            assert (workdir / "samples" / name).stat().st_size > 0
        assert list((workdir / "tensorboard").iterdir())
    steps, others = ([r["step"] for r in read_metrics(w)] for w in (whole, halves))
    assert steps == others == [1, 2, 2, 3, 4, 4]

    assert record == json.loads((whole / "evaluation.json").read_text())
    assert record["examples"] == 360
    assert record["n_bins"] == 17
    assert record["draws"] == 2
    assert record["bits_per_dim"] == pytest.approx(np.log2(17), abs=1.0)
    assert record["exact_images"] == 1.0
    assert load_trained(str(whole)).step == record["step"]


@pytest.mark.slow
@pytest.mark.usefixtures("optax_promotes")
def test_a_run_goes_on_with_other_calls_by_another_driver(data_dir, tmp_path):
    def run(workdir, steps, driver="shard_map", fsdp=1, **train):
        config = tiny(data_dir, steps=steps, **train)
        config.model.dropout = 0.0  # whose masks are a device's
        config.optimizer.schedule = "constant"
        config.parallel.driver, config.parallel.fsdp = driver, fsdp
        loop.train(loop.set_up(config, str(tmp_path / workdir)))
        logged = [r for r in read_metrics(tmp_path / workdir) if "bits_per_dim" in r]
        return {r["step"]: r["bits_per_dim"] for r in logged}

    whole = run("whole", 9, eval_every=9)
    assert list(run("parts", 2)) == [1, 2]
    call = {"steps_per_call": 3, "log_every": 3, "eval_every": 3}
    parts = run("parts", 9, driver="jit", fsdp=2, accumulate=2, **call)
    # From step 2 the first call takes one step, and the others three.
    assert list(parts) == [1, 2, 3, 6, 9]
    assert parts == pytest.approx({step: whole[step] for step in parts}, abs=1e-5)


def test_a_workdir_of_another_config_is_refused_with_what_differs(data_dir, tmp_path):
    loop.set_up(tiny(data_dir), str(tmp_path / "run"))
    loop.set_up(tiny(data_dir, steps=8), str(tmp_path / "run"))  # a longer run of the same
    devices = tiny(data_dir, accumulate=2)
    devices.parallel.update(driver="jit", fsdp=2)
    devices.model.memory = "constant"
    loop.set_up(devices, str(tmp_path / "run"))
    other = tiny(data_dir)
    other.model.width = 5
    with pytest.raises(ValueError, match=r"model.width = 4 there, 5 here"):
        loop.set_up(other, str(tmp_path / "run"))


@pytest.mark.usefixtures("optax_promotes")
def test_a_loss_that_is_not_finite_stops_the_run_and_is_never_saved(data_dir, tmp_path):
    config = tiny(data_dir, steps=30, eval_every=30)
    config.optimizer.learning_rate = 1e6
    config.optimizer.clip_norm = 1e30
    with pytest.raises(NonFiniteError, match="the last checkpoint is good"):
        loop.train_and_evaluate(config, str(tmp_path / "run"))
    with Checkpoints(tmp_path / "run" / "checkpoints", create=False) as checkpoints:
        assert checkpoints.latest_step is None


def test_a_batch_that_the_devices_do_not_divide_is_refused(data_dir, tmp_path):
    with pytest.raises(ValueError, match=r"train.batch_size must be divisible by the 2 devices; got 7"):
        loop.set_up(tiny(data_dir, batch_size=7), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_last_two_and_the_best_checkpoint_are_kept(params, tmp_path):
    optimizer = optax.adam(1e-3)
    state = init_state(whole(params), optimizer, KEY)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step is None
        assert checkpoints.best_step is None
        for step, bits in enumerate([3.0, 2.0, 2.5, 2.6], start=1):
            checkpoints.save(state._replace(step=jnp.asarray(step)), bits)
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert kept == [2, 3, 4]  # and one to fall back to
    with Checkpoints(tmp_path / "checkpoints", create=False) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (4, 2)
        back = checkpoints.restore(2, state)
    assert int(back.step) == 2
    jax.tree.map(np.testing.assert_array_equal, back.params, state.params)
    assert jnp.array_equal(jax.random.key_data(back.key), jax.random.key_data(state.key))


def test_a_half_written_last_line_of_metrics_is_dropped(tmp_path):
    logged = [{"step": 1, "a": 1.0, "seconds": 60.0}, {"step": 5, "a": 2.0, "seconds": 300.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*map(json.dumps, logged), '{"st']))
    assert read_metrics(tmp_path) == logged
    with MetricsLog(tmp_path, from_step=1) as log:
        log.scalars(2, a=3.0)
    first, second = read_metrics(tmp_path)
    assert first == logged[0]
    assert (second["step"], second["a"]) == (2, 3.0)


def test_the_time_of_a_run_goes_on_where_it_stopped_and_counts_no_step_twice(tmp_path, monkeypatch):
    assert training_seconds(tmp_path) is None
    clock = iter([1000.0, 1010.0, 1030.0])  # opened, and two lines
    time = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("flowjax_glow.training.metrics.time", time)
    with MetricsLog(tmp_path) as log:
        log.scalars(5, a=1.0)
        log.scalars(10, a=1.0)
    assert training_seconds(tmp_path) == 30.0
    clock = iter([9000.0, 9025.0])
    with MetricsLog(tmp_path, from_step=5) as log:
        log.scalars(10, a=1.0)
    assert [r["seconds"] for r in read_metrics(tmp_path)] == [10.0, 35.0]
    assert training_seconds(tmp_path) == 35.0


def test_progress_prints_plain_lines_where_there_is_no_terminal(capsys):
    with Progress(10, unit="bits/dim") as progress:
        progress.update(5, 2.5, 1234.0)
        progress.update(6, 2.4, 1234.0)  # too soon for another line
        progress.update(10, 2.3, None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "5/10  2.500 bits/dim  1,234 examples/s" in lines[0]
    assert "10/10  2.300 bits/dim" in lines[1]


@pytest.mark.slow
@pytest.mark.usefixtures("optax_promotes")
def test_a_run_with_learned_noise_trains_it_and_says_how_many_samples_its_bound_has(data_dir, tmp_path):
    config = tiny(data_dir, steps=2, eval_every=2)
    config.dequantization = ConfigDict(
        {"name": "variational", "depth": 1, "blocks": 1, "width": 4, "heads": 1, "features": 2}
    )
    config.eval.importance = 3
    record = loop.train_and_evaluate(config, str(tmp_path))
    assert record["dequantization"] == "variational"
    assert record["importance_samples"] == 3

    trained = load_trained(str(tmp_path), weights="raw")
    first = initial_state(trained.experiment, load_split(trained.experiment, "train"))
    assert record["parameters"] == fg.count_parameters(first.params)
    moved = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()), trained.noise, first.params["dequantizer"]
    )
    assert max(jax.tree.leaves(moved)) > 1e-4

    more, fewer = (
        evaluate_trained(
            trained,
            str(tmp_path),
            choose_protocol(trained.experiment, draws=1, importance=k),
            mesh=make_mesh(),
        )
        for k in (16, 1)
    )
    assert more["bits_per_dim"] < fewer["bits_per_dim"]
    config.dequantization.name = "gaussian"
    with pytest.raises(ValueError, match="must be one of uniform, variational; got 'gaussian'"):
        build(config)
