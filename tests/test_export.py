"""Runs handed on: what is loaded is what was trained, and its card tells the truth."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import yaml
from cases import perturb
from configs import ROOT, module, tiny
from jax import export
from ml_collections import ConfigDict
from safetensors import safe_open

import flowjax_glow as fg
from flowjax_glow import pretrained
from flowjax_glow.artifact import export_log_prob
from flowjax_glow.evaluation import likelihood
from flowjax_glow.report.card import model_card
from flowjax_glow.report.record import write_record
from flowjax_glow.sharding import make_mesh
from flowjax_glow.training import export as exporting
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.config import write_config
from flowjax_glow.training.experiment import (
    Trained,
    abstract_state,
    build,
    config_of,
    initial_state,
    load_split,
    load_trained,
)
from flowjax_glow.training.export import export_trained
from flowjax_glow.training.outcome import evaluate_trained

KEY = jax.random.key(0)
log_prob = jax.jit(fg.log_prob, static_argnums=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def run(folder):
    """A run of a class-conditional Glow with constants in its params; and with eval.model."""
    config = tiny(folder / "data")
    config.model.num_classes = 10
    config.eval.model = ConfigDict({"memory": "recompute"})
    config.eval.samples = 4
    experiment = build(config)
    with jax.numpy_dtype_promotion("standard"):
        state = initial_state(experiment, load_split(experiment, "train"))
    state = state._replace(params=perturb(state.params), average=perturb(state.average, seed=1))
    write_config(folder / "run", config_of(experiment))
    with Checkpoints(folder / "run/checkpoints") as checkpoints:
        checkpoints.save(state, 1.0)
    record = evaluate_trained(load_trained(str(folder / "run")), str(folder / "run"), mesh=make_mesh())
    write_record(folder / "run/evaluation.json", record)
    return folder / "run"


@pytest.fixture(scope="module")
def trained(run):
    return load_trained(str(run))


@pytest.fixture(scope="module")
def unchecked():
    """Runs a function without the checks of types, by which the symbol of a batch's size is no int."""

    def call(function, *args, **kwargs):
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            return function(*args, **kwargs)
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)

    return call


@pytest.fixture(scope="module")
def model(run, trained, folder, unchecked):
    """The folder of the run, exported."""
    out = folder / "glow_tiny"
    unchecked(export_trained, trained, str(run), out, license_id="apache-2.0", artifact=True)
    return out


def made(config):
    """The experiment of a config, with params that training might have come to."""
    experiment = build(config)
    params = initial_state(experiment, load_split(experiment, "train")).params
    flow, noise = perturb(params["flow"], scale=0.05), perturb(params["dequantizer"], scale=0.05)
    return Trained(experiment._replace(flow=experiment.eval_flow), flow, noise, 0, "average")


def real_nvp(folder):
    """With running statistics, and noise that is learned."""
    config = tiny(folder / "data")
    config.model = ConfigDict({"name": "real_nvp", "scales": 1, "width": 2, "blocks": 1})
    small = {"depth": 1, "blocks": 1, "width": 4, "heads": 2, "components": 2, "features": 4}
    config.dequantization = ConfigDict({"name": "variational", **small})
    return config


def moons():
    config = module("moons_spline").get_config("smoke")
    config.model.depth = 1
    config.data.train_examples = 100
    return config


def front_matter(card):
    _, metadata, text = card.split("---\n", 2)
    return yaml.safe_load(metadata), text


def codes(folder):
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def test_what_is_loaded_is_what_was_trained_bit_for_bit(trained, model):
    flow, params = fg.load_pretrained(model)
    jax.tree.map(np.testing.assert_array_equal, params, trained.params)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
    assert dtypes == {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}
    split = load_split(trained.experiment, "test")
    x, labels = fg.dequantize(KEY, jnp.asarray(split.images[:9]), n_bins=17), split.labels[:9]
    ours, theirs = (
        log_prob(flow, params, x, labels),
        log_prob(trained.experiment.flow, trained.params, x, labels),
    )
    np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(theirs, log_prob(flow, params, x, (labels + 1) % 10))


