"""Eight coupling layers on two moons: steps a second, compile time, held-out NLL after so many steps.

Noise 0.05 and no standardisation, for anyone: the density's entropy, the least NLL there is, is
computed beside. Every library has the same layers, hidden units, bins, Adam and batches (fresh points a
step, from the seed), and keeps its fastest setting. NLL is the median over the seeds.

python -m benchmarks.moons [--kinds affine spline --steps 2000 --seeds 5 --rounds 10 --peers zuko ...]
"""

import argparse
import statistics
from typing import Any

from benchmarks import harness
from benchmarks.peers import data

CHUNK = 100  # as peers/jax_worker.CHUNK: steps in a turn are a multiple of it
TEST_SEED = 1_000_000


def fit_all(workers, records, args) -> dict[str, list[float]]:
    """{worker: the held-out NLL of every seed}, nats."""
    nll: dict[str, list[float]] = {name: [] for name in workers}
    for seed in range(1, args.seeds + 1):
        for name, worker in workers.items():
            setting = records[name]["train"].get("setting")
            if setting is None:
                continue
            try:
                answer = worker.ask(do="call", name="fit", seed=seed, steps=args.steps, setting=setting)
            except harness.WorkerError:
                continue
            nll[name].append(answer["value"])
            harness.progress(f"{name}, seed {seed}: {answer['value']:.3f} nats")
    return nll


def compare(kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """The record of one kind of coupling."""
    options = {name: getattr(args, name) for name in ("layers", "width", "depth", "bins", "bound")}
    options |= {"batch": args.batch, "threads": args.threads, "learning_rate": args.learning_rate}
    options |= {"model": "moons", "kind": kind, "compile": args.compile_box > 0}
    options |= {"test": args.test, "test_seed": TEST_SEED}
    workers, failures = harness.start(args.peers, options, timeout=args.timeout)
    try:
        records = harness.prepare(workers, ["train"], box=args.compile_box, steps=CHUNK)
        parameters = harness.call(workers, "parameters")
        times = harness.alternate(workers, records, ["train"], rounds=args.rounds, multiple=CHUNK)
        nll = fit_all(workers, records, args)
    finally:
        for worker in workers.values():
            worker.close()
    return {
        "options": options,
        "failures": failures,
        "versions": harness.all_versions(workers),
        "notes": {name: worker.about["notes"] for name, worker in workers.items()},
        "settings": records,
        "parameters": parameters,
        "times": times,
        "nll": nll,
    }


def report(args: argparse.Namespace, results: dict[str, dict[str, Any]], entropy: float) -> str:
    """The Markdown tables, one a kind."""
    header = ["library", "parameters", "steps/s", "compile, s", "NLL, nats", "least", "most"]
    header += ["setting", "model"]
    parts = []
    for kind, r in results.items():
        rows = []
        for name, record in r["settings"].items():
            setting, nll = record["train"], sorted(r["nll"][name])
            step = r["times"][name].get("train")
            scores = [statistics.median(nll), nll[0], nll[-1]] if nll else [None] * 3
            rows.append(
                [
                    *(name, r["parameters"][name], 1 / step["step_s"] if step else None),
                    *(setting.get("compile_s"), *(s and f"{s:.3f}" for s in scores)),
                    *(setting.get("setting", setting.get("error")), r["notes"][name]),
                ]
            )
        rows += [[name, *[None] * 7, reason] for name, reason in r["failures"].items()]
        parts.append(f"{kind}\n\n{harness.table(header, rows)}")
    title = (
        f"Two moons, noise {data.MOONS_NOISE}: {args.layers} couplings, {args.depth} hidden layers of "
        f"{args.width}, batch {args.batch}, Adam {args.learning_rate}, {args.steps} steps, "
        f"{args.seeds} seeds; medians. The true density has {entropy:.3f} nats on the same points."
    )
    last = harness.footer(list(results.values())[-1]["versions"])
    return "\n\n".join([title, *parts, last])


def main() -> None:
    """Runs the rounds and writes results/moons.{json,md}."""
    parser = argparse.ArgumentParser(description="Couplings on two moons against peers")
    parser.add_argument(
        "--kinds", nargs="*", default=["affine", "spline"], choices=["affine", "spline"]
    )
    integers = {"layers": 8, "width": 64, "depth": 2, "bins": 8, "batch": 512}
    integers |= {"steps": 2000, "seeds": 5, "test": 20_000}
    for name, default in integers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bound", type=float, default=4.0, help="of the splines, either side of 0")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    harness.common_arguments(parser, peers=list(harness.PEERS), rounds=10)
    args = parser.parse_args()
    harness.alone()

    entropy = -float(data.moons_log_density(data.moons(args.test, TEST_SEED)).mean())
    results = {kind: compare(kind, args) for kind in args.kinds}
    record = {"entropy": entropy, "machine": harness.machine(), "results": results}
    harness.write(args.out or "moons", record, report(args, results, entropy), args.results)


if __name__ == "__main__":
    main()
