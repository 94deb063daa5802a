"""Environments of the peers, their worker processes, alternating rounds, and the tables.

python -m benchmarks.harness makes the environments, one a framework, under .bench/ (`make bench-env`).
A requirement that does not install is remembered with the reason, and shown so in every table.
"""

import argparse
import fcntl
import importlib.metadata
import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".bench"
INDUCTOR = ENVIRONMENTS / "inductor"  # what torch.compile has built before
RESULTS = ROOT / "benchmarks" / "results"
REQUIREMENTS = ROOT / "benchmarks" / "peers"


# glibc gives large blocks back to the system as they are freed, and a step then pays for its
# temporaries in page faults, up to a fifth of its time; kept instead, for every library alike.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


class Peer(NamedTuple):
    """A library: its environment ("" for the project's own), its worker's module, its distribution."""

    environment: str
    module: str
    package: str


PEERS = {
    "flowjax_glow": Peer("", "benchmarks.ours", "flowjax-glow"),
    "normflows": Peer("torch", "benchmarks.peers.normflows", "normflows"),
    "nflows": Peer("torch", "benchmarks.peers.nflows", "nflows"),
    "FrEIA": Peer("torch", "benchmarks.peers.freia", "FrEIA"),
    "zuko": Peer("torch", "benchmarks.peers.zuko", "zuko"),
    "distrax": Peer("jax", "benchmarks.peers.distrax", "distrax"),
    "tfp": Peer("jax", "benchmarks.peers.tfp", "tfp-nightly"),
    "flowjax": Peer("jax", "benchmarks.peers.flowjax", "flowjax"),
    "bijx": Peer("jax", "benchmarks.peers.bijx", "bijx"),
}
OURS = "flowjax_glow"


# Environments


def make_environment(name: str) -> None:
    """A virtual environment with requirements-NAME.txt, one requirement after the other, in order."""
    folder = ENVIRONMENTS / name
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    failures, done = {}, []
    for requirement in requirements(name):
        done.append(requirement)  # those before hold their versions
        reason = _install(python_of(name), done)
        if reason:
            done.pop()
            failures[requirement.split("=")[0]] = reason
            print(f"{requirement}: {reason}", file=sys.stderr)
    (folder / "failures.json").write_text(json.dumps(failures, indent=1))


