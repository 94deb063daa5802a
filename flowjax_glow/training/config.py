"""The config of a run, as its folder keeps it."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

# A ConfigDict with the fields of experiments/configs/default.py. Its attributes have no static types.
Config = Any

# What may differ between the config a run was begun with and the one it goes on with: how long, how
# often it reports, on what devices, in how much memory, and how it is evaluated.
_MAY_CHANGE = (
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "train.accumulate",
    "train.steps_per_call",
    "train.max_bad_steps",
    "train.watch",  # and watch_tolerance
    "parallel.",
    "model.memory",
    "eval.",
    "paper.",
    "data.data_dir",
    "data.download",
    "data.memory_gib",
)


def check_same_run(workdir: str | Path, config: Config) -> None:
    """Whether workdir is free, or holds a run of this very config.

    Raises:
      ValueError: naming the fields that differ from those the run in workdir was begun with.
    """
    before = read_config(workdir)
    if before is None and any(Path(workdir).glob("checkpoints/*")):
        raise ValueError(
            f"workdir must hold config.json, of the run of its checkpoints; {workdir} has none: "
            "put it back, or take another workdir"
        )
    if before is not None:
        old, new = dict(flatten(before)), dict(flatten(config))
        differ = [
            f"{k} = {old.get(k)!r} there, {new.get(k)!r} here"
            for k in sorted(old.keys() | new.keys())
            if old.get(k) != new.get(k) and not k.startswith(_MAY_CHANGE)
        ]
        if differ:
            raise ValueError(
                f"{workdir} holds a run of another config; take another workdir, or go on with its "
                f"own, --config={workdir}/config.json: {'; '.join(differ)}"
            )


def check_writable(folder: str | os.PathLike[str], field: str) -> None:
    """Whether files can be made in a folder, or in the nearest one above it that is there.

    Nothing is left in it.

    Raises:
      ValueError: naming the field that asked for the folder.
    """
    if not os.fspath(folder):
        raise ValueError(f"{field} must name a folder; got ''")
    path = Path(folder).absolute()
    try:
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        reason = error.strerror or "no file can be made there"
        raise ValueError(
            f"{field} must be a folder that can be written to; got {folder}: {reason}; choose another"
        ) from error


def write_config(workdir: str | Path, config: Config) -> None:
    """Saves the resolved config; of several processes the first does."""
    workdir = Path(workdir)
    if jax.process_index() != 0:
        return
    workdir.mkdir(parents=True, exist_ok=True)
    partial = workdir / "config.json.tmp"
    partial.write_text(config.to_json(indent=2) + "\n")
    partial.replace(workdir / "config.json")


def read_config(workdir: str | Path) -> Config | None:
    """The config of a run's folder; None where there is none.

    Raises:
      ValueError: where what is there is none.
    """
    path = Path(workdir) / "config.json"
    return ConfigDict(read_json(path)) if path.exists() else None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, which is read and not run; rows of it are tuples.

    Raises:
      ValueError: for a file that holds none.
    """
    try:
        read = json.loads(path.read_text(), object_hook=_with_tuples)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be JSON; {error}") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path} must be a JSON object, with sections; got a {type(read).__name__}")
    return read


def _with_tuples(read: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in read.items()}


def fingerprint(config: Config) -> str:
    """Twelve hex digits of all that makes a run but its seed.

    Equal where runs differ in the seed alone, and in what changes no result: devices, memory, reports,
    and how they are evaluated.
    """
    flat = dict(flatten(config))
    counts = {k: v for k, v in flat.items() if k != "seed" and not k.startswith(_MAY_CHANGE)}
    counts["train.steps"] = flat["train.steps"]
    return hashlib.sha256(json.dumps(counts, sort_keys=True).encode()).hexdigest()[:12]


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a config or dict by their dotted names; a section without fields has none."""
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
