"""Training and evaluation on vectors: exact nats, resumed runs, estimates, pictures in the plane."""

import json
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
from flowjax_glow.data.split import Split
from flowjax_glow.evaluation import likelihood, round_trip
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.report.record import print_record
from flowjax_glow.sharding import make_mesh
from flowjax_glow.training import loop
from flowjax_glow.training.drivers import make_driver
from flowjax_glow.training.experiment import load_trained
from flowjax_glow.training.metrics import read_metrics
from flowjax_glow.training.pictures import Samples, can_be_drawn, draw_samples, picture_of
from flowjax_glow.training.state import init_state
from flowjax_glow.training.step import make_train_step

KEY = jax.random.key(0)
VECTORS = fg.uniform_dequantizer(n_bins=None)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 4)).astype(np.float32)
BATCH = {"example": X, "label": np.zeros(8, np.int32)}


def split(n, dim=2):
    return Split(RNG.normal(size=(n, dim)).astype(np.float32), np.zeros(n, np.int32))


def coupling(event_shape, *, width):
    net = partial(MLP, width=width, depth=1)
    return fg.Flow(fg.chain(fg.actnorm(), fg.affine_coupling(net)), fg.standard_normal(), event_shape)


@pytest.fixture(autouse=True)
def _with_a_model_that_compiles_fast(monkeypatch):
    monkeypatch.setitem(models.MODELS, "coupling", coupling)


def tiny(**train):
    """moons_spline with another model, shrunk to seconds."""
    config = moons_spline.get_config("smoke")
    config.data.train_examples = 300
    config.model = ConfigDict({"name": "coupling", "width": 4})
    config.optimizer.schedule = "constant"
    config.eval.batch_size = 2000
    config.train.watch = 0
    config.train.update(train)
    return config


def table(path, rows=60):
    a = RNG.normal(1e6, 3.0, rows)
    b = 0.5 * a + RNG.normal(0.0, 0.1, rows)
    path.write_text("\n".join(["a,b", *(f"{x},{y}" for x, y in zip(a, b, strict=True))]))
    return path


def test_the_likelihood_of_vectors_is_exact_and_of_every_one_once():
    flow = fg.Flow(fg.scale(), fg.standard_normal(), (2,))
    params = fg.init(flow, KEY, jnp.zeros((1, 2)))
    params = jax.tree.map(lambda p: p + 0.5, params)
    data = split(11)
    run = partial(likelihood, flow, params, data, KEY, dequantizer=VECTORS, mesh=make_mesh())
    small, large = run(batch_size=4, draws=2), run(batch_size=64)
    assert small.values.shape == (2, 11)
    np.testing.assert_array_equal(small.values[0], small.values[1])
    np.testing.assert_allclose(small.values[0], large.values[0], rtol=1e-6)
    # z = x exp(1/2), so that log p(x) = log N(z; 0, 1) + 1/2 in each dimension.
    z = data.examples.astype(np.float64) * math.exp(0.5)
    expected = 0.5 * np.sum(z**2, axis=1) + math.log(2 * math.pi) - 1.0
    np.testing.assert_allclose(small.values[0], expected, rtol=1e-5)
    back = round_trip(flow, params, data, n_bins=None, batch_size=4, mesh=make_mesh())
    assert back.exact_images is None
    assert back.error < 1e-6


def noisy(stochastic):
    """The identity, whose logdet is wrong by a standard normal where there is a key."""

    def forward(params, x, cond=None, key=None):
        del cond
        off = jnp.zeros(()) if key is None else jax.random.normal(key)
        return x + params["shift"], jnp.broadcast_to(off, x.shape[:1])

    def init(key, x, cond=None):
        del key, x, cond
        return {"shift": jnp.zeros((1, 1))}

    bijector = fg.Bijector(init, forward, forward, stochastic=stochastic)
    return fg.Flow(bijector, fg.standard_normal(), (2,))


def test_a_key_is_given_where_the_logdet_is_an_estimate_and_nowhere_else():
    data, mesh = split(64), make_mesh()
    exact = 0.5 * np.sum(data.examples**2, axis=1) + math.log(2 * math.pi)
    errors = {}
    for stochastic in (False, True):
        flow = noisy(stochastic)
        params = fg.init(flow, KEY, jnp.zeros((1, 2)))
        run = partial(
            likelihood, flow, params, data, dequantizer=VECTORS, draws=30, batch_size=8, mesh=mesh
        )
        errors[stochastic] = run(KEY).values - exact[None]
        np.testing.assert_array_equal(run(KEY).values - exact[None], errors[stochastic])
    assert np.abs(errors[False]).max() < 1e-5
    # One of its own for each example of each draw: 30 times 64 of them.
    assert np.unique(errors[True]).size > 1900
    assert abs(errors[True].mean()) < 0.1
    assert errors[True].std() == pytest.approx(1.0, abs=0.07)


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize(
    ("driver", "fsdp", "accumulate"), [("shard_map", 2, 2), ("pmap", 1, 1), ("jit", 2, 4)]
)
def test_a_step_on_vectors_descends_the_mean_of_nats(driver, fsdp, accumulate):
    flow = fg.Flow(fg.affine_coupling(partial(MLP, width=32)), fg.standard_normal(), (4,))
    params = fg.init(flow, KEY, jnp.asarray(X))
    optimizer = optax.sgd(0.1)
    step = make_train_step(flow, optimizer, dequantizer=VECTORS, accumulate=accumulate)
    run = make_driver(driver, step, make_mesh(fsdp))
    state = run.put_state(init_state({"flow": params, "dequantizer": {}}, optimizer, KEY))
    state, metrics = run.steps(state, run.put_batches([BATCH]))

    def nats(params):
        return -jnp.mean(fg.log_prob(flow, params, jnp.asarray(X)))

    value, grads = jax.value_and_grad(nats)(params)
    assert metrics.keys() == {"nats", "grad_norm", "bad_steps", "bad_in_a_row", "finite"}
    np.testing.assert_allclose(metrics["nats"], value, rtol=1e-5)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), state.params["flow"], expected
    )


