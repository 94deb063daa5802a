"""Starts N processes on this machine, each with M virtual CPU devices, as one run of N x M devices.

python -m experiments.launch.local --processes=2 --devices=4 -- -m experiments.train \
    --config=experiments/configs/glow_digits.py --workdir=runs/two --config.parallel.distributed=True

What stands after -- is given to Python in each process. They find each other as under Open MPI's
mpirun, through the environment that jax.distributed.initialize() reads, and reduce through gloo. Every
line they print is preceded by the number of its process. Ctrl-C and SIGTERM are passed on to them; when
one of them fails the others are killed, and the launcher ends with its exit code.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO

from absl import app, flags

PROCESSES = flags.DEFINE_integer("processes", 2, "How many.", lower_bound=1)
DEVICES = flags.DEFINE_integer("devices", 1, "Virtual CPU devices of each.", lower_bound=1)

# Seconds that the processes have to save and end after a signal, as many as Kubernetes gives.
_GRACE = 30.0


def launch(command: Sequence[str], *, processes: int, devices: int) -> int:
    """Runs `python *command` in so many processes; the exit code of the first that fails, or 0."""
    port, started, readers = _free_port(), [], []
    with _signals_passed_on(started) as came:
        for rank in range(processes):
            process = subprocess.Popen(
                [sys.executable, "-u", *command],
                env={**os.environ, **_environment(rank, processes, devices, port)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # so that Ctrl-C comes from here alone, once
            )
            started.append(process)
            readers.append(threading.Thread(target=_forward, args=(rank, process.stdout), daemon=True))
            readers[-1].start()
        code = _wait(started, came)
    for reader in readers:
        reader.join(timeout=1.0)  # a grandchild may hold the pipe
    return code


def _environment(rank: int, processes: int, devices: int, port: int) -> dict[str, str]:
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "OMPI_MCA_orte_hnp_uri": "",  # that it is there says Open MPI; the address is the line above
        "OMPI_COMM_WORLD_SIZE": str(processes),
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
    }


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _forward(rank: int, lines: IO[str]) -> None:
    for line in lines:
        print(f"[{rank}] {line}", end="", flush=True)


@contextlib.contextmanager
def _signals_passed_on(started: list[subprocess.Popen[str]]) -> Iterator[list[float]]:
    """Yields the times at which a signal came."""
    came: list[float] = []

    def pass_on(number, _):
        came.append(time.monotonic())
        for process in started:
            if process.poll() is None:
                process.send_signal(number)

    before = {s: signal.signal(s, pass_on) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(started: list[subprocess.Popen[str]], came: list[float]) -> int:
    """Until all have ended; the code of the first that failed, as a shell gives it."""
    code = 0
    while True:
        codes = [process.poll() for process in started]
        code = code or next((c for c in codes if c), 0)
        if None not in codes:
            return code if code >= 0 else 128 - code
        # After a signal they end together, once they have saved; what waits for a dead one never ends.
        if time.monotonic() > came[0] + _GRACE if came else code:
            for process in started:
                process.kill()
        time.sleep(0.05)


def main(argv: list[str]) -> None:
    """Starts them, and ends as they do."""
    if len(argv) < 2:
        raise app.UsageError("nothing to start; give Python's arguments after --")
    raise SystemExit(launch(argv[1:], processes=PROCESSES.value, devices=DEVICES.value))


if __name__ == "__main__":
    app.run(main)