def test_public_functions_give_the_evaluations_number_to_the_last_bit(run, trained, model):
    record = json.loads((run / "evaluation.json").read_text())
    flow, params = fg.load_pretrained(model)
    dequantizer, noise = pretrained.load_dequantizer(model)
    found = likelihood(
        flow,
        params,
        load_split(trained.experiment, "test"),
        jax.random.key(0),
        dequantizer=dequantizer,
        noise=noise,
        draws=2,
        batch_size=128,
        conditional=True,
        mesh=make_mesh(),
    )
    assert (record["draws"], trained.experiment.config.eval.batch_size) == (2, 128)
    assert found.mean == record["bits_per_dim"]
    assert found.standard_error == record["standard_error"]


def test_the_config_makes_the_flow_as_it_is_evaluated(trained, model):
    config = pretrained.load_config(model)
    assert config.model == {**trained.experiment.config.model.to_dict(), "memory": "recompute"}
    assert trained.experiment.config.model.memory == "stored"
    assert (config.event_shape, config.n_bins, config.num_classes) == ((8, 8, 1), 17, 10)
    assert config.dequantization == {"name": "uniform"}
    assert (config.data["name"], config.data["version"]) == ("digits", "digits/1.0.0")
    assert config.library_version == fg.__version__
    # Where the data lie on this machine stays here.
    assert not {"path", "data_dir"} & config.data.keys()
    assert str(trained.experiment.config.data.data_dir) not in (model / "config.json").read_text()


def test_safetensors_alone_reads_the_weights(trained, model):
    by_path = {
        "flow" + jax.tree_util.keystr(path, simple=True, separator=".").join((".", "")): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(trained.params)
    }
    with safe_open(model / "model.safetensors", framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert arrays.keys() == by_path.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, by_path[name], strict=True)


def test_the_card_has_the_numbers_of_the_record(run, model):
    record = json.loads((run / "evaluation.json").read_text())
    metadata, text = front_matter((model / "README.md").read_text())
    assert metadata["license"] == "apache-2.0"
    assert metadata["library_name"] == "flowjax-glow"
    assert metadata["pipeline_tag"] == "unconditional-image-generation"
    assert {"glow", "jax", "normalizing-flow"} <= set(metadata["tags"])
    assert metadata["datasets"] == ["digits"]
    assert metadata["metrics"] == ["bits_per_dim"]
    (entry,) = metadata["model-index"]
    assert entry["name"] == "glow_tiny"
    (result,) = entry["results"]
    assert result["dataset"] == {"type": "digits", "name": "digits/1.0.0", "split": "test"}
    (metric,) = result["metrics"]
    assert (metric["type"], metric["value"]) == ("bits_per_dim", record["bits_per_dim"])
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE))
    assert rows["bits/dim"].startswith(f"{record['bits_per_dim']:.4f} ± {record['standard_error']:.4f}")
    assert rows["weights"].startswith(f"average, step {record['step']}")
    assert rows["trained parameters"] == f"{record['parameters']:,}"
    assert rows["dequantization"] == "uniform, 2 draws"
    assert rows["commit"] == str(record["commit"])
    assert f"jax {jax.__version__}" in rows["versions"]


def test_the_card_says_what_is_special_of_a_model(run):
    record = json.loads((run / "evaluation.json").read_text())
    config = {"model": {"name": "glow"}, "data": {"n_bits": 5, "crop": 148}, "columns": []}
    other = record | {"n_bins": 32, "n_bits": 5, "finite_samples": 0.75, "data_set": "folder"}
    card = model_card("m", other, config | {"event_shape": [8, 8, 1]}, license_id="mit", artifact=False)
    assert "reduce_bits(split.images, 5)" in card
    assert 'data.load("folder", "test", crop=148, path=\'...\')' in card
    assert "25.00% overflowed" in card
    assert "datasets" not in front_matter(card)[0]
    assert "jaxexport" not in card


