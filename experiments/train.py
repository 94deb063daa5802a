"""Trains what a config describes, or goes on with it, and evaluates it on the test split.

python -m experiments.train --config=experiments/configs/glow_digits.py --workdir=runs/glow_digits
"""

import signal

import jax
from absl import app, flags
from ml_collections import config_flags

from experiments.command import one_line, start
from flowjax_glow.report.record import print_record
from flowjax_glow.sharding import join_processes, use_cpu_cores
from flowjax_glow.training.loop import NonFiniteError, PreemptedError, run, set_up

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment; FILE.py:smoke shrinks it.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run's folder; made, or gone on with.", required=True
)


def main(argv: list[str]) -> None:
    """Trains, evaluates, and prints the record as a table."""
    del argv
    with one_line(ValueError, FileNotFoundError):
        use_cpu_cores(CONFIG.value.train.batch_size)
        if CONFIG.value.parallel.distributed:
            join_processes()
        ready = set_up(CONFIG.value, WORKDIR.value)
    stopped = one_line(PreemptedError, exit_code=128 + signal.SIGTERM)
    with one_line(NonFiniteError, exit_code=1), stopped:
        record = run(ready)
    if jax.process_index() == 0:
        print_record(record)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    start()
    app.run(main)
