"""The record of an evaluation: one flat JSON object with the number and all that it depends on."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from flowjax_glow.likelihood import unit_of

_PACKAGES = ("flowjax-glow", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment() -> dict[str, Any]:
    """Versions of Python and the libraries, and the commit of the code, None outside a checkout."""
    return {"versions": _versions(), "commit": _commit()}


def write_record(path: str | os.PathLike[str], record: dict[str, Any]) -> None:
    """Writes a record whole, or not at all; makes its folder where there is none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(json.dumps(record, indent=2) + "\n")
    partial.replace(path)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A record that write_record wrote.

    Raises:
      FileNotFoundError: where there is none.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; experiments.evaluate writes it")
    return json.loads(path.read_text())


def print_record(record: dict[str, Any], *, stderr: bool = False) -> None:
    """Prints the record as a table for a person."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{record['model']} on {record['data_set']}", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in record_rows(record):
        table.add_row(name, value)
    Console(stderr=stderr).print(table)


def record_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What a record says, in words: names and values."""
    r = record
    unit, speed, seconds = unit_of(r["n_bins"]), r["examples_per_second"], r["training_seconds"]
    error = f"{r['round_trip_error']:.1e}"
    rows = [
        ("data set", f"{r['data_set']} ({', '.join(filter(None, (r['build'], r['version'])))})"),
        ("split", r["split"]),
        ("examples", f"{r['examples']:,}"),
        ("weights", f"{r['weights']}, step {r['step']:,} (best on valid)"),
        (unit.symbol, f"{r[unit.field]:.4f}{_plus_minus(r['standard_error'])} (standard error)"),
    ]
    if r["standard_error_of_draws"] is not None:
        rows += [("over the draws", f"{r['standard_error_of_draws']:.1e} (standard error)")]
    if r["estimated"]:
        rows += [("log-determinant", f"an unbiased estimate, {r['draws']} draws")]
    if r["n_bins"] is None:
        rows += [("nats in the data's own units", f"{r['nats_in_own_units']:.4f}")]
        if r["nats_of_truth"] is not None:
            rows += [("nats of the true density", f"{r['nats_of_truth']:.4f}")]
        rows += [("round-trip error", error)]
    else:
        rows += [
            ("levels of a pixel", str(r["n_bins"])),
            ("dequantization", f"{r['dequantization']}, {r['draws']} draws"),
            ("importance samples K", str(r["importance_samples"])),
            ("round-trip error", f"{error}; {_share(r['exact_images'])} images exact"),
        ]
    if r["eval_model"]:
        changes = ", ".join(f"{name} = {value}" for name, value in r["eval_model"].items())
        rows += [("model in evaluation", changes)]
    return [
        *rows,
        ("samples at temperature 1.0", f"{_share(r['finite_samples'])} {r['samples']:,} finite"),
        ("trained parameters", f"{r['parameters']:,}"),
        ("training examples/s", "not measured" if speed is None else f"{speed:,.0f}"),
        ("training time", "not measured" if seconds is None else duration(seconds)),
    ]


def duration(seconds: float) -> str:
    """A time in its two largest units: "1 d 3 h", "2 h 5 min", "4 min 10 s", "12 s"."""
    left, parts = round(seconds), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _plus_minus(error: float | None) -> str:
    return "" if error is None else f" ± {error:.4f}"


def _share(share: float) -> str:
    return "all" if share == 1.0 else f"{share:.2%} of"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # run from a checkout that is not installed
    return found


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