@pytest.fixture(scope="module")
def moons_model(folder):
    """Vectors, exported; and the record of their evaluation."""
    trained = made(moons())
    workdir = folder / "moons_run"
    trained.experiment.config.eval.samples = 4
    record = evaluate_trained(trained, str(workdir), mesh=make_mesh())
    write_record(workdir / "evaluation.json", record)
    export_trained(trained, str(workdir), folder / "moons_tiny", license_id="unknown")
    return folder / "moons_tiny", trained, record


def test_the_code_of_the_cards_runs_and_gives_their_numbers(run, model, moons_model, folder):
    """As printed, in the folder above the models', in another process."""
    names = [model, moons_model[0]]
    code = "\n".join("\n".join(codes(name)) for name in names)
    code = code.replace('open("', 'open("glow_tiny/')
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "TFDS_DATA_DIR": str(folder / "data")},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    bits = json.loads((run / "evaluation.json").read_text())["bits_per_dim"]
    printed = [float(line) for line in done.stdout.splitlines() if re.fullmatch(r"-?\d+\.\d{4}", line)]
    assert printed == pytest.approx([bits, moons_model[2]["nats"]], abs=1.01e-4)


def test_vectors_are_handed_on(moons_model):
    model, trained, record = moons_model
    flow, params = fg.load_pretrained(model)
    x = load_split(trained.experiment, "test").examples[:50]
    np.testing.assert_array_equal(
        log_prob(flow, params, x), log_prob(trained.experiment.flow, trained.params, x)
    )
    config = pretrained.load_config(model)
    assert config.n_bins is None
    assert list(config.columns) == record["columns"]
    metadata, text = front_matter((model / "README.md").read_text())
    assert metadata["metrics"] == ["nats"]
    assert "bits/dim" not in text


def test_running_statistics_and_learned_noise_are_handed_on(folder, tmp_path):
    experiment = build(real_nvp(folder))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), abstract_state(experiment).params
    )
    written = exporting.model_config(experiment)
    pretrained.write_pretrained(tmp_path, written, params["flow"], params["dequantizer"])
    flow, dequantizer = fg.load_pretrained(tmp_path), pretrained.load_dequantizer(tmp_path)
    back = {"flow": flow.params, "dequantizer": dequantizer.params}
    jax.tree.map(np.testing.assert_array_equal, back, params)
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        names = list(file.keys())
    assert any(".running." in name for name in names)
    assert any(name.startswith("dequantizer.") for name in names)
    assert dequantizer.dequantizer.n_bins == 17


def test_raw_weights_have_a_record_of_their_own(run, folder):
    raw, out = load_trained(str(run), weights="raw"), folder / "raw"
    with pytest.raises(
        FileNotFoundError, match=r"weights=raw.json, .* run python -m experiments.evaluate"
    ):
        export_trained(raw, str(run), out, license_id="unknown")
    record = json.loads((run / "evaluation.json").read_text())
    path = run / "evaluation_weights=raw.json"
    for field, value in (("step", 1), ("weights", "average"), ("config", "0" * 12)):
        write_record(path, record | {"weights": "raw"} | {field: value})
        with pytest.raises(ValueError, match=f"must be of {field} .*; it is of {value}: run python"):
            export_trained(raw, str(run), out, license_id="unknown")
    assert not out.exists()
    write_record(path, record | {"weights": "raw"})
    export_trained(raw, str(run), out, license_id="unknown")
    _, params = fg.load_pretrained(out)
    jax.tree.map(np.testing.assert_array_equal, params, raw.params)


def test_it_writes_all_or_nothing(run, trained, model, folder, monkeypatch):
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    before = sorted(os.listdir(folder))

    def fails(*_, **__):
        raise ValueError("no card")

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "model_card", fails)
        for out in (model, folder / "new"):
            with pytest.raises(ValueError, match="no card"):
                export_trained(trained, str(run), out, license_id="unknown")
    with monkeypatch.context() as patch:  # the earlier one is put back
        patch.setattr(Path, "rename", _fails_for(".partial"))
        with pytest.raises(OSError, match="no rename"):
            export_trained(trained, str(run), model, license_id="unknown")
    assert {path.name: path.read_bytes() for path in model.iterdir()} == files
    nan = jax.tree.map(
        lambda leaf: leaf * jnp.asarray(jnp.nan, leaf.dtype) if leaf.dtype == jnp.float32 else leaf,
        trained.params,
    )
    with pytest.raises(ValueError, match="must be finite"):
        export_trained(trained._replace(params=nan), str(run), folder / "new", license_id="unknown")
    with pytest.raises(ValueError, match=r"--license must be a name of the hub's, .*; got 'a: b'"):
        export_trained(trained, str(run), folder / "new", license_id="a: b")
    assert sorted(os.listdir(folder)) == before


