"""The worker's side: says what it is, then answers one JSON request a line. Standard library only.

A worker is `python -m benchmarks.peers.NAME '{"model": "glow", ...}'`. It answers on its own stdout;
whatever the libraries print goes to stderr. Its first line is {"ready": true, ...}. Then, a line each:

    {"do": "prepare", "task": T}            builds every setting of T and keeps the fastest
    {"do": "run", "task": T, "steps": n}    {"seconds": s, "idle_cpu": c}
    {"do": "call", "name": N, ...}          what the worker's function N returns
    {"do": "memory"}                        {"peak_rss": bytes}

idle_cpu is the processor time the worker burnt since its last answer: a waiting worker must not take
cores from the one that is timed. An exception is answered as {"error": text}.
"""

import importlib.metadata
import json
import os
import platform
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

Run = Callable[[int], Any]  # does so many steps and returns when they are done
Make = Callable[[], tuple[Run, dict[str, Any]]]  # compiles; with what it knows of the compiled step


class Worker(NamedTuple):
    """What a library offers.

    tasks: {task: {setting: make}}. calls: functions by name.
    packages: whose versions are reported. notes: how the model differs from the others', if it does.
    """

    tasks: dict[str, dict[str, Make]]
    calls: dict[str, Callable[..., Any]]
    packages: tuple[str, ...] = ()
    notes: str = ""


class UnsupportedError(Exception):
    """The library cannot express the model; the text goes into the table."""


class _TimeUp(BaseException):
    """Not an Exception: compilers catch those and go on."""


@contextmanager
def limit(seconds: float):
    """Raises TimeoutError out of the block after so many seconds; 0 for no limit."""

    def stop(*_):
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # and again, where one was swallowed
    try:
        yield
    except _TimeUp:
        raise TimeoutError(f"more than {seconds:.0f} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def timed(run: Run, steps: int) -> float:
    """Seconds that `steps` steps take."""
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def peak_rss() -> int:
    """The most memory this process has held, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def prepare(settings: dict[str, Make], *, only: str | None, box: float, steps: int):
    """(the fastest setting's Run, the record of what was tried); box: seconds for torch.compile."""
    tried: dict[str, dict[str, Any]] = {}
    best: tuple[float, str, Run] | None = None
    for name, make in settings.items():
        if only not in (None, name):
            continue
        start = time.perf_counter()
        try:
            with limit(box if name.startswith("compiled") else 0):
                run, info = make()
            compile_s = time.perf_counter() - start
            info = {"compile_s": compile_s, "peak_rss_compiled": peak_rss(), **info}
            run(1)
            step_s = min(timed(run, steps) / steps for _ in range(4))
        except Exception as error:
            tried[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
            continue
        tried[name] = {**info, "step_s": step_s}
        if best is None or step_s < best[0]:
            best = (step_s, name, run)
    if best is None:
        raise RuntimeError(f"no setting works: {tried}")
    _, name, run = best
    return run, {"setting": name, "tried": tried} | tried[name]


def serve(build: Callable[[dict[str, Any]], Worker]) -> None:
    """Answers requests on stdin until it closes; the options are the first argument, as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    idle_from = None

    def say(answer):
        nonlocal idle_from
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        idle_from = time.process_time()

    try:
        start = time.perf_counter()
        worker = build(json.loads(sys.argv[1]))
    except UnsupportedError as error:
        return say({"unsupported": str(error)})
    except Exception as error:
        traceback.print_exc()
        return say({"error": f"{type(error).__name__}: {error}"[:400]})
    versions = {name: importlib.metadata.version(name) for name in worker.packages}
    versions["python"] = platform.python_version()
    startup = time.perf_counter() - start
    say({"ready": True, "startup_s": startup, "versions": versions, "notes": worker.notes})
    runs: dict[str, Run] = {}
    for line in sys.stdin:
        idle = time.process_time() - (idle_from or 0.0)
        try:
            say(_answer(worker, runs, json.loads(line)) | {"idle_cpu": idle})
        except Exception as error:
            traceback.print_exc()
            say({"error": f"{type(error).__name__}: {error}"[:400]})


def _answer(worker: Worker, runs: dict[str, Run], request: dict[str, Any]) -> dict[str, Any]:
    do, task = request.pop("do"), request.pop("task", None)
    if do == "prepare":
        runs[task], record = prepare(
            worker.tasks[task],
            only=request.get("only"),
            box=request.get("box", 0),
            steps=request.get("steps", 1),
        )
        return record | {"peak_rss": peak_rss()}
    if do == "run":
        return {"seconds": timed(runs[task], request["steps"]), "peak_rss": peak_rss()}
    if do == "call":
        return {"value": worker.calls[request.pop("name")](**request)}
    if do == "memory":
        return {"peak_rss": peak_rss()}
    raise ValueError(f"do must be prepare, run, call or memory; got {do!r}")
