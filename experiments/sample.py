"""Draws samples from a run's best checkpoint into one picture, or one file of numbers.

python -m experiments.sample --workdir=runs/glow_digits --num=64 --temperature=0.7 --out=samples.png
python -m experiments.sample --workdir=runs/table --num=1000 --out=samples.csv

A picture shows images in a grid, and vectors of two numbers as points. samples.npy holds uint8 images
in 256 levels, or float64 vectors in the data's own units; samples.csv vectors, a line each.
"""

from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
from absl import flags
from PIL import Image
from pyarrow import csv

from experiments.command import one_line, run_main
from flowjax_glow.report.plots import save_image
from flowjax_glow.training.config import check_writable
from flowjax_glow.training.experiment import Experiment, load_trained
from flowjax_glow.training.manifest import CheckpointError
from flowjax_glow.training.pictures import Samples, can_be_drawn, draw_samples, picture_of

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
OUT = flags.DEFINE_string("out", "samples.png", "The file; its ending is the format.")
NUM = flags.DEFINE_integer("num", None, "How many; by default 64 images, 5,000 vectors.", lower_bound=1)
TEMPERATURE = flags.DEFINE_float(
    "temperature", None, "Scales the latents' deviation; 0.7 for images, 1.0 for vectors.", 0.0
)
WEIGHTS = flags.DEFINE_enum("weights", None, ["average", "raw"], "The config's by default.")
SEED = flags.DEFINE_integer("seed", 0, "Of the latents.")


def main(argv: list[str]) -> None:
    """Writes the file."""
    del argv
    damaged = one_line(CheckpointError, exit_code=1)
    with one_line(ValueError, OSError), damaged:
        check_writable(Path(OUT.value).parent, "--out")
        trained = load_trained(WORKDIR.value, weights=WEIGHTS.value)
        experiment, suffix = trained.experiment, Path(OUT.value).suffix.lower()
        _check_format(experiment, suffix)
    are_images = experiment.n_bins is not None
    num = NUM.value or (64 if are_images else 5_000)
    temperature = (0.7 if are_images else 1.0) if TEMPERATURE.value is None else TEMPERATURE.value
    key = jax.random.key(SEED.value)
    samples = draw_samples(experiment, trained.params, key, num, temperature=temperature)
    with one_line(OSError):  # a full disk, say
        _write(experiment, samples, suffix)
    print(f"{num} samples at temperature {temperature}, step {trained.step}: {OUT.value}")
    if not samples.finite.all():
        left = " and are left white" if are_images else ""
        print(f"{(~samples.finite).sum()} of them overflowed{left}; try a lower --temperature")


def _check_format(experiment: Experiment, suffix: str) -> None:
    are_images = experiment.n_bins is not None
    if suffix == ".csv" and are_images:
        raise ValueError("--out must end in .npy or in the format of a picture for images; got .csv")
    if suffix not in (".npy", ".csv") and not can_be_drawn(experiment):
        (dim,) = experiment.flow.event_shape
        raise ValueError(
            f"--out must end in .npy or .csv for vectors of {dim} numbers; got {OUT.value}"
        )
    if suffix not in (".npy", ".csv", *Image.registered_extensions()):
        raise ValueError(f"--out must end in .npy or in the format of a picture, .png; got {OUT.value}")


def _write(experiment: Experiment, samples: Samples, suffix: str) -> None:
    Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".npy":
        np.save(OUT.value, samples.values)
    elif suffix == ".csv":
        names = [column.name for column in experiment.info.columns]
        csv.write_csv(pa.table(dict(zip(names, samples.values.T, strict=True))), OUT.value)
    else:
        save_image(picture_of(experiment, samples), OUT.value)


if __name__ == "__main__":
    run_main(main)
