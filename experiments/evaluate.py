"""Evaluates a run's best checkpoint: exact bits per dimension, every example of a split once.

python -m experiments.evaluate --workdir=runs/glow_digits [--split=valid --draws=16 --importance=1024]

The record goes to stdout as one JSON object, and into a file: WORKDIR/evaluation.json for the run's own
protocol, which training evaluates by too; for another, one whose name says what differs. A table for a
person and the progress go to stderr.
"""

import json
import sys
from pathlib import Path

import jax
from absl import flags

from experiments.command import one_line, run_main
from flowjax_glow.report.record import print_record, write_record
from flowjax_glow.sharding import join_processes, make_mesh, use_cpu_cores
from flowjax_glow.training.config import check_writable
from flowjax_glow.training.experiment import load_trained
from flowjax_glow.training.manifest import CheckpointError
from flowjax_glow.training.outcome import choose_protocol, evaluate_trained, record_name

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
SPLIT = flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "Which examples.")
DRAWS = flags.DEFINE_integer(
    "draws", None, "Noise draws an example; the config's by default.", lower_bound=1
)
IMPORTANCE = flags.DEFINE_integer(
    "importance", None, "Samples K in each bound; the config's by default.", lower_bound=1
)
WEIGHTS = flags.DEFINE_enum("weights", None, ["average", "raw"], "The config's by default.")
SEED = flags.DEFINE_integer("seed", None, "Of the noise; the config's by default.")
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Examples in a device call; fewer take less memory.", lower_bound=1
)
OUT = flags.DEFINE_string("out", None, "The record's file; by default one in WORKDIR.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Whether this is one of several processes.")


def main(argv: list[str]) -> None:
    """Prints the record, and writes it."""
    del argv
    use_cpu_cores()
    damaged = one_line(CheckpointError, exit_code=1)
    with one_line(ValueError, OSError), damaged:
        if DISTRIBUTED.value:
            join_processes()
        trained = load_trained(WORKDIR.value, weights=WEIGHTS.value)
        protocol = choose_protocol(
            trained.experiment,
            split=SPLIT.value,
            draws=DRAWS.value,
            importance=IMPORTANCE.value,
            seed=SEED.value,
        )
        out = Path(OUT.value or Path(WORKDIR.value) / record_name(trained, protocol))
        check_writable(out.parent, "--out" if OUT.value else "--workdir")
    with one_line(ValueError, OSError):  # data that are not there or of no use, a disk that is full
        record = evaluate_trained(
            trained, WORKDIR.value, protocol, batch_size=BATCH_SIZE.value, mesh=make_mesh()
        )
        if jax.process_index() == 0:
            write_record(out, record)
    if jax.process_index() == 0:
        print(json.dumps(record, indent=2))
        print_record(record, stderr=True)
        print(f"saved in {out}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
