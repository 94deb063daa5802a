"""How much of the machine's peak a training step reaches, and where the rest goes.

Useful operations are the matrix products of the model, forward and for both gradients (flops.py), in
every memory mode: what a mode computes again is not counted. The peak is the best rate of a large
float32 product in the same run, by one device with all threads, by all devices at once, or by numpy.
Then each of the model's products alone, at its own shape on all devices: forward, and the two products
of its gradient. What the step takes beyond them is everything else. Rounds alternate.

python -m benchmarks.peak [--sizes 128x8 512x2 512x8 --batch 32 --rounds 10 --memory stored]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from benchmarks import flops, harness, ours
from benchmarks.peers import data, jax_worker
from benchmarks.peers.jax_worker import AXIS
from flowjax_glow.sharding import use_cpu_cores

Call = Callable[[], Any]


def large_products(n: int, devices: int) -> dict[str, Call]:
    """(n, n) @ (n, n) in float32, once a call."""
    a = np.random.default_rng(0).standard_normal((n, n), dtype=np.float32)
    calls: dict[str, Call] = {"numpy": lambda: a @ a}
    for count in {1, devices}:
        mesh = jax_worker.mesh(count)
        fn, whole, rows = product(mesh), jax_worker.place(a, mesh), jax_worker.place(a, mesh, AXIS)
        calls[jax_worker.devices_name(count)] = lambda fn=fn, x=rows, w=whole: fn(x, w)
    return calls


def product(mesh) -> Callable[..., Any]:
    """X @ w with x's rows split over the devices."""
    specs = (PartitionSpec(AXIS), PartitionSpec())
    fn = jax.shard_map(
        jnp.matmul, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
    )
    return jax.jit(fn)


def model_products(products: list[flops.Product], mesh) -> dict[tuple[str, str], Call]:
    """{(name, "forward", "dx" or "dw"): one call of it}, the batch's rows split over the devices."""
    rows, whole = PartitionSpec(AXIS), PartitionSpec()

    def sharded(fn, specs, out):
        return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False))

    forward = sharded(lambda x, w: x @ w, (rows, whole), rows)
    dx = sharded(lambda g, w: g @ w.T, (rows, whole), rows)
    dw = sharded(lambda x, g: (x.T @ g)[None], (rows, rows), rows)  # every device its own sum
    calls: dict[tuple[str, str], Call] = {}
    for p in products:
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax_worker.place(jax.random.normal(keys[0], (p.m, p.k)), mesh, AXIS)
        g = jax_worker.place(jax.random.normal(keys[1], (p.m, p.n)), mesh, AXIS)
        w = jax_worker.place(jax.random.normal(keys[2], (p.k, p.n)), mesh)
        calls[p.name, "forward"] = lambda x=x, w=w: forward(x, w)
        calls[p.name, "dx"] = lambda g=g, w=w: dx(g, w)
        calls[p.name, "dw"] = lambda x=x, g=g: dw(x, g)
    return calls


def seconds(call: Call, least: float = 0.02) -> float:
    """Seconds a call, over as many as take `least`, after one that is not counted."""
    jax.block_until_ready(call())
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < least or not done:
        jax.block_until_ready(call())
        done += 1
    return (time.perf_counter() - start) / done


def train_step(options: dict[str, Any], mesh) -> tuple[Call, dict[str, Any]]:
    """(one step of the Glow of the options, what its compilation took)."""
    flow = ours.glow(options)
    x = data.images(options["batch"], options["size"])
    params = ours.fg.init(flow, jax.random.key(0), jnp.asarray(x))
    model = ours.as_model(flow, params)
    state = jax_worker.initial_state(model, mesh, 1e-4)
    batch = jax_worker.place(x, mesh, AXIS)
    step, info = jax_worker.compiled(jax_worker.train_step(model, mesh, 1e-4), state, batch)

    def call():
        nonlocal state
        state, loss = step(state, batch)
        return loss

    return call, info


