"""The runs of a config's sweep, as experiments.sweep describes it: their overrides and commands."""

import re
import runpy
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from experiments.command import define_config, parse_flags
from flowjax_glow.training.config import Config

_NO_FIELDS = ("name", "config_string")

_SLURM = """\
#!/usr/bin/env bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# A run of the sweep for each task of the array, by experiments/launch/slurm.sbatch, which says more.
# Submit it in the checkout; on the command line, --nodes, --ntasks-per-node and --gpus-per-node give
# each run more, and --array=3,7 submits some runs alone.
set -euo pipefail

cd "${{SLURM_SUBMIT_DIR:-.}}"
case "${{SLURM_ARRAY_TASK_ID:?}}" in
{cases}
esac
exec bash experiments/launch/slurm.sbatch "$@"
"""


class Run(NamedTuple):
    """One run of a sweep. label: what sets it apart, but for the seed. flags: of experiments.train."""

    name: str
    label: tuple[str, ...]
    workdir: Path
    flags: tuple[str, ...]
    config: Config


def read_sweep(path: str, workdir: str, *, seeds: int | None, common: dict[str, Any]) -> list[Run]:
    """The runs of the sweep of a config file, FILE.py or FILE.py:ARG.

    common: overrides for all runs, where they have none of their own.

    Raises:
      ValueError, FileNotFoundError: for a sweep that cannot be, or of fields that the config lacks.
    """
    file, _, argument = path.partition(":")
    get_sweep = None if file.endswith(".json") else runpy.run_path(file).get("get_sweep")
    if get_sweep is None and seeds is None:
        raise ValueError(f"{file} must have get_sweep(), or --seeds be given; got neither")
    entries = [{}] if get_sweep is None else get_sweep()
    if not entries:
        raise ValueError("get_sweep() must name at least one run; got []")
    if seeds is not None:
        entries = [_with_seed(entry, seed) for entry in entries for seed in range(seeds)]
    runs = [_run(entry, file, argument, Path(workdir), common) for entry in entries]
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"each run must have a name of its own; got {twice} twice; 'name' gives one")
    return runs


def _with_seed(entry: dict[str, Any], seed: int) -> dict[str, Any]:
    if "seed" in entry:
        raise ValueError(f"get_sweep() must leave seed to --seeds; got seed = {entry['seed']} from it")
    named = {"name": f"{entry['name']},seed={seed}"} if "name" in entry else {}
    return {**entry, **named, "seed": seed}


def _run(entry: dict[str, Any], file: str, argument: str, workdir: Path, common: dict[str, Any]) -> Run:
    overrides = {field: value for field, value in entry.items() if field not in _NO_FIELDS}
    for field, value in overrides.items():
        if not isinstance(value, bool | int | float | str | tuple):
            raise ValueError(f"{field} must be a number, string, bool or tuple; got {value!r}")
    words = ",".join(_in_words(entry))
    name = entry.get("name") or re.sub(r"[^\w.,=+-]+", "_", words) or "default"
    argument = entry.get("config_string", argument)
    given = (
        f"--config={file}:{argument}" if argument else f"--config={file}",
        f"--workdir={workdir / name}",
        *(f"--config.{field}={value}" for field, value in {**common, **overrides}.items()),
    )
    label = _in_words({field: value for field, value in entry.items() if field != "seed"})
    return Run(name, label, workdir / name, given, _parse(name, given))


def _in_words(entry: dict[str, Any]) -> tuple[str, ...]:
    """What a run overrides, in few words: a string alone, all else as field=value."""
    return tuple(
        value if isinstance(value, str) else f"{field.rpartition('.')[2]}={value}"
        for field, value in entry.items()
        if field != "name" and value != ""
    )


def _parse(name: str, given: tuple[str, ...]) -> Config:
    """The config that experiments.train makes of its flags."""
    argv, values = ["experiments.train", *given], flags.FlagValues()
    define_config("", values=values, argv=argv)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    try:
        parse_flags(argv, values)
    except ValueError as error:
        raise ValueError(f"run {name}: {error}") from error
    return values["config"].value


def command(run: Run) -> str:
    """What starts the run, for a shell."""
    return shlex.join(["python", "-m", "experiments.train", *run.flags])


def slurm_script(runs: list[Run], name: str) -> str:
    """An sbatch script: an array of as many tasks as there are runs."""
    cases = [f"  {i}) set -- {shlex.join(run.flags)} ;;" for i, run in enumerate(runs)]
    return _SLURM.format(name=name, last=len(runs) - 1, cases="\n".join(cases))
