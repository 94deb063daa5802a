"""Trains what a config describes, or goes on with it, and evaluates it on the test split.

python -m experiments.train --config=experiments/configs/glow_digits.py --workdir=runs/glow_digits
"""

from absl import app, flags
from ml_collections import config_flags

from flowjax_glow.report.record import print_record
from flowjax_glow.sharding import use_cpu_cores
from flowjax_glow.training.loop import train_and_evaluate

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment; FILE.py:smoke shrinks it.")
WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; made, or gone on with.")


def main(argv: list[str]) -> None:
    del argv
    use_cpu_cores(CONFIG.value.train.batch_size)
    print_record(train_and_evaluate(CONFIG.value, WORKDIR.value))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