def measure(width: int, depth: int, args: argparse.Namespace) -> dict[str, Any]:
    """The medians of a size."""
    options = {"size": args.size, "levels": args.levels, "batch": args.batch}
    options |= {"width": width, "depth": depth, "memory": args.memory}
    mesh = jax_worker.mesh(jax.device_count())
    products = flops.glow_products(**options)
    step, info = train_step(options, mesh)
    peaks, parts = large_products(args.peak_size, jax.device_count()), model_products(products, mesh)
    calls: dict[Any, Call] = {"step": step, **peaks, **parts}
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in range(args.rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, least=0.5 if name == "step" else 0.02))
    median = {name: statistics.median(values) for name, values in times.items()}
    rates = {name: 2 * args.peak_size**3 / median[name] for name in peaks}
    rows = [
        p._asdict()
        | {"flops": p.flops, "seconds": {w: median[p.name, w] for w in ("forward", "dx", "dw")}}
        for p in products
    ]
    useful = flops.total(products, training=True)
    return {
        "options": options,
        "compile": info,
        "step_s": median["step"],
        "peaks": rates,
        "useful_flops": useful,
        "fraction": useful / median["step"] / max(rates.values()),
        "products_s": sum(r["times"] * sum(r["seconds"].values()) for r in rows),
        "products": rows,
    }


def report(records: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The Markdown: a row a size, and a table of the products of each."""
    header = ["width", "K", "step, ms", "images/s", "useful GFLOP", "GFLOP/s", "peak, GFLOP/s"]
    header += ["by", "of peak", "products alone, ms", "of peak", "the rest, ms"]
    rows, parts = [], []
    for r in records:
        o, step, useful = r["options"], r["step_s"], r["useful_flops"]
        by, peak = max(r["peaks"].items(), key=lambda item: item[1])
        alone = r["products_s"]
        numbers = [step * 1e3, o["batch"] / step, useful / 1e9, useful / step / 1e9, peak / 1e9, by]
        numbers += [f"{r['fraction']:.0%}", alone * 1e3, f"{useful / alone / peak:.0%}"]
        rows.append([o["width"], o["depth"], *numbers, (step - alone) * 1e3])
        parts.append(f"Width {o['width']}, K={o['depth']}: each product alone\n\n{breakdown(r, peak)}")
    title = (
        f"{args.size}x{args.size}x3, L={args.levels}, batch {args.batch}, float32, memory "
        f"{args.memory}; medians of {args.rounds} rounds."
    )
    last = harness.footer(harness.versions())
    return "\n\n".join([title, harness.table(header, rows), *parts, last])


def breakdown(record: dict[str, Any], peak: float) -> str:
    """A row a product."""
    header = ["product", "(m, k) @ (k, n)", "times", "forward, ms", "dx, ms", "dw, ms", "of peak"]
    rows = []
    for p in record["products"]:
        each = [p["seconds"][way] * 1e3 for way in ("forward", "dx", "dw")]
        rate = flops.TRAINING * p["flops"] / p["times"] / (sum(each) / 1e3)
        shape = f"({p['m']}, {p['k']}) @ ({p['k']}, {p['n']})"
        rows.append([p["name"], shape, p["times"], *each, f"{rate / peak:.0%}"])
    return harness.table(header, rows)


def main() -> None:
    """Measures every size in one process and writes results/peak.{json,md}."""
    parser = argparse.ArgumentParser(description="Fraction of the machine's peak")
    parser.add_argument("--sizes", nargs="*", default=["128x8", "512x2", "512x8"], help="WIDTHxK")
    for name, default in {"levels": 3, "size": 32, "batch": 32, "rounds": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peak-size", type=int, default=2048, help="n of the large product")
    parser.add_argument("--memory", default="stored", choices=["stored", "recompute", "constant"])
    parser.add_argument("--out", default="peak")
    parser.add_argument("--results", type=Path, default=harness.RESULTS)
    args = parser.parse_args()
    harness.alone()

    use_cpu_cores(args.batch)
    sizes = [tuple(int(n) for n in size.split("x")) for size in args.sizes]
    records = [measure(width, depth, args) for width, depth in sizes]
    record = {"machine": harness.machine(), "versions": harness.versions(), "records": records}
    harness.write(args.out, record, report(records, args), args.results)


if __name__ == "__main__":
    main()
