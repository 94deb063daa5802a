"""Glow against its peers: a training step, sampling and log_prob, on the same model and batch.

Every library is a process of its own and runs in turn with the others; each keeps its fastest setting
a task (peers/torch_worker.py, peers/jax_worker.py). A training step is forward, backward and Adam.

python -m benchmarks.glow_speed [--depth 8 --width 128 --batch 32 --rounds 10 --peers normflows ...]
python -m benchmarks.glow_speed --depth 32 --width 512 --out glow_speed_full
"""

import argparse

from benchmarks import harness

TASKS = {"train": "train", "log_prob": "log_prob", "sample": "sample", "sample1": "sample one"}


def images_a_second(record: dict, task: str, batch: int) -> float | None:
    """The median rate of a task."""
    images = 1 if task == "sample1" else batch
    return images / record[task]["step_s"] if task in record else None


def report(args, workers, failures, records, times, parameters) -> str:
    """The Markdown table."""
    header = ["library", "parameters", *(f"{t}, images/s" for t in TASKS.values())]
    header += ["train, ours / theirs", "first train step, s", "settings, in that order", "model"]
    ours = images_a_second(times.get(harness.OURS, {}), "train", args.batch)
    rows = []
    for name, worker in workers.items():
        rates = [images_a_second(times[name], task, args.batch) for task in TASKS]
        kept = [records[name][task].get("setting", "failed") for task in TASKS]
        ratio = ours / rates[0] if ours and rates[0] else None
        start = records[name]["train"].get("compile_s")
        row = [name, parameters[name], *rates, ratio, start, "; ".join(kept), worker.about["notes"]]
        rows.append(row)
    rows += [[name, *[None] * 7, None, reason] for name, reason in failures.items()]
    size = f"{args.size}x{args.size}x3, L={args.levels}, K={args.depth}, width {args.width}"
    title = (
        f"{size}, batch {args.batch}, float32, {args.threads} threads; medians of {args.rounds} rounds"
    )
    return (
        f"{title}\n\n{harness.table(header, rows)}\n\n{harness.footer(harness.all_versions(workers))}"
    )


def main() -> None:
    """Runs the rounds and writes results/glow_speed.{json,md}."""
    parser = argparse.ArgumentParser(description="Glow's speed against peers")
    sizes = {"levels": 3, "depth": 8, "width": 128, "size": 32, "batch": 32}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    modes = ["stored", "recompute", "constant"]
    parser.add_argument("--memory", default="constant", choices=modes, help="of ours")
    harness.common_arguments(parser, peers=list(harness.PEERS), rounds=10)
    args = parser.parse_args()
    harness.alone()

    options = {name: getattr(args, name) for name in sizes}
    options |= {"model": "glow", "threads": args.threads, "learning_rate": args.learning_rate}
    options |= {"compile": args.compile_box > 0, "memory": args.memory}
    workers, failures = harness.start(args.peers, options, timeout=args.timeout)
    try:
        records = harness.prepare(workers, list(TASKS), box=args.compile_box)
        parameters = harness.call(workers, "parameters")
        times = harness.alternate(workers, records, list(TASKS), rounds=args.rounds)
    finally:
        for worker in workers.values():
            worker.close()
    record = {
        "options": options | {"rounds": args.rounds},
        "machine": harness.machine(),
        "versions": harness.all_versions(workers),
        "failures": failures,
        "settings": records,
        "times": times,
    }
    markdown = report(args, workers, failures, records, times, parameters)
    harness.write(args.out or "glow_speed", record, markdown, args.results)


if __name__ == "__main__":
    main()
