"""The config of a run, as its folder keeps it."""

import hashlib
import json
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
    "parallel.",
    "model.memory",
    "eval.",
    "paper.",
    "data.data_dir",
    "data.download",
    "data.memory_gib",
)


def write_config(workdir: Path, config: Config) -> None:
    """Saves the resolved config; where there is one already, checks that it is the same run's.

    Of several processes the first saves, and all check.

    Raises:
      ValueError: naming the fields that differ from those the run in workdir was begun with.
    """
    before = read_config(workdir)
    if before is not None:
        old, new = dict(_flat(before)), dict(_flat(config))
        differ = [
            f"{k} = {old.get(k)!r} there, {new.get(k)!r} here"
            for k in sorted(old.keys() | new.keys())
            if old.get(k) != new.get(k) and not k.startswith(_MAY_CHANGE)
        ]
        if differ:
            raise ValueError(
                f"{workdir} holds a run of another config; take another workdir, or go on with its "
                f"own: {'; '.join(differ)}"
            )
    if jax.process_index() != 0:
        return
    workdir.mkdir(parents=True, exist_ok=True)
    partial = workdir / "config.json.tmp"
    partial.write_text(config.to_json(indent=2) + "\n")
    partial.replace(workdir / "config.json")


def read_config(workdir: str | Path) -> Config | None:
    """The config of a run's folder; None where there is none."""
    path = Path(workdir) / "config.json"
    return ConfigDict(json.loads(path.read_text())) if path.exists() else None


def fingerprint(config: Config) -> str:
    """Twelve hex digits of all that makes a run but its seed.

    Equal where runs differ in the seed alone, and in what changes no result: devices, memory, reports,
    and how they are evaluated.
    """
    flat = dict(_flat(config))
    counts = {k: v for k, v in flat.items() if k != "seed" and not k.startswith(_MAY_CHANGE)}
    counts["train.steps"] = flat["train.steps"]
    return hashlib.sha256(json.dumps(counts, sort_keys=True).encode()).hexdigest()[:12]


def _flat(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
