r"""The runs of a config's sweep: prints their commands, runs them, or plots them.

python -m experiments.sweep --config=experiments/configs/glow_ablation.py --workdir=runs/ablation \
    [--seeds=3] [--run | --slurm=FILE.sbatch | --plot=FILE.png]

The config's file says what its sweep is, by a function beside get_config:

    def get_sweep() -> list[dict[str, Any]]

Each dict is a run, and its items are what it overrides in the config, by dotted field names:
{"model.coupling": "additive", "seed": 1}. Values are numbers, strings, bools or tuples. Two keys are no
fields: "name", of the run's folder in workdir, by default made from the overrides ("additive,seed=1"),
and "config_string", what stands after the colon in --config=FILE.py:ARG. --seeds=N makes N runs of
each, with seeds 0 to N - 1; a config without get_sweep is then a sweep of seeds. --config.FIELD=VALUE
changes the config of all runs, as it does for experiments.train.

Without a flag it prints the commands, one a line, for any machine and in any order. --run runs them one
after the other, with the output of each in train.log of its folder; what was finished is left alone,
and what was begun goes on: after a stop, give the same line again. --slurm writes a script for sbatch,
an array of a task a run. --plot draws the loss on valid of what the folders hold by then: the mean over
seeds, and from the lowest to the highest. For a table of the results see experiments.table.
"""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from experiments.command import define_config, one_line, run_main
from experiments.runs import Run, command, read_sweep, slurm_script
from flowjax_glow.likelihood import BITS_PER_DIM, NATS, unit_of
from flowjax_glow.report.plots import sweep_curves
from flowjax_glow.report.record import read_record
from flowjax_glow.training.config import check_writable, read_config
from flowjax_glow.training.metrics import read_metrics

CONFIG = define_config("The file with get_config and get_sweep.")
WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the runs' folders.", required=True)
SEEDS = flags.DEFINE_integer("seeds", None, "How many of each run, from seed 0.", lower_bound=1)
RUN = flags.DEFINE_bool("run", False, "Run them here, one after the other.")
SLURM = flags.DEFINE_string("slurm", None, "The script to write, an array of jobs.")
PLOT = flags.DEFINE_string("plot", None, "The picture to write.")


def run_here(runs: list[Run]) -> bool:
    """Runs one after the other what is not done, then prints a line for each; whether none failed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    failed = {}
    for i, run in enumerate(runs, 1):
        where, log = f"{i}/{len(runs)} {run.name}", run.workdir / "train.log"
        if _is_done(run):
            print(f"{where}: was done before", flush=True)
            continue
        print(f"{where}: its output goes to {log}", flush=True)
        started = time.monotonic()
        code = _train(run, log)
        if code:
            failed[run.name] = f"exit code {code}: {_last_line(log)}"
        print(
            f"{where}: {failed.get(run.name, 'done')} ({time.monotonic() - started:,.0f} s)", flush=True
        )
    print()
    width = max(len(run.name) for run in runs)
    for run in runs:
        print(f"{run.name:{width}}  {failed.get(run.name) or _result(run)}")
    return not failed


def _stop(number: int, _: Any) -> None:
    raise SystemExit(128 + number)


def _train(run: Run, log: Path) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-u", "-m", "experiments.train", *run.flags]
    with log.open("a") as out:
        print(f"$ {command(run)}", file=out, flush=True)
        with subprocess.Popen(arguments, stdout=out, stderr=subprocess.STDOUT) as process:
            try:
                return process.wait()
            except SystemExit:
                process.terminate()
                raise


def _is_done(run: Run) -> bool:
    """Whether the folder holds the evaluation of this very config, trained to its last step.

    For any other, experiments.train knows whether it may go on.
    """
    before = read_config(run.workdir)
    if before is None or not (run.workdir / "evaluation.json").exists():
        return False
    if run.config.data.version is None:
        before.data.version = None  # a run writes which it found
    same = json.loads(before.to_json()) == json.loads(run.config.to_json())
    reached = max((record["step"] for record in read_metrics(run.workdir)), default=0)
    return same and reached >= run.config.train.steps


def _last_line(log: Path) -> str:
    return log.read_text(errors="replace").rstrip().rpartition("\n")[2]


def _result(run: Run) -> str:
    record = read_record(run.workdir / "evaluation.json")
    unit = unit_of(record["n_bins"])
    return f"{record[unit.field]:.4f} ± {record['standard_error']:.4f} {unit.symbol}"


def plot(runs: list[Run], path: str) -> None:
    """Draws what the runs' folders hold of the loss on valid.

    Raises:
      FileNotFoundError: where they hold nothing yet.
    """
    records = {run.name: read_metrics(run.workdir) for run in runs}
    logged = {field for log in records.values() for record in log for field in record}
    unit = NATS if f"valid_{NATS.field}" in logged else BITS_PER_DIM
    field = f"valid_{unit.field}"
    if field not in logged:
        raise FileNotFoundError(f"there is nothing to plot in {WORKDIR.value} yet; --run starts it")
    groups: dict[tuple[str, ...], list[dict[int, float]]] = {}
    for run in runs:
        curve = {record["step"]: record[field] for record in records[run.name] if field in record}
        if curve:
            groups.setdefault(run.label, []).append(curve)
    sweep_curves(groups, path, unit=unit)
    drawn = sum(len(curves) for curves in groups.values())
    print(f"{path}: {drawn} of {len(runs)} runs, {len(groups)} lines")


def main(argv: list[str]) -> None:
    """Prints the commands, or does with the runs what the flags say."""
    del argv
    asked = [flag.name for flag in (RUN, SLURM, PLOT) if flag.value]
    config = flags.FLAGS["config"]
    path = config_flags.get_config_filename(config)
    with one_line(ValueError, OSError):
        if len(asked) > 1:
            raise ValueError(f"one of --run, --slurm and --plot may be given; got {asked}")
        if RUN.value:
            check_writable(WORKDIR.value, "--workdir")
        common = config_flags.get_override_values(config)
        runs = read_sweep(path, WORKDIR.value, seeds=SEEDS.value, common=common)
        if PLOT.value:
            plot(runs, PLOT.value)
    if RUN.value:
        raise SystemExit(0 if run_here(runs) else 1)
    if SLURM.value:
        name = Path(path.partition(":")[0]).stem
        Path(SLURM.value).write_text(slurm_script(runs, name))
        print(
            f"{SLURM.value}: an array of {len(runs)} runs; sbatch {shlex.quote(SLURM.value)} starts it"
        )
    if not asked:
        print(*map(command, runs), sep="\n")


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    run_main(main)
