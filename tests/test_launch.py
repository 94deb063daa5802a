"""Many processes: the local launcher, and a run that goes on with other numbers of them."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from flowjax_glow.training.metrics import read_metrics

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "experiments/launch"


def _start(processes, devices, *command):
    flags = [f"--processes={processes}", f"--devices={devices}", "--", *map(str, command)]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.launch.local", *flags],
        cwd=ROOT,
        env={
            **os.environ,
            "JAX_ENABLE_COMPILATION_CACHE": "false",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(launcher, timeout=60):
    """The exit code and what was printed; nothing is left running."""
    try:
        printed, _ = launcher.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        launcher.terminate()  # ends its processes within its grace
        printed, _ = launcher.communicate()
        pytest.fail(f"no end after {timeout} s:\n{printed}")
    return launcher.returncode, printed


def test_each_process_knows_its_number_and_its_lines_bear_it():
    code = "import os; print('I am', os.environ['OMPI_COMM_WORLD_RANK'], flush=True)"
    status, printed = _finish(_start(3, 1, "-c", code))
    assert status == 0
    assert sorted(printed.splitlines()) == [f"[{i}] I am {i}" for i in range(3)]


def test_when_one_process_fails_the_others_are_killed_and_its_code_is_the_launchers():
    code = "import os, time; os.environ['OMPI_COMM_WORLD_RANK'] == '1' and os._exit(7); time.sleep(120)"
    started = time.monotonic()
    assert _finish(_start(2, 1, "-c", code))[0] == 7
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(number):
    code = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: (print('asked', flush=True), sys.exit(5)))\n"
        "print('ready', flush=True); time.sleep(120)"
    )
    launcher = _start(2, 1, "-c", code)
    assert launcher.stdout is not None
    assert sorted(launcher.stdout.readline() for _ in range(2)) == ["[0] ready\n", "[1] ready\n"]
    launcher.send_signal(number)
    status, printed = _finish(launcher)
    assert status == 5
    assert sorted(printed.splitlines()) == ["[0] asked", "[1] asked"]


def _with_fake(tool, tmp_path):
    """An environment in which `tool` writes its arguments to a file, one a line, and the file."""
    said = tmp_path / "said"
    fake = tmp_path / "bin" / tool
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >> {said}\n")
    fake.chmod(0o755)
    return {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}, said


TRAIN = "-m experiments.train --config=a.py --workdir=/runs/a b --config.parallel.distributed=True"


def test_the_slurm_job_starts_a_process_a_task(tmp_path):
    environment, said = _with_fake("srun", tmp_path)
    script = LAUNCH / "slurm.sbatch"
    flags = ["--config=a.py", "--workdir=/runs/a b"]
    subprocess.run(["bash", script, *flags], env=environment, cwd=ROOT, check=True, timeout=60)
    assert " ".join(said.read_text().splitlines()).endswith(f".venv/bin/python {TRAIN}")


def test_the_tpu_script_copies_the_commit_and_trains_on_every_worker(tmp_path):
    environment, said = _with_fake("gcloud", tmp_path)
    environment |= {"TPU": "pod", "ZONE": "here"}
    flags = ["--config=a.py", "--workdir=/runs/a b"]
    subprocess.run([LAUNCH / "tpu_pod.sh", *flags], env=environment, check=True, timeout=60)
    lines = said.read_text().splitlines()
    assert lines.count("--worker=all") == 2
    assert lines.index("scp") < lines.index("ssh")
    assert " ".join(shlex.split(lines[-1])) == f".venv/bin/python {TRAIN}"


def test_the_jobset_is_what_jax_finds_its_processes_by():
    documents = list(yaml.safe_load_all((LAUNCH / "jobset.yaml").read_text()))
    kinds = {document["kind"]: document for document in documents}
    (job,) = kinds["JobSet"]["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] == spec["completions"]
    pod = spec["template"]["spec"]
    assert pod["serviceAccountName"] == kinds["RoleBinding"]["subjects"][0]["name"]
    assert kinds["RoleBinding"]["roleRef"]["name"] == kinds["Role"]["metadata"]["name"]
    (container,) = pod["containers"]
    assert "--config.parallel.distributed=True" in container["args"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert volumes == {mount["name"] for mount in container["volumeMounts"]}


def _train(folder, workdir, processes, devices, *flags):
    return _start(
        *(processes, devices, "-m", "experiments.train"),
        "--config=experiments/configs/glow_digits.py:smoke",
        f"--workdir={workdir}",
        f"--config.data.data_dir={folder}",
        f"--config.parallel.distributed={processes > 1}",
        *("--config.model.levels=1", "--config.model.depth=1", "--config.model.width=4"),
        *("--config.model.dropout=0.0", "--config.optimizer.schedule=constant"),
        *("--config.train.eval_every=3", "--config.eval.samples=4", *flags),
    )


def _losses(workdir):
    return {
        (r["step"], name): r[name]
        for r in read_metrics(workdir)
        for name in ("bits_per_dim", "valid_bits_per_dim")
        if name in r
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_stopped_on_2_x_4_devices_goes_on_as_1_x_8_and_as_1_x_2(tmp_path):
    stopped = tmp_path / "stopped"
    launcher = _train(tmp_path, stopped, 2, 4, "--config.train.steps=1000000")
    deadline = time.monotonic() + 240
    while (1, "bits_per_dim") not in _losses(stopped):
        assert launcher.poll() is None, _finish(launcher)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    launcher.send_signal(signal.SIGTERM)
    status, printed = _finish(launcher, timeout=120)
    assert status == 128 + signal.SIGTERM, printed
    reached = max(int(p.name) for p in (stopped / "checkpoints").iterdir() if p.name.isdigit())
    assert f"stopped at step {reached}, which is saved" in printed

    steps = f"--config.train.steps={reached + 4}"
    workdirs = {devices: tmp_path / f"1x{devices}" for devices in (8, 2)}
    for devices, workdir in workdirs.items():
        shutil.copytree(stopped, workdir)
        status, printed = _finish(_train(tmp_path, workdir, 1, devices, steps), timeout=240)
        assert status == 0, printed
        assert f"goes on from step {reached}" in printed
        assert f"{devices} devices" in printed
    whole = tmp_path / "whole"
    status, printed = _finish(_train(tmp_path, whole, 1, 1, steps), timeout=240)
    assert status == 0, printed

    expected = _losses(whole)
    assert len(expected) > reached + 4
    for workdir in workdirs.values():
        # Sums in float32 in another order.
        assert _losses(workdir) == pytest.approx(expected, abs=1e-5)
        records = [json.loads((w / "evaluation.json").read_text()) for w in (workdir, whole)]
        assert records[0]["bits_per_dim"] == pytest.approx(records[1]["bits_per_dim"], abs=1e-5)
