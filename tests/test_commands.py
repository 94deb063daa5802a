"""The commands, as a person types them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from configs import NAMES, ROOT, needs_no_download, write_table
from PIL import Image

LOCAL = [name for name in NAMES if needs_no_download(name)]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """One cache of compiled programs for all commands, and none of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def _run(command, *flags, expect=0, env=None):
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{command}", *map(str, flags)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
        timeout=280,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def _config(name="glow_digits"):
    return f"--config=experiments/configs/{name}.py:smoke"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of glow_digits in its smoke form, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    flags = f"--workdir={folder / 'run'}", f"--config.data.data_dir={folder}"
    faster = {"XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS"}  # of conftest.py
    as_a_user = {name: value for name, value in os.environ.items() if name not in faster}
    done = _run("train", _config(), *flags, env=as_a_user)
    return folder / "run", done.stdout


def test_train_prints_the_table(trained):
    _, printed = trained
    for row in ("data set", "split", "examples", "levels", "weights", "dequantization", "bits/dim"):
        assert row in printed
    for row in ("standard error", "round-trip error", "parameters", "examples/s", "step      4/4"):
        assert row in printed


def test_evaluate_needs_no_config(trained, tmp_path):
    workdir, _ = trained
    out = tmp_path / "record.json"
    flags = ("--split=valid", "--draws=3", "--weights=raw", "--batch_size=50", f"--out={out}")
    done = _run("evaluate", f"--workdir={workdir}", *flags)
    record = json.loads(out.read_text())
    assert json.loads(done.stdout) == record
    assert (record["split"], record["examples"], record["draws"]) == ("valid", 144, 3)
    assert record["weights"] == "raw"
    assert f"{record['bits_per_dim']:.4f}" in done.stderr
    assert "evaluate      9/9" in done.stderr


def test_other_protocols_are_saved_beside_the_runs_own_record(trained, tmp_path):
    workdir, _ = trained
    own = (workdir / "evaluation.json").read_text()
    _run("evaluate", f"--workdir={workdir}", "--importance=3")
    assert (workdir / "evaluation.json").read_text() == own
    other = workdir / "evaluation_importance=3.json"
    assert json.loads(other.read_text())["importance_samples"] == 3

    empty = tmp_path / "empty"
    empty.mkdir()
    done = _run("table", workdir, other, empty)
    assert f"{empty}/evaluation.json" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    rows = [line for line in done.stdout.splitlines() if line.startswith("| run | glow | digits |")]
    assert len(rows) == 2
    _run("table", workdir, f"--out={tmp_path / 'table.md'}")
    assert (tmp_path / "table.md").read_text().startswith("| run | model |")


def test_sample_writes_a_picture(trained, tmp_path):
    workdir, _ = trained
    out = tmp_path / "samples.png"
    _run("sample", f"--workdir={workdir}", "--num=5", "--temperature=0.5", f"--out={out}")
    image = np.asarray(Image.open(out))
    assert image.shape == (2 * 66 + 2, 3 * 66 + 2, 3)
    assert image.std() > 0


@pytest.mark.slow
def test_a_run_on_a_table_is_evaluated_and_sampled_as_numbers(tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    path = f"--config.data.path={write_table(tmp_path)}"
    assert (
        "nats in the data's own units" in _run("train", _config("table_spline"), workdir, path).stdout
    )
    assert "valid" in _run("evaluate", workdir, "--split=valid", "--draws=3").stdout
    for name, read in (
        ("s.npy", np.load),
        ("s.csv", lambda p: np.loadtxt(p, skiprows=1, delimiter=",")),
    ):
        _run("sample", workdir, "--num=300", f"--out={tmp_path / name}")
        assert read(tmp_path / name).shape == (300, 4)
    assert (tmp_path / "s.csv").read_text().startswith('"a","b","c d","e"\n')
    done = _run("sample", workdir, f"--out={tmp_path / 's.png'}", expect=2)
    assert "--out must end in .npy or .csv for vectors of 4 numbers; got" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s.png").exists()


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        (
            "train",
            [_config(), "--config.parallel.distributed=True"],
            "to start the processes; found none",
        ),
        ("evaluate", [], "there is no run in"),
    ],
)
def test_a_mistake_ends_with_one_line(tmp_path, command, flags, message):
    done = _run(command, f"--workdir={tmp_path / 'run'}", *flags, expect=2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "home/.cache/flowjax_glow/jax"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/flowjax_glow/jax"),
        ({"XDG_CACHE_HOME": "xdg", "JAX_COMPILATION_CACHE_DIR": "own"}, "own"),
        ({"JAX_ENABLE_COMPILATION_CACHE": "false"}, None),
    ],
    ids=["default", "xdg", "own", "off"],
)
def test_compiled_programs_are_kept(environment, folder, tmp_path, monkeypatch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value if value == "false" else str(tmp_path / value))
    code = "import jax, experiments.command as c; c.start(); jax.jit(lambda x: x + 1)(2.0)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
    assert {path.parent for path in tmp_path.rglob("jit*")} == (
        {tmp_path / folder} if folder else set()
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Where the local sets lie, once the first has prepared them."""
    return tmp_path_factory.mktemp("prepared")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LOCAL if name != "glow_digits"])
def test_every_local_config_trains_in_its_smoke_form(name, prepared, tmp_path):
    workdir = tmp_path / "run"
    flags = [f"--workdir={workdir}", f"--config.data.data_dir={prepared}"]
    if name.startswith("table"):
        flags.append(f"--config.data.path={write_table(tmp_path)}")
    _run("train", _config(name), *flags)
    assert json.loads((workdir / "evaluation.json").read_text())["step"] > 0
