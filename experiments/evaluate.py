"""Evaluates a run's best checkpoint: exact bits per dimension, every example of a split once.

python -m experiments.evaluate --workdir=runs/glow_digits [--split=valid --draws=16 --importance=64]
"""

from pathlib import Path

import jax
from absl import app, flags

from experiments.command import one_line, start
from flowjax_glow.report.record import print_record, write_record
from flowjax_glow.sharding import join_processes, make_mesh, use_cpu_cores
from flowjax_glow.training.experiment import load_trained
from flowjax_glow.training.outcome import evaluate_trained

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
SPLIT = flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "Which images.")
DRAWS = flags.DEFINE_integer(
    "draws", None, "Noise draws an image; the config's by default.", lower_bound=1
)
IMPORTANCE = flags.DEFINE_integer(
    "importance", None, "Samples K in each bound; the config's by default.", lower_bound=1
)
WEIGHTS = flags.DEFINE_enum("weights", None, ["average", "raw"], "The config's by default.")
SEED = flags.DEFINE_integer("seed", None, "Of the noise; the config's by default.")
OUT = flags.DEFINE_string("out", None, "The record's file; WORKDIR/evaluation.json by default.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Whether this is one of several processes.")


def main(argv: list[str]) -> None:
    """Prints the record as a table, and writes it."""
    del argv
    use_cpu_cores()
    with one_line(ValueError, FileNotFoundError):
        if DISTRIBUTED.value:
            join_processes()
        trained = load_trained(WORKDIR.value, weights=WEIGHTS.value)
    record = evaluate_trained(
        trained,
        WORKDIR.value,
        split=SPLIT.value,
        draws=DRAWS.value,
        importance=IMPORTANCE.value,
        seed=SEED.value,
        mesh=make_mesh(),
    )
    if jax.process_index() == 0:
        write_record(OUT.value or Path(WORKDIR.value) / "evaluation.json", record)
        print_record(record)


if __name__ == "__main__":
    start()
    app.run(main)