def requirements(name: str) -> list[str]:
    """The lines of requirements-NAME.txt without comments."""
    lines = (REQUIREMENTS / f"requirements-{name}.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _install(python: Path, wanted: Sequence[str]) -> str:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if done.returncode == 0 else (errors or ["pip failed"])[-1].removeprefix("ERROR: ")


def python_of(environment: str) -> Path:
    """The interpreter of an environment; "" is this one."""
    if not environment:
        return Path(sys.executable)
    return ENVIRONMENTS / environment / "bin" / "python"


def _not_installed(peer: Peer) -> str:
    """Why a peer cannot run, or nothing."""
    if not python_of(peer.environment).exists():
        return "no environment: make bench-env"
    record = ENVIRONMENTS / peer.environment / "failures.json"
    failures = json.loads(record.read_text()) if peer.environment and record.exists() else {}
    return f"does not install: {failures[peer.package]}" if peer.package in failures else ""


# Workers


class WorkerError(Exception):
    """A worker that cannot go on; the text goes into the table."""


class Worker:
    """A peer's process, spoken to a line at a time; see peers/protocol.py.

    Raises:
      WorkerError: where the peer is not installed, cannot express the model, fails, or does not answer.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        timeout: float = 3600,
        environ: Mapping[str, str] | None = None,
    ):
        peer = PEERS[name]
        if reason := _not_installed(peer):
            raise WorkerError(reason)
        self.name, self.timeout = name, timeout
        self.process = subprocess.Popen(
            [python_of(peer.environment), "-m", peer.module, json.dumps(dict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=os.environ
            | KEEP_MEMORY
            | {"TORCHINDUCTOR_CACHE_DIR": str(INDUCTOR)}
            | dict(environ or {}),
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.about = self._answer()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self.timeout)
        except queue.Empty:
            self.close()
            raise WorkerError(f"no answer in {self.timeout:.0f} s") from None
        answer = json.loads(line) if line else {"error": f"ended with {self.process.wait()}"}
        if reason := answer.get("unsupported") or answer.get("error"):
            raise WorkerError(reason)
        return answer

    def ask(self, **request: Any) -> dict[str, Any]:
        """The worker's answer to a request."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError("the worker has ended") from None
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def start(
    names: Iterable[str], options: Mapping[str, Any], *, timeout: float = 3600
) -> tuple[dict[str, Worker], dict[str, str]]:
    """(the workers that are ready, why the others are not)."""
    workers, failures = {}, {}
    for name in names:
        try:
            workers[name] = Worker(name, options, timeout=timeout)
        except WorkerError as error:
            failures[name] = str(error)
            progress(f"{name}: {error}")
    return workers, failures


def prepare(
    workers: Mapping[str, Worker], tasks: Sequence[str], **request: Any
) -> dict[str, dict[str, Any]]:
    """{worker: {task: the setting kept, or {"error"}}}, one worker after the other."""
    records: dict[str, dict[str, Any]] = {name: {} for name in workers}
    for name, worker in workers.items():
        for task in tasks:
            try:
                records[name][task] = worker.ask(do="prepare", task=task, **request)
            except WorkerError as error:
                records[name][task] = {"error": str(error)}
            kept = records[name][task]
            progress(f"{name}, {task}: {kept.get('setting', kept.get('error'))}")
    return records


def progress(text: str) -> None:
    """A line on stderr, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def call(workers: Mapping[str, Worker], name: str, **request: Any) -> dict[str, Any]:
    """{worker: what its function `name` returns}, None where that fails."""
    values = {}
    for library, worker in workers.items():
        try:
            values[library] = worker.ask(do="call", name=name, **request)["value"]
        except WorkerError:
            values[library] = None
    return values


def alternate(
    workers: Mapping[str, Worker],
    records: Mapping[str, Mapping[str, Any]],
    tasks: Sequence[str],
    *,
    rounds: int,
    seconds: float = 1.0,
    multiple: int = 1,
) -> dict[str, dict[str, Any]]:
    """{worker: {task: {"step_s": median, "all": every round's}}}; the workers take turns in each round.

    A turn is as many steps as take about `seconds`, a multiple of `multiple`.
    """
    turns = {
        (name, task): _steps(
            record[task]["tried"][record[task]["setting"]]["step_s"], seconds, multiple
        )
        for name, record in records.items()
        for task in tasks
        if "setting" in record[task]
    }
    times: dict[tuple[str, str], list[float]] = {turn: [] for turn in turns}
    idle: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for (name, task), steps in turns.items():
            try:
                answer = workers[name].ask(do="run", task=task, steps=steps)
            except WorkerError:
                continue
            times[name, task].append(answer["seconds"] / steps)
            idle[name].append(answer["idle_cpu"])
    return {
        name: {
            task: {"step_s": statistics.median(times[name, task]), "all": times[name, task]}
            for task in tasks
            if times.get((name, task))
        }
        | {"idle_cpu_s": max(idle[name], default=0.0)}
        for name in workers
    }


def _steps(step_s: float, seconds: float, multiple: int) -> int:
    return max(1, round(seconds / max(step_s, 1e-6) / multiple)) * multiple


# Results


def machine() -> dict[str, Any]:
    """What kind of machine this is, without its name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = _cpu_flags()
    widest = next((f for f in ("amx_tile", "avx512f", "avx2") if f in flags), "")
    kind = f"{cores} cores {platform.machine().replace('_', '-')}"
    return {"kind": f"{kind} ({widest})" if widest else kind, "system": platform.system()}


def _cpu_flags() -> set[str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def versions(*packages: str) -> dict[str, str]:
    """The versions of our own side."""
    names = packages or ("jax", "jaxlib", "flax", "optax", "flowjax-glow")
    return {name: importlib.metadata.version(name) for name in names} | {
        "python": platform.python_version()
    }


def all_versions(workers: Mapping[str, Worker]) -> dict[str, str]:
    """The versions of every worker's libraries; where two differ, both."""
    found: dict[str, set[str]] = {}
    for worker in workers.values():
        for name, version in worker.about["versions"].items():
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(v)) for name, v in sorted(found.items())}


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; None is an empty cell, floats have three significant digits."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value).replace("|", "/").replace("\n", " ")


def write(name: str, record: Mapping[str, Any], markdown: str, folder: Path = RESULTS) -> None:
    """NAME.json and NAME.md in the folder, and the Markdown on stdout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    (folder / f"{name}.md").write_text(markdown + "\n")
    print(markdown)


def footer(versions: Mapping[str, str]) -> str:
    """The machine and the versions, in a line."""
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{machine()['kind']}. {listed}."


def alone() -> None:
    """Holds the machine for this benchmark until its process ends; two at once would spoil both.

    Raises:
      SystemExit: where another benchmark of this checkout is under way.
    """
    ENVIRONMENTS.mkdir(exist_ok=True)
    lock = (ENVIRONMENTS / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit("another benchmark is under way; wait for it to end") from None
    _locks.append(lock)  # an open file holds it


_locks: list[IO[str]] = []


def common_arguments(parser: argparse.ArgumentParser, *, peers: Sequence[str], rounds: int) -> None:
    """The flags that every benchmark against peers has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--peers", nargs="*", default=list(peers), choices=list(PEERS), metavar="PEER")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument("--compile-box", type=float, default=300, help="s; 0: no torch.compile")
    parser.add_argument("--timeout", type=float, default=3600, help="s that an answer may take")
    parser.add_argument("--out", default=None, help="name of the result; the benchmark's by default")
    parser.add_argument("--results", type=Path, default=RESULTS)


def main() -> None:
    """Makes the environments that are missing, or all of them anew."""
    parser = argparse.ArgumentParser(description="Environments of the peers")
    parser.add_argument("--again", action="store_true", help="also those that are there")
    args = parser.parse_args()
    for name in sorted({peer.environment for peer in PEERS.values()} - {""}):
        if args.again or not (ENVIRONMENTS / name / "failures.json").exists():
            make_environment(name)


if __name__ == "__main__":
    main()
