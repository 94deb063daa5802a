"""Trains what a config describes, or goes on with it, and evaluates it on the test split.

python -m experiments.train --config=experiments/configs/glow_digits.py --workdir=runs/glow_digits

The same line again goes on with a run that stopped, and begins anew one that had saved nothing. How it
ended, on one line of stderr and by its exit code:

    0    the run is finished and evaluated
    1    it stopped on its own: too many steps in a row that were not finite, a checkpoint that could
         not be saved or is damaged, a disk that is full, a model that can no longer be inverted; what
         was saved is good
    2    a mistake in the config, the flags, the workdir or the data; the message says which
    143  SIGTERM: the step it had come to is saved. More of them change nothing
"""

import os
import signal
from typing import Any

import jax
from absl import flags

from experiments.command import define_config, one_line, run_main
from flowjax_glow.report.record import print_record
from flowjax_glow.sharding import join_processes, use_cpu_cores
from flowjax_glow.training.bad_steps import NonFiniteError
from flowjax_glow.training.loop import run, set_up
from flowjax_glow.training.manifest import CheckpointError
from flowjax_glow.training.preemption import PreemptedError
from flowjax_glow.training.watch import NotInvertibleError

CONFIG = define_config("The experiment; FILE.py:smoke shrinks it.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run's folder; made, or gone on with.", required=True
)


def main(argv: list[str]) -> None:
    """Trains, evaluates, and prints the record as a table."""
    del argv
    signal.signal(signal.SIGTERM, _end)  # while it trains, training.preemption's comes first
    with one_line(ValueError, OSError, MemoryError):
        use_cpu_cores(CONFIG.value.train.batch_size)
        if CONFIG.value.parallel.distributed:
            join_processes()
        ready = set_up(CONFIG.value, WORKDIR.value)
    stopped = one_line(PreemptedError, exit_code=128 + signal.SIGTERM)
    ended = one_line(NonFiniteError, NotInvertibleError, CheckpointError, OSError, exit_code=1)
    with one_line(ValueError), ended, stopped:
        try:
            record = run(ready)
        except PreemptedError:
            # To the very end of the process, where Python gives up its own handlers.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise
    if jax.process_index() == 0:
        print_record(record)


def _end(number: int, _: Any) -> None:
    # All there is to save is on the disk, and an exception could come up in a callback that drops it.
    os.write(2, b"error: stopped by SIGTERM; run again to go on\n")
    os._exit(128 + number)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    run_main(main)
