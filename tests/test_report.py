"""Pictures are of the right pixels, and a record says all that its number depends on."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from configs import tiny
from ml_collections import ConfigDict

import flowjax_glow as fg
from experiments.configs import moons_spline
from flowjax_glow import models
from flowjax_glow.report.plots import learning_curve
from flowjax_glow.report.record import environment, print_record, read_record, write_record
from flowjax_glow.report.table import is_record, results_table
from flowjax_glow.sharding import make_mesh
from flowjax_glow.training import loop
from flowjax_glow.training.config import fingerprint
from flowjax_glow.training.experiment import build, load_split, load_trained
from flowjax_glow.training.metrics import read_metrics
from flowjax_glow.training.outcome import choose_protocol, evaluate_trained, record_name


def test_a_learning_curve_is_drawn(tmp_path):
    metrics = [{"step": s, "bits_per_dim": 4.0 / s} for s in range(1, 9)]
    metrics += [{"step": s, "valid_bits_per_dim": 4.2 / s} for s in (4, 8)]
    learning_curve(metrics, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_environment_names_versions():
    versions = environment()["versions"]
    assert {"python", "jax", "flax", "optax", "numpy"} <= versions.keys()


def stretched(event_shape, *, slope=1.0, scales=1):
    """z = slope * exp(scale) * x; slope is no parameter, and scales is the params' shape."""

    def init(key, x, cond=None):
        del key, x, cond
        return {"scale": jnp.zeros((scales,))}

    def log_slope(params, x):
        return jnp.full(x.shape[:1], x[0].size) * (math.log(slope) + params["scale"][0])

    def forward(params, x, cond=None, key=None):
        del cond, key
        return x * slope * jnp.exp(params["scale"][0]), log_slope(params, x)

    def inverse(params, z, cond=None, key=None):
        del cond, key
        return z / (slope * jnp.exp(params["scale"][0])), -log_slope(params, z)

    return fg.Flow(fg.Bijector(init, forward, inverse), fg.standard_normal(), event_shape)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that is evaluated with twice the slope it is trained with; and its record."""
    folder = tmp_path_factory.mktemp("stretched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "stretched", stretched)
        config = tiny(folder, steps=2, eval_every=2, steps_per_call=1)
        config.model = ConfigDict({"name": "stretched"})
        config.eval.model = ConfigDict({"slope": 2.0})
        config.paper.update(bits_per_dim=2.0, source="a paper", weights="raw")
        with jax.numpy_dtype_promotion("standard"):  # for optax
            record = loop.train_and_evaluate(config, str(folder / "run"))
        yield folder / "run", record


FIELDS = {
    **{"run": str, "model": str, "data_set": str, "build": None, "version": str, "split": str},
    **{"examples": int, "event_shape": list, "n_bins": int, "n_bits": None, "dequantization": str},
    **{"draws": int, "importance_samples": int, "estimated": bool, "bits_per_dim": float},
    **{"standard_error": float, "standard_error_of_draws": float, "weights": str, "step": int},
    **{"parameters": int, "eval_model": dict, "round_trip_error": float, "exact_images": float},
    **{"samples": int, "finite_samples": float, "precision": str, "matmul_precision": str},
    **{"seed": int, "training_seed": int, "training_seconds": float, "examples_per_second": float},
    **{"config": str, "device_kind": str, "devices": int, "versions": dict, "paper": dict},
}


def test_a_record_has_every_field_and_is_one_json_object(run):
    workdir, record = run
    assert read_record(workdir / "evaluation.json") == record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    commit = record.pop("commit")  # None outside a checkout
    assert commit is None or len(commit) == 40
    kinds = {name: None if value is None else type(value) for name, value in record.items()}
    assert kinds == FIELDS
    record["commit"] = commit
    assert (record["run"], record["split"], record["draws"], record["devices"]) == ("run", "test", 2, 2)
    assert (record["n_bins"], record["event_shape"], record["parameters"]) == (17, [8, 8, 1], 1)
    assert record["paper"] == {"bits_per_dim": 2.0, "source": "a paper", "weights": "raw"}
    assert record["training_seconds"] == read_metrics(workdir)[-1]["seconds"] > 0
    assert is_record(record)
    assert "weights: average against the paper's raw" in results_table([record])


def test_the_record_is_a_table_for_a_person(run, capsys):
    print_record({**run[1], "build": "oord2016", "training_seconds": 4000.0}, stderr=True)
    printed = capsys.readouterr().err
    for text in ("oord2016, digits/", "slope = 2.0", "1 h 6 min", f"{run[1]['bits_per_dim']:.4f} ±"):
        assert text in printed


def test_a_record_is_written_whole_in_a_folder_that_is_made(tmp_path):
    write_record(tmp_path / "a" / "b.json", {"x": 1})
    assert read_record(tmp_path / "a" / "b.json") == {"x": 1}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


def test_the_number_is_of_the_model_of_evaluation_and_the_valid_loss_of_the_one_trained(run):
    workdir, record = run
    trained = load_trained(str(workdir))
    scale = float(trained.params["scale"][0])

    def bits(split, draws, slope):
        """Of z = s x, x uniform within its bin: -log N(z; 0, 1) - log s in each of the dimensions."""
        images = jnp.asarray(load_split(trained.experiment, split).images)
        keys = [jax.random.fold_in(jax.random.key(0), draw) for draw in range(draws)]
        x = np.stack([fg.dequantize(key, images, n_bins=17) for key in keys]).astype(np.float64)
        s = slope * math.exp(scale)
        nats = 0.5 * s**2 * np.mean(x**2) + 0.5 * math.log(2 * math.pi) - math.log(s)
        return (nats + math.log(17)) / math.log(2)

    assert record["eval_model"] == {"slope": 2.0}
    assert record["bits_per_dim"] == pytest.approx(bits("test", 2, 2.0), abs=1e-5)
    valid = [r["valid_bits_per_dim"] for r in read_metrics(workdir) if "valid_bits_per_dim" in r]
    assert valid[-1] == pytest.approx(bits("valid", 1, 1.0), abs=1e-5)


def test_other_protocols_have_files_and_numbers_of_their_own(run):
    workdir, record = run
    trained = load_trained(str(workdir))
    own = choose_protocol(trained.experiment)
    assert record_name(trained, own) == "evaluation.json"
    other = choose_protocol(trained.experiment, split="valid", draws=1, seed=3)
    name = "evaluation_split=valid_draws=1_seed=3.json"
    assert record_name(trained, other) == name
    raw = load_trained(str(workdir), weights="raw")
    assert record_name(raw, own) == "evaluation_weights=raw.json"
    found = evaluate_trained(trained, str(workdir), other, batch_size=64, mesh=make_mesh())
    assert (found["split"], found["draws"], found["seed"]) == ("valid", 1, 3)
    assert (found["training_seed"], found["standard_error_of_draws"]) == (0, None)
    assert found["bits_per_dim"] != record["bits_per_dim"]
    assert found.keys() == record.keys()


@pytest.mark.usefixtures("run")  # registers the model
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slop": 2.0}, r"no field eval.model.slop of .* did you mean eval.model.slope\?"),
        ({"name": "glow"}, r"no field eval.model.name of model stretched; got .* = 'glow'"),
        ({"scales": 2}, "eval.model must leave the model's params as they are; got {'scales': 2}"),
    ],
)
def test_another_model_for_evaluation_is_refused_before_training(tmp_path, changes, message):
    config = tiny(tmp_path)
    config.model, config.eval.model = ConfigDict({"name": "stretched"}), ConfigDict(changes)
    with pytest.raises(ValueError, match=message):
        loop.set_up(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_impossible_protocol_is_refused_before_training(tmp_path):
    config = moons_spline.get_config("smoke")
    config.eval.importance = 2
    with pytest.raises(ValueError, match="importance must be 1 for vectors; got 2"):
        loop.set_up(config, str(tmp_path / "run"))
    config = tiny(tmp_path)
    config.model = ConfigDict({"name": "residual_flow", "levels": 1, "depth": 1, "width": 4})
    with pytest.raises(ValueError, match="must be 1 for an estimated log-determinant; got 4"):
        choose_protocol(build(config), importance=4)
    with pytest.raises(ValueError, match="draws must be at least 1; got 0"):
        choose_protocol(build(config), draws=0)


def test_a_fingerprint_is_of_all_but_the_seed_and_what_changes_no_result(tmp_path):
    first = fingerprint(tiny(tmp_path))
    same, other, longer = tiny(tmp_path / "elsewhere"), tiny(tmp_path), tiny(tmp_path, steps=5)
    same.seed, same.eval.draws, same.parallel.fsdp = 1, 5, 2
    other.model.width = 5
    assert fingerprint(same) == first
    assert len({first, fingerprint(other), fingerprint(longer)}) == 3
