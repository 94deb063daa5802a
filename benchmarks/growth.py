"""Compile time, memory and step time as the depth K grows, for our memory modes and the peers.

Every (library, mode, K) is a process of its own, so that its peak resident memory is its own. Ours is
started twice over an empty persistent compilation cache of JAX: the second start finds the compiled
step there, and its peak has no compiler in it. A peer that fails or runs out of time at one K is not
asked for a larger one.

python -m benchmarks.growth [--depths 4 8 16 32 64 --width 128 --modes stored constant --peers ...]
"""

import argparse
import statistics
import tempfile
from typing import Any

from benchmarks import harness

PEERS = [harness.OURS, "normflows", "nflows", "FrEIA", "distrax", "tfp"]
MODES = ["stored", "recompute", "constant"]
MIB = 2**20


def setting(name: str, args: argparse.Namespace) -> str:
    """The one setting measured; trying several in one process would mix up their peaks."""
    if harness.PEERS[name].environment == "torch":
        return args.torch_setting
    return args.jax_setting or ("1 device" if args.threads == 1 else f"{args.threads} devices")


def measure(name: str, options: dict[str, Any], args: argparse.Namespace, cache: str = "") -> dict:
    """One process: what it takes to compile and to run, or {"error"}."""
    environ = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    worker = None
    try:
        worker = harness.Worker(name, options, timeout=args.timeout, environ=environ if cache else None)
        made = worker.ask(do="prepare", task="train", only=setting(name, args))
        turns = [worker.ask(do="run", task="train", steps=1) for _ in range(args.rounds)]
        return {key: made.get(key) for key in ("compile_s", "trace_s", "xla_s", "temp_bytes")} | {
            "startup_s": worker.about["startup_s"],
            "step_s": statistics.median(turn["seconds"] for turn in turns),
            "peak_rss": turns[-1]["peak_rss"],
            "peak_rss_compiled": made["peak_rss_compiled"],
            "versions": worker.about["versions"],
        }
    except harness.WorkerError as error:
        return {"error": str(error)}
    finally:
        if worker:
            worker.close()


def grow(name: str, mode: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The records of a library and mode, one a depth."""
    records = []
    for depth in args.depths:
        options = {"model": "glow", "levels": args.levels, "depth": depth, "width": args.width}
        options |= {"size": args.size, "batch": args.batch, "threads": args.threads, "compile": False}
        options |= {"learning_rate": 1e-4, "memory": mode}
        if name == harness.OURS:
            with tempfile.TemporaryDirectory() as cache:
                record = measure(name, options, args, cache)
                again = measure(name, options, args, cache) if "error" not in record else {}
            record = record | {"second": again}
        else:
            record = measure(name, options, args)
        records.append({"library": name, "mode": mode, "depth": depth} | record)
        harness.progress(f"{name} {mode}, K={depth}: {record.get('error', 'done')}")
        if "error" in record:
            break
    return records


def compile_seconds(record: dict[str, Any]) -> float | None:
    """Tracing and XLA where they are known, without the first step, which may be long; else with it."""
    if record.get("xla_s") is None:
        return record.get("compile_s")
    return record["trace_s"] + record["xla_s"]


def report(args: argparse.Namespace, records: list[dict[str, Any]]) -> str:
    """The Markdown table, a row a process."""

    def mib(value):
        return None if value is None else round(value / MIB)

    header = ["library", "memory", "K", "compile, s", "temporaries, MiB", "peak RSS, MiB"]
    header += ["step, ms", "second start: compile, s", "peak RSS, MiB", ""]
    rows = []
    for r in records:
        again = r.get("second") or {}
        numbers = [compile_seconds(r), mib(r.get("temp_bytes")), mib(r.get("peak_rss"))]
        numbers += [r["step_s"] * 1e3 if "step_s" in r else None]
        numbers += [compile_seconds(again), mib(again.get("peak_rss"))]
        rows.append([r["library"], r["mode"], r["depth"], *numbers, r.get("error")])
    size = f"{args.size}x{args.size}x3, L={args.levels}, width {args.width}, batch {args.batch}"
    title = (
        f"{size}: a training step as K grows; {args.threads} threads, medians of {args.rounds}. "
        "Compile time is tracing and XLA's; for PyTorch the first step's. Peak RSS is the whole "
        "process, compiler and all; temporaries are the compiled step's, on one device."
    )
    found: dict[str, set[str]] = {}
    for r in records:
        for package, version in r.get("versions", {}).items():
            found.setdefault(package, set()).add(version)
    versions = {package: ", ".join(sorted(v)) for package, v in sorted(found.items())}
    return f"{title}\n\n{harness.table(header, rows)}\n\n{harness.footer(versions)}"


def main() -> None:
    """Runs the processes one by one and writes results/growth.{json,md}."""
    parser = argparse.ArgumentParser(description="What grows with the depth")
    for name, default in {"levels": 3, "width": 128, "size": 32, "batch": 32}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--depths", type=int, nargs="*", default=[4, 8, 16, 32, 64])
    parser.add_argument("--modes", nargs="*", default=MODES, choices=MODES)
    parser.add_argument("--torch-setting", default="eager", choices=["eager", "channels_last"])
    parser.add_argument("--jax-setting", default="", help="such as '1 device'; a device a core")
    harness.common_arguments(parser, peers=PEERS, rounds=10)
    parser.set_defaults(timeout=900.0)
    args = parser.parse_args()
    harness.alone()

    records = []
    for name in args.peers:
        for mode in args.modes if name == harness.OURS else [""]:
            records += grow(name, mode, args)
    options = {k: v for k, v in vars(args).items() if k not in ("results", "out")}
    record = {"options": options, "machine": harness.machine(), "records": records}
    harness.write(args.out or "growth", record, report(args, records), args.results)


if __name__ == "__main__":
    main()