@pytest.mark.slow
@pytest.mark.usefixtures("optax_promotes")
def test_a_run_on_moons_leaves_what_it_promises_and_resumes_bit_for_bit(tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    record = loop.train_and_evaluate(tiny(steps=4, eval_every=2), str(whole))
    loop.train_and_evaluate(tiny(steps=2, eval_every=2), str(parts))
    again = loop.train_and_evaluate(tiny(steps=4, eval_every=2), str(parts))
    assert again["nats"] == record["nats"]
    a, b = (load_trained(str(w), weights="raw").params for w in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, a, b)

    logged = read_metrics(whole)
    assert [r["step"] for r in logged] == [1, 2, 2, 3, 4, 4]
    assert {name for r in logged for name in r} == {
        *("step", "nats", "grad_norm", "bad_steps", "examples_per_second", "valid_nats", "seconds")
    }
    for name in ("learning_curve.png", "samples/samples.png", "samples/density.png", "config.json"):
        assert (whole / name).stat().st_size > 0
    assert record == json.loads((whole / "evaluation.json").read_text())
    assert record["step"] == min((r["valid_nats"], r["step"]) for r in logged if "valid_nats" in r)[1]
    assert (record["examples"], record["draws"], record["n_bins"]) == (10_000, 1, None)
    assert record["nats_of_truth"] == pytest.approx(0.289, abs=0.03)
    assert record["nats"] == record["nats_in_own_units"] > record["nats_of_truth"]
    assert not record["estimated"]
    assert "bits_per_dim" not in record
    print_record(record)
    printed = capsys.readouterr().out
    assert "nats of the true density" in printed
    assert "noise draws" not in printed


@pytest.mark.usefixtures("optax_promotes")
def test_a_table_is_evaluated_and_sampled_in_its_own_units(tmp_path):
    config = tiny(steps=2)
    config.data.update(name="table", path=str(table(tmp_path / "table.csv")), train_examples=None)
    record = loop.train_and_evaluate(config, str(tmp_path / "run"))
    names, means, deviations = zip(*(c.values() for c in record["columns"]), strict=True)
    assert names == ("a", "b")
    assert record["nats_of_truth"] is None
    assert record["nats_in_own_units"] - record["nats"] == pytest.approx(np.log(deviations).sum())
    trained = load_trained(str(tmp_path / "run"))
    values, finite = draw_samples(trained.experiment, trained.params, KEY, 2000, temperature=1.0)
    assert finite.all()
    # The first column varies by 3 about a million: with float32 there would be steps of 1/16.
    np.testing.assert_allclose(values.mean(0), means, atol=2.0)
    assert np.unique(values[:, 0]).size == 2000

    table(tmp_path / "table.csv", rows=61)
    with pytest.raises(
        ValueError, match=r"data.version must be table/.*, that of the data; got table/"
    ):
        load_trained(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("flip", True, "flip, shift and random_crop are for images; got vectors of 2"),
        ("n_bits", 5, "data.n_bits must be 8 for vectors; got 5"),
        ("image_size", 8, "image_size is for images"),
        ("version", "moons/0", "data.version must be moons/1, that of the data; got moons/0"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tmp_path, field, value, message):
    config = tiny()
    config.data[field] = value
    with pytest.raises(ValueError, match=message):
        loop.set_up(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_vectors_of_other_sizes_have_no_picture(tmp_path):
    rows = RNG.normal(size=(60, 4))
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d", *(",".join(map(str, r)) for r in rows)]))
    config = tiny()
    config.data.update(name="table", path=str(tmp_path / "t.csv"), train_examples=None)
    experiment = loop.set_up(config, str(tmp_path / "run")).experiment
    assert not can_be_drawn(experiment)
    samples = Samples(np.zeros((3, 4)), np.ones(3, bool))
    with pytest.raises(ValueError, match="must be of images, or of vectors of 2 numbers; got 4"):
        picture_of(experiment, samples)


def test_each_config_says_what_shrinks_its_model():
    config = moons_spline.get_config()
    assert "levels" not in config.model  # of Glow
    with pytest.raises(ValueError, match=r"smoke must change fields of config.model; got \['hight'\]"):
        default.finish(config, "smoke", hight=2)
    config = default.finish(config, "smoke", width=3)
    assert config.model.width == 3