def _fails_for(suffix):
    rename = Path.rename

    def fails(path, target):
        if path.name.endswith(suffix):
            raise OSError("no rename")
        return rename(path, target)

    return fails


def test_it_overwrites_its_own_and_nothing_else(run, trained, tmp_path):
    for out, message in (
        (run, "holds checkpoints"),
        (tmp_path / "file", "file is a file"),
        (tmp_path / "others", "holds thesis.tex"),
        (tmp_path / "with_more", "holds thesis.tex"),
    ):
        if out.name == "file":
            out.write_text("")
        elif out.name != "run":
            out.mkdir()
            if out.name == "with_more":
                export_trained(trained, str(run), out, license_id="unknown")
            (out / "thesis.tex").write_text("years of work")
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(ValueError, match=f"--out must be a .*{message}"):
            export_trained(trained, str(run), out, license_id="unknown")
        assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "with_more/thesis.tex").read_text() == "years of work"
    (tmp_path / "with_more/thesis.tex").unlink()
    export_trained(trained, str(run), tmp_path / "with_more", license_id="mit")
    assert "mit" in (tmp_path / "with_more/README.md").read_text()


def test_the_command_writes_the_folder_and_a_mistake_is_one_line(run, tmp_path):
    command = [sys.executable, "-m", "experiments.export", f"--workdir={run}"]

    def call(*more):
        return subprocess.run(
            [*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
        )

    done = call(f"--out={tmp_path / 'deep/model'}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"step 0, average weights, in .*: README.md .* MB", done.stdout)
    assert sorted(os.listdir(tmp_path / "deep/model")) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    fg.load_pretrained(tmp_path / "deep/model")
    done = call(f"--out={run}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --out must be a new folder")
    assert "Traceback" not in done.stderr


def test_the_artifacts_are_the_live_functions_at_any_batch_size(trained, model):
    """Deserialized by JAX alone, with labels."""
    run_sample, run_log_prob = (
        export.deserialize(bytearray((model / f"{name}.jaxexport").read_bytes()))
        for name in ("sample", "log_prob")
    )
    assert run_sample.platforms == run_log_prob.platforms == ("cpu", "cuda", "tpu")
    flow, params = trained.experiment.flow, trained.params

    def live(seed, label):
        key = jax.random.key(seed)
        return fg.sample(flow, params, key, 1, temperature=0.7, cond=label[None])[0]

    for size in (1, 5):
        seeds, labels = jnp.arange(size, dtype=jnp.uint32) + 7, jnp.arange(size) % 10
        x = run_sample.call(seeds, jnp.float32(0.7), labels)
        np.testing.assert_allclose(x, jax.jit(jax.vmap(live))(seeds, labels), atol=1e-5)
        found = run_log_prob.call(x, labels)
        # Sums over 64 numbers, some hundred nats.
        np.testing.assert_allclose(found, log_prob(flow, params, x, labels), rtol=1e-5, atol=1e-4)


def test_a_flow_that_needs_to_know_the_batch_is_refused_in_one_line(unchecked):
    inner = fg.actnorm()

    def forward(params, x, cond=None, key=None):
        return inner.forward(params, x if x.shape[0] > 3 else -x, cond, key)

    flow = fg.Flow(inner._replace(forward=forward), fg.standard_normal(), (2,))
    params = fg.init(flow, KEY, jnp.ones((4, 2)))
    with pytest.raises(
        ValueError, match=r"cannot be exported for a batch of any size: .*batch"
    ) as caught:
        unchecked(export_log_prob, flow, params)
    assert "\n" not in str(caught.value)
