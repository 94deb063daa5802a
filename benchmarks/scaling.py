"""What a data-parallel training step sends, and what that costs from 1 to 4,096 devices, on paper.

Counted: the collectives of the compiled step on 1, 2, 4 and 8 virtual devices, each in a process of its
own, from the optimised HLO: how many, the bytes of their operands, and whether any stands inside a
loop, where it would be paid once a step of the depth. On paper: those bytes for the full-size model
over the published interconnects, without overlap, as rings along the axes of a torus and of the tori.

python -m benchmarks.scaling [--devices 1 2 4 8 --depth 4 --width 64 --per-device 64 --utilisation 0.3]
"""

import argparse
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import flops, harness
from flowjax_glow.report.devices import DEVICES

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "f16": 2,
    "bf16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "f64": 8,
    "s64": 8,
}
FULL = {"size": 32, "levels": 3, "depth": 32, "width": 512}
FULL_PARAMETERS = 44_603_604  # fg.glow((32, 32, 3)); tests/test_glow.py counts them


class System(NamedTuple):
    """Bytes a second that a device sends in a ring: inside its domain, and between domains.

    peak: published bf16 operations a second of a device. domain: devices in one torus, or one node, of
    so many axes.
    """

    peak: float
    inside: float
    domain: int
    axes: int
    between: float


# Peaks and links are those of report/devices.py. A pod has 4,096, 256 and 8,960 chips; between v5e pods
# "data center network bandwidth per pod" is 6.4 Tb/s. 8 H100 are a node; one ConnectX-7 a GPU,
# InfiniBand NDR 400 Gb/s each way (DGX H100 user guide), was not looked up again when this was written.
def _system(device: str, *, domain: int, axes: int, between: float = 0.0) -> System:
    return System(DEVICES[device].bfloat16, DEVICES[device].ring, domain, axes, between)


SYSTEMS = {
    "TPU v4": _system("tpu-v4", domain=4096, axes=3),
    "TPU v5e": _system("tpu-v5e", domain=256, axes=2, between=6.4e12 / 8 / 256),
    "TPU v5p": _system("tpu-v5p", domain=8960, axes=3),
    "H100 + NDR": _system("h100", domain=8, axes=1, between=400e9 / 8),
}
HOP = 1e-6  # s, assumed for every message of a ring


# Counted


