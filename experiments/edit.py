"""Moves images along an attribute's direction in latent space, and writes them as strips.

python -m experiments.edit --workdir=runs/glow_celeba --attribute=Smiling --out=smile.png
python -m experiments.edit --workdir=runs/glow_celeba --data=celeb_a --attribute=Smiling
    --strengths=-1,-.5,0,.5,1 --images=my/portraits --out=smile.png
python -m experiments.edit --workdir=runs/glow_digits --attribute=label=3 --out=three.png

The direction is from examples of the train split without the attribute to those with it. An attribute
is what the data set says of its images, true or false; NAME=VALUE of a class; of a number its upper
quarter against its lower; and of any images "brightness", on digits the weight of the stroke. --data
may be a folder of images: then NAME is a folder in it, and has it what lies there. At strength 1 an
image goes as far as the means of the two kinds are apart; at 0 it is unchanged. The upper rows lack the
attribute, the lower ones have it.
"""

import math
from pathlib import Path

import numpy as np
from absl import flags

from experiments.command import check_picture, one_line, run_main
from flowjax_glow.report.plots import image_strip, save_image
from flowjax_glow.training.config import check_writable
from flowjax_glow.training.edits import METHODS, choose_images, edit_images, find_direction
from flowjax_glow.training.experiment import load_trained
from flowjax_glow.training.manifest import CheckpointError
from flowjax_glow.training.other_data import open_folder, take

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
ATTRIBUTE = flags.DEFINE_string("attribute", None, "NAME, or NAME=VALUE of a class.", required=True)
DATA = flags.DEFINE_string("data", None, "The set that knows the attribute; the run's by default.")
IMAGES = flags.DEFINE_string("images", None, "A folder of images to edit; by default test images.")
STRENGTHS = flags.DEFINE_list("strengths", ["-1", "-.5", "0", ".5", "1"], "How far, left to right.")
OUT = flags.DEFINE_string("out", "edit.png", "The picture; its ending is the format.")
NUM = flags.DEFINE_integer("num", 8, "Images, a row each.", lower_bound=1)
METHOD = flags.DEFINE_enum("method", "difference", METHODS, "Of means, or the linear discriminant.")
SPLIT = flags.DEFINE_enum("split", "train", ["train", "valid"], "What the direction is from.")
EXAMPLES = flags.DEFINE_integer("examples", 2_000, "Of the split, half of either kind.", lower_bound=4)
WEIGHTS = flags.DEFINE_enum("weights", None, ["average", "raw"], "The config's by default.")
SEED = flags.DEFINE_integer("seed", 0, "Of the choice of images, and of the noise.", lower_bound=0)


def main(argv: list[str]) -> None:
    """Writes the picture."""
    del argv
    damaged = one_line(CheckpointError, exit_code=1)
    with one_line(ValueError, OSError), damaged:
        strengths = _read_strengths(STRENGTHS.value)
        check_writable(Path(OUT.value).parent, "--out")
        check_picture(OUT.value, "--out")
        trained = load_trained(WORKDIR.value, weights=WEIGHTS.value)
        direction, kinds = find_direction(
            trained,
            ATTRIBUTE.value,
            name=DATA.value,
            split=SPLIT.value,
            method=METHOD.value,
            examples=EXAMPLES.value,
            seed=SEED.value,
        )
        if IMAGES.value is None:
            source = {"name": DATA.value, "seed": SEED.value}
            chosen = choose_images(trained, ATTRIBUTE.value, NUM.value, **source)
        else:
            images = open_folder(trained.experiment, IMAGES.value)
            chosen = take(trained.experiment, images, np.arange(len(images.split.labels))[: NUM.value])
        strips = edit_images(trained, *chosen, direction, strengths)
    labels = [f"{strength:+g}" if strength else "0" for strength in strengths]
    Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
    save_image(image_strip(strips.values, column_labels=labels), OUT.value)
    counts = f"{len(kinds.with_):,} examples with it and {len(kinds.without):,} without"
    print(f"{ATTRIBUTE.value}, {METHOD.value} of {counts}: {OUT.value}")
    print(f"{strips.exact.sum()} of {len(strips.exact)} images unchanged at strength 0")
    if not strips.finite.all():
        print(f"{(~strips.finite).sum()} edits overflowed and are left white; try smaller --strengths")


def _read_strengths(words: list[str]) -> list[float]:
    try:
        strengths = [float(word) for word in words]
    except ValueError:
        strengths = []
    if not strengths or not all(map(math.isfinite, strengths)):
        raise ValueError(f"--strengths must be numbers, as in -1,0,.5; got {','.join(words)!r}")
    return strengths


if __name__ == "__main__":
    run_main(main)
