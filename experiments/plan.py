"""What a config's run would take on an accelerator: FLOPs, memory, days; nothing is run on any.

python -m experiments.plan --config=experiments/configs/glow_cifar10.py --device=h100 --count=8

Compiles the training step for as many virtual CPU devices, which takes seconds to minutes.
"""

import functools
import json
import sys
from typing import Any

import jax
from absl import flags

from experiments.command import define_config, one_line, run_main
from flowjax_glow.report.devices import DEVICES, find_device
from flowjax_glow.training.plan import plan

CONFIG = define_config("The experiment.")
DEVICE = flags.DEFINE_string("device", "h100", f"One of {', '.join(DEVICES)}.")
COUNT = flags.DEFINE_integer("count", 1, "How many of them.", lower_bound=1)
FRACTION = flags.DEFINE_float("fraction", 0.4, "Of their peak that the run is taken to reach.")
JSON = flags.DEFINE_bool("json", False, "Whether to print the record as JSON, in place of a table.")


def main(argv: list[str]) -> None:
    """Prints a table, with how each figure was found."""
    del argv
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", COUNT.value)
    report = functools.partial(print, file=sys.stderr)
    with one_line(ValueError, OSError):
        device = find_device(DEVICE.value)
        record = plan(CONFIG.value, device, fraction=FRACTION.value, report=report)
    if JSON.value:
        print(json.dumps(record, indent=2))
    else:
        _print(record)


def _print(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    r = record
    title = f"{r['model']} on {r['data_set']}, {r['devices']} x {r['device']}"
    table = Table(title=title, caption="Nothing was run: all of this is on paper.")
    table.add_column("", style="bold")
    table.add_column("", justify="right")
    table.add_column("how it was found")
    for rows in (_work(r), _memory(r), _time(r)):
        for row in rows:
            table.add_row(*row)
        table.add_section()
    console = Console()
    console.print(table)
    for line in r["advice"]:
        console.print(f"to fit: {line}", highlight=False)


def _work(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    more = "at least; " if r["at_least"] else ""
    loops = "matrix products, from the jaxpr, loops in full; a multiplication and an addition each"
    return [
        ("parameters", f"{r['parameters']:,}", "the trained ones"),
        ("forward, an example", _flops(r["forward_flops_per_example"]), more + loops),
        (
            "model FLOPs, a step",
            _flops(r["model_flops_per_step"]),
            "3 x forward, by convention; what utilisation is stated in",
        ),
        (
            "executed FLOPs, a step",
            _flops(r["executed_flops_per_step"]),
            f"{more}of the gradients of {r['batch_size']:,} examples, with what is computed twice",
        ),
        (
            "the same by XLA",
            _flops(r["xla_flops_per_step"]),
            f"its cost analysis has each loop's body once, {_flops(r['xla_once_flops_per_step'])} "
            f"where ours would be {_flops(r['once_flops_per_step'])}; extrapolated",
        ),
    ]


def _memory(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    parts = {
        "params": "params_memory",
        "optimizer state": "optimizer_memory",
        "average of the params": "average_memory",
    }
    share = r["memory"] / r["device_memory"]
    return [
        *((name, _size(r[field]), "on each device") for name, field in parts.items()),
        (
            "batch and metrics",
            _size(r["batch_memory"]),
            "what else the step takes and gives",
        ),
        (
            "activations, gradients",
            _size(r["temporary_memory"]),
            "temporaries, by the compiler for the CPU; another backend's differ",
        ),
        (
            "memory, a device",
            _size(r["memory"]),
            f"{share:.0%} of {_size(r['device_memory'])}; JAX takes 75% of a GPU's by default",
        ),
    ]


def _time(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    goal, seconds = f"days to {r['steps']:,} steps", r["steps"] * r["seconds_per_step"]
    paper = r["paper_bits_per_dim"]
    recipe = "" if paper is None else f"; the recipe of the paper's {paper} bits/dim"
    assumed = (
        f"{r['fraction']:.0%} of {r['peak_flops_per_second'] / 1e12:,.0f} TFLOP/s "
        f"({r['computed_in']}; {r['source']}), assumed"
    )
    rows = [
        ("a step", _duration(r["seconds_per_step"]), assumed),
        ("examples a second", f"{r['examples_per_second']:,.0f}", f"{r['batch_size']:,} a step"),
        (goal, f"{r['days']:,.2f}", f"{_duration(seconds)} of training alone{recipe}"),
    ]
    if r["devices"] > 1:
        ring = "not in the days: once around a ring over the vendor's link, without overlap"
        rows.append(("gradients' way, a step", _duration(r["all_reduce_seconds"]), ring))
    return rows


def _flops(value: float) -> str:
    return _scaled(value, {"PFLOP": 10**15, "TFLOP": 10**12, "GFLOP": 10**9, "MFLOP": 10**6})


def _size(value: float) -> str:
    return _scaled(value, {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10})


def _duration(seconds: float) -> str:
    units = {"days": 86_400, "hours": 3_600, "minutes": 60, "s": 1, "ms": 1e-3, "us": 1e-6}
    return _scaled(seconds, units)


def _scaled(value: float, units: dict[str, float]) -> str:
    """In the largest unit that value has at least one of; else in the smallest."""
    fits = (unit for unit, size in units.items() if value >= size)
    unit = next(fits, [*units][-1])
    return f"{value / units[unit]:,.2f} {unit}"


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    run_main(main)
