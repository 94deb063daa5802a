"""Compresses images by a run's best checkpoint, without loss: the likelihood, as bytes.

python -m experiments.compress --workdir=runs/glow_digits --split=test --out=test.fgi
python -m experiments.compress --workdir=runs/glow_photos holiday/ more/1.png --out=holiday.fgi

experiments.decompress gives the same images back, on a machine that computes as this one does. The rate
goes to stdout beside the model's bits/dim and other codecs' rates of the same images.
"""

import importlib.util
import math
from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments.command import one_line, run_main
from flowjax_glow.compression import read_images
from flowjax_glow.compression.coder import Images
from flowjax_glow.data.codecs import CODECS, lossless_bits_per_dim, mosaic_bits_per_dim
from flowjax_glow.data.split import Split
from flowjax_glow.evaluation import likelihood
from flowjax_glow.sharding import make_mesh
from flowjax_glow.training.compressed import Compressed, check_compresses, compress
from flowjax_glow.training.config import check_writable
from flowjax_glow.training.experiment import Trained, load_split, load_trained
from flowjax_glow.training.manifest import CheckpointError

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
OUT = flags.DEFINE_string("out", None, "The file.", required=True)
SPLIT = flags.DEFINE_enum(
    "split", None, ["train", "valid", "test"], "Of the run's data set, in place of IMAGES."
)
WEIGHTS = flags.DEFINE_enum("weights", None, ["average", "raw"], "The config's by default.")
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 1, "Images coded side by side: faster, with more initial bits.", lower_bound=1
)


def main(argv: list[str]) -> None:
    """Writes the file and prints a Markdown table."""
    damaged = one_line(CheckpointError, exit_code=1)
    with one_line(ValueError, OSError), damaged:
        if bool(SPLIT.value) == bool(argv[1:]):
            raise ValueError("either --split or IMAGES, PNG files or folders of them, must be given")
        check_writable(Path(OUT.value).parent, "--out")
        trained = load_trained(WORKDIR.value, weights=WEIGHTS.value)
        check_compresses(trained.experiment)
        names, images = _images(trained, argv[1:])
        Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
        done = compress(trained, images, OUT.value, names=names, batch_size=BATCH_SIZE.value)
    _print(trained, images, done)


def _images(trained: Trained, paths: list[str]) -> tuple[tuple[str, ...] | None, Images]:
    experiment = trained.experiment
    if SPLIT.value:
        return None, np.asarray(load_split(experiment, SPLIT.value).images[:])
    shape, n_bins = experiment.flow.event_shape, experiment.n_bins or 0
    return read_images(paths, event_shape=shape, n_bins=n_bins)


def _print(trained: Trained, images: Images, done: Compressed) -> None:
    coded, sizes = done
    whole = sizes.words + sizes.rest
    print(f"{len(images):,} images, {images.size:,} numbers: {whole:,} bytes in {OUT.value}")
    print(
        f"of these {coded.initial_bits // 8:,} are initial bits, which come back with the images, and "
        f"{sizes.rest:,} names, fingerprint and checksum\n"
    )
    rate, model = coded.bits / images.size, _model_bits_per_dim(trained, images)
    name = trained.experiment.config.model.name
    print("| | bits/dim, each image alone | all images as one |\n|---|---|---|")
    print(f"| {name}, this file without its initial bits | | {rate:.3f} |")
    print(f"| {name}, this file, all of it | | {8 * whole / images.size:.3f} |")
    print(f"| {name}, what its likelihood promises | | {model:.3f} |")
    for codec in CODECS:
        if codec == "jpegxl" and importlib.util.find_spec("pillow_jxl") is None:
            print("| jpegxl | not installed: pillow-jxl-plugin | |")
            continue
        alone = f"{lossless_bits_per_dim(images, codec).mean():.3f}"
        fits = codec != "webp" or (math.isqrt(len(images) - 1) + 1) * max(images.shape[1:3]) < 2**14
        together = f"{mosaic_bits_per_dim(images, codec):.3f}" if fits else "too large"
        print(f"| {codec} | {alone} | {together} |", flush=True)
    print(f"\n{100 * (rate / model - 1):+.2f}% over the model's bits/dim")


def _model_bits_per_dim(trained: Trained, images: Images) -> float:
    experiment = trained.experiment
    found = likelihood(
        experiment.flow,
        trained.params,
        Split(images, np.full(len(images), -1, np.int32)),
        jax.random.key(0),
        dequantizer=experiment.dequantizer,
        noise=trained.noise,
        draws=max(4, int(experiment.config.eval.draws)),
        batch_size=int(experiment.config.eval.batch_size),
        mesh=make_mesh(),
    )
    return found.mean


if __name__ == "__main__":
    run_main(main, arguments=True)