def collectives(hlo: str) -> list[dict[str, Any]]:
    """Every collective of an optimised HLO module: {"op", "bytes", "operands", "in_loop"}."""
    computation, found, shapes, calls, bodies = "", [], {}, {}, set()
    for line in hlo.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            computation = header[1]
        called = set(re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", line))
        if branches := re.search(r"branch_computations=\{([^}]*)\}", line):
            called |= {name.strip().lstrip("%") for name in branches[1].split(",")}
        calls.setdefault(computation, set()).update(called)
        bodies |= set(re.findall(r"body=%?([\w.\-]+)", line))
        made = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([\w\-]+)\((.*)", line)
        if not made:
            continue
        name, shape, op, rest = made.groups()
        shapes[computation, name] = shape
        if op.removesuffix("-start") in COLLECTIVES:
            operands = re.findall(r"%([\w.\-]+)", rest.split(")")[0])
            found.append((op.removesuffix("-start"), computation, operands))
    inside = _reached(bodies, calls)
    return [
        {
            "op": op,
            "operands": len(operands),
            "bytes": sum(shape_bytes(shapes[where, operand]) for operand in operands),
            "in_loop": where in inside,
        }
        for op, where, operands in found
    ]


def _reached(names: set[str], calls: dict[str, set[str]]) -> set[str]:
    """The computations that those named call, themselves among them."""
    reached, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += calls.get(name, ())
    return reached


def shape_bytes(shape: str) -> int:
    """Bytes of an HLO shape such as f32[8,3]{1,0}, or of a tuple of them."""
    sizes = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shape)
    return sum(BYTES[kind] * math.prod(int(n) for n in dims.split(",") if n) for kind, dims in sizes)


def count(devices: int, args: argparse.Namespace) -> dict[str, Any]:
    """In this process: the collectives of a step on so many virtual devices."""
    import jax
    import jax.numpy as jnp

    from benchmarks import ours
    from benchmarks.peers import data, jax_worker

    batch = max(8, devices)
    jax_worker.use_devices({"batch": batch, "threads": devices})
    options = {"size": args.size, "levels": args.levels, "depth": args.depth, "width": args.width}
    flow = ours.glow(options | {"memory": args.memory})
    x = data.images(batch, args.size)
    model = ours.as_model(flow, ours.fg.init(flow, jax.random.key(0), jnp.asarray(x)))
    mesh = jax_worker.mesh(devices)
    state = jax_worker.initial_state(model, mesh, 1e-4)
    step = jax_worker.train_step(model, mesh, 1e-4)
    hlo = step.lower(state, jax_worker.place(x, mesh, jax_worker.AXIS)).compile().as_text()
    assert hlo is not None
    parameters = jax_worker.count_parameters(model.params)
    return {"devices": devices, "parameters": parameters, "collectives": collectives(hlo)}


def counted(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One process a number of devices."""
    flags = ["depth", "width", "levels", "size", "memory"]
    flags = [f"--{name}={getattr(args, name)}" for name in flags]
    records = []
    for devices in args.devices:
        command = [sys.executable, "-m", "benchmarks.scaling", f"--count={devices}", *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=harness.ROOT)
        records.append(json.loads(done.stdout.splitlines()[-1]))
    return records


# On paper


def all_reduce_seconds(size: float, devices: int, system: System) -> float:
    """Seconds to add up `size` bytes: rings along the axes of each domain, then between the domains.

    2 (n - 1) / n of the bytes leave every device of a ring of n, in 2 (n - 1) messages; the next ring
    has an n-th of them left to add up.
    """
    inner = min(devices, system.domain)
    rings = [(inner ** (1 / system.axes), system.inside)] * system.axes
    rings.append((math.ceil(devices / system.domain), system.between))
    seconds = 0.0
    for n, rate in rings:
        if n > 1:
            seconds += 2 * (n - 1) * (size / n / rate + HOP)
            size /= n
    return seconds


def on_paper(args: argparse.Namespace, size: float) -> list[dict[str, Any]]:
    """Step time and efficiency of every system and number of devices."""
    products = flops.glow_products(**FULL, batch=args.per_device)
    work = flops.total(products, training=True)
    records = []
    for name, system in SYSTEMS.items():
        step = work / (system.peak * args.utilisation)
        efficiency = {
            n: step / (step + all_reduce_seconds(size, n, system)) for n in (1, 8, 64, 256, 1024, 4096)
        }
        records.append({"system": name, "step_s": step, "efficiency": efficiency})
    return records


def report(args: argparse.Namespace, counts: list[dict], paper: list[dict], size: float) -> str:
    """The Markdown tables."""
    rows = []
    for r in counts:
        found = r["collectives"]
        by_op = {op: sum(c["op"] == op for c in found) for op in COLLECTIVES}
        moved = sum(c["bytes"] for c in found)
        named = [by_op[op] for op in COLLECTIVES[:3]]
        row = [r["devices"], *named, len(found) - sum(named), sum(c["operands"] for c in found), moved]
        in_loop = any(c["in_loop"] for c in found)
        rows.append([*row, f"{moved / 4 / r['parameters']:.4f}", "yes" if in_loop else "no"])
    header = ["devices", "all-reduce", "all-gather", "reduce-scatter", "others", "operands", "bytes"]
    first = harness.table([*header, "floats a parameter", "inside a loop"], rows)
    devices = list(paper[0]["efficiency"])
    second = harness.table(
        ["system", "step, ms", *(f"{n} devices" for n in devices)],
        [
            [p["system"], p["step_s"] * 1e3, *(f"{p['efficiency'][n]:.1%}" for n in devices)]
            for p in paper
        ],
    )
    return "\n\n".join(
        [
            f"Collectives of a training step: L={args.levels}, K={args.depth}, width {args.width}, "
            f"{args.size}x{args.size}x3, memory {args.memory}, shard_map.",
            first,
            f"On paper: the full-size Glow (K=32, width 512, {FULL_PARAMETERS:,} parameters), "
            f"{args.per_device} images a device, {size / 1e6:.0f} MB in an all-reduce without overlap. "
            f"Step time stated, not measured: useful operations at {args.utilisation:.0%} of the "
            f"published bf16 peak. {HOP * 1e6:.0f} us a message assumed.",
            second,
            harness.footer(harness.versions()),
        ]
    )


def main() -> None:
    """Counts, reckons and writes results/scaling.{json,md}."""
    parser = argparse.ArgumentParser(description="What a data-parallel step sends")
    for name, default in {"depth": 4, "width": 64, "levels": 3, "size": 32}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory", default="stored", choices=["stored", "recompute", "constant"])
    parser.add_argument("--devices", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--per-device", type=int, default=64, help="images; on paper")
    parser.add_argument("--utilisation", type=float, default=0.3, help="of the peak; on paper")
    parser.add_argument("--count", type=int, default=0, help="only count, on so many devices")
    parser.add_argument("--out", default="scaling")
    parser.add_argument("--results", type=Path, default=harness.RESULTS)
    args = parser.parse_args()
    if args.count:
        print(json.dumps(count(args.count, args)))
        return
    harness.alone()

    counts = counted(args)
    size = 4.0 * (FULL_PARAMETERS + 1)  # every gradient and the loss
    paper = on_paper(args, size)
    record = {"machine": harness.machine(), "versions": harness.versions()}
    record |= {"counted": counts, "on_paper": paper, "bytes": size}
    harness.write(args.out, record, report(args, counts, paper, size), args.results)


if __name__ == "__main__":
    main()
