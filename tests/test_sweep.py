"""Sweeps: the commands they come to, and what is done with them."""

import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.runs import command, read_sweep, slurm_script
from flowjax_glow.report.plots import sweep_curves

ROOT = Path(__file__).parents[1]
ABLATION = "experiments/configs/glow_ablation.py"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """One cache of compiled programs for all runs, and none of the user's."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def _sweep(*flags, expect=0):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.sweep", *map(str, flags)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def _config(folder, *entries):
    """glow_digits with a sweep."""
    path = folder / "config.py"
    path.write_text(
        "from experiments.configs.glow_digits import get_config\n"
        f"def get_sweep():\n    return {list(entries)}\n"
    )
    return str(path)


def _read(config, workdir="w", *, seeds=None, common=None):
    return read_sweep(config, workdir, seeds=seeds, common=common or {})


def test_the_papers_ablation_is_printed_as_18_commands():
    lines = _sweep(f"--config={ABLATION}", "--workdir=runs/an ablation").stdout.splitlines()
    couplings, permutations, seeds = (
        ("additive", "affine"),
        ("reverse", "shuffle", "conv1x1"),
        (0, 1, 2),
    )
    assert {tuple(shlex.split(line)) for line in lines} == {
        (
            *("python", "-m", "experiments.train", f"--config={ABLATION}"),
            f"--workdir=runs/an ablation/{coupling},{permutation},seed={seed}",
            f"--config.model.coupling={coupling}",
            f"--config.model.permutation={permutation}",
            f"--config.seed={seed}",
        )
        for coupling, permutation, seed in itertools.product(couplings, permutations, seeds)
    }
    assert len(lines) == 18


def test_names_arguments_seeds_and_common_overrides(tmp_path):
    config = _config(
        tmp_path,
        {"name": "a b", "model.depth": 3, "config_string": "smoke"},
        {"optimizer.learning_rate": 1e-4, "model.permutation": "plu"},
    )
    runs = _read(config, seeds=2, common={"model.depth": 5})
    assert [run.name for run in runs] == [
        *("a b,seed=0", "a b,seed=1"),
        *("learning_rate=0.0001,plu,seed=0", "learning_rate=0.0001,plu,seed=1"),
    ]
    assert [run.config.seed for run in runs] == [0, 1, 0, 1]
    assert [run.config.model.depth for run in runs] == [3, 3, 5, 5]
    assert [run.config.model.width for run in runs] == [8, 8, 48, 48]  # in its smoke form, 8
    assert runs[2].config.optimizer.learning_rate == 1e-4
    assert [run.label for run in runs[::2]] == [
        ("depth=3", "smoke"),
        ("learning_rate=0.0001", "plu"),
    ]
    assert f"--config={config}:smoke '--workdir=w/a b,seed=0'" in command(runs[0])


def test_a_config_without_get_sweep_is_a_sweep_of_seeds():
    config = "experiments/configs/glow_digits.py"
    runs = _read(f"{config}:smoke", seeds=3)
    assert [run.name for run in runs] == ["seed=0", "seed=1", "seed=2"]
    assert [run.config.seed for run in runs] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"must have get_sweep\(\), or --seeds be given; got neither"):
        _read(config)


@pytest.mark.parametrize(
    ("entries", "seeds", "message"),
    [
        ([{"seed": 1}, {"model.depht": 3}], None, "run depht=3: .*depht"),
        ([{"model.depth": "many"}], None, "run many: .*depth=many"),
        ([{"model.width": 2.5}], None, "run width=2.5: .*width=2.5"),
        ([{"seed": None}], None, "seed must be a number, string, bool or tuple; got None"),
        ([{"seed": 1}], 2, "must leave seed to --seeds; got seed = 1"),
        ([{"seed": 1, "name": "a"}, {"seed": 2, "name": "a"}], None, r"of its own; got \['a'\] twice"),
        ([{"config_string": "smokey"}], None, "must be 'smoke' or nothing; got 'smokey'"),
        ([], None, r"at least one run; got \[\]"),
    ],
)
def test_what_the_config_lacks_is_refused(tmp_path, entries, seeds, message):
    with pytest.raises(ValueError, match=message) as caught:
        _read(_config(tmp_path, *entries), seeds=seeds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "flags", "message"),
    [
        ({"model.depht": 3}, ["--run"], "depht"),
        ({"seed": 1}, ["--run", "--plot=a.png"], "may be given; got ['run', 'plot']"),
        ({"seed": 1}, ["--plot=a.png"], "there is nothing to plot in"),
    ],
)
def test_a_mistake_ends_with_one_line_before_anything_runs(tmp_path, entry, flags, message):
    config = _config(tmp_path, {"seed": 0}, entry)
    done = _sweep(f"--config={config}", f"--workdir={tmp_path / 'runs'}", *flags, expect=2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert not done.stdout
    assert not (tmp_path / "runs").exists()


def test_the_slurm_array_starts_the_run_of_its_task(tmp_path):
    runs = _read(ABLATION, "runs/an ablation")
    script, said, srun = (tmp_path / name for name in ("sweep.sbatch", "said", "srun"))
    script.write_text(slurm_script(runs, "glow_ablation"))
    assert "#SBATCH --array=0-17\n" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True)
    srun.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {said}\n")
    srun.chmod(0o755)
    for task in (0, 17):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(task)}
        subprocess.run(["bash", script], env=environment, check=True, timeout=60)
        arguments = said.read_text().splitlines()
        expected = [*shlex.split(command(runs[task]))[1:], "--config.parallel.distributed=True"]
        assert arguments[arguments.index("-m") :] == expected


def _drawn(groups, path):
    sweep_curves(groups, path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_labels_of_several_parts_have_a_panel_for_each_first_part(tmp_path):
    runs = [{10: 4.0, 20: 3.5}, {10: 4.1}]  # one is not as far as the other
    for labels, panels in (
        ([("a", "x"), ("a", "y"), ("b", "x")], 2),
        ([("a",), ("b", "x")], 1),
        ([()], 1),
    ):
        height, width, _ = _drawn(dict.fromkeys(labels, runs), tmp_path / "curves.png").shape
        assert round(width / height / 1.2) == panels


def test_curves_are_seen_to_fall_to_their_end_though_the_first_steps_are_high(tmp_path):
    picture = _drawn({("a",): [{s: 3 + 90 / s**2 for s in range(1, 101)}]}, tmp_path / "curves.png")
    height, width, _ = picture.shape
    blue = (picture[..., 2] - picture[..., 0] > 100)[:, int(0.3 * width) : int(0.6 * width)]
    assert np.ptp(np.nonzero(blue)[0]) > 0.4 * height


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_runs_are_done_once_and_one_that_fails_stops_no_other(tmp_path):
    workdir = tmp_path / "runs"
    flags = [f"--workdir={workdir}", f"--config.data.data_dir={tmp_path}"]
    flags += [f"--config.{field}" for field in ("model.levels=1", "model.depth=1", "eval.samples=4")]
    config = _config(tmp_path, {"seed": 0}, {"model.levels": 4, "seed": 0}, {"seed": 1})
    printed = _sweep(f"--config={config}:smoke", *flags, "--run", expect=1).stdout
    *_, good, bad, other = printed.splitlines()
    assert "3/3 seed=1: its output goes to" in printed
    for line, seed in ((good, 0), (other, 1)):
        record = json.loads((workdir / f"seed={seed}/evaluation.json").read_text())
        assert record["seed"] == seed
        assert line.split()[:2] == [f"seed={seed}", f"{record['bits_per_dim']:.4f}"]
        assert "step      4/4" in (workdir / f"seed={seed}/train.log").read_text()
    assert bad.startswith("levels=4,seed=0  exit code 2: error: height and width must be divisible")

    def times():
        return {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}

    before = times()
    config = f"--config={_config(tmp_path, {'seed': 0}, {'seed': 1})}:smoke"
    again = _sweep(config, *flags, "--run").stdout.splitlines()
    assert again[:3] == ["1/2 seed=0: was done before", "2/2 seed=1: was done before", ""]
    assert [line.split() for line in again[3:]] == [good.split(), other.split()]
    assert times() == before

    picture = f"--plot={tmp_path / 'curves.png'}"
    assert "2 of 2 runs, 1 lines" in _sweep(config, *flags, picture).stdout
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

    config = f"--config={_config(tmp_path, {'seed': 0})}:smoke"
    _sweep(config, *flags, "--config.train.steps=6", "--run")
    assert "goes on from step 4" in (workdir / "seed=0/train.log").read_text()
