"""Draws samples from a run's best checkpoint into one picture.

python -m experiments.sample --workdir=runs/glow_digits --num=64 --temperature=0.7 --out=samples.png
"""

import jax
from absl import app, flags

from experiments.command import one_line, start
from flowjax_glow.report.plots import image_grid, save_image
from flowjax_glow.training.experiment import load_trained
from flowjax_glow.training.outcome import draw_samples

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
OUT = flags.DEFINE_string("out", "samples.png", "The picture's file.")
NUM = flags.DEFINE_integer("num", 64, "How many.", lower_bound=1)
TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "Scales the latents' deviation.", 0.0)
WEIGHTS = flags.DEFINE_enum("weights", None, ["average", "raw"], "The config's by default.")
SEED = flags.DEFINE_integer("seed", 0, "Of the latents.")


def main(argv: list[str]) -> None:
    """Writes the picture."""
    del argv
    with one_line(ValueError, FileNotFoundError):
        trained = load_trained(WORKDIR.value, weights=WEIGHTS.value)
    key = jax.random.key(SEED.value)
    images, finite = draw_samples(
        trained.experiment, trained.params, key, NUM.value, temperature=TEMPERATURE.value
    )
    save_image(image_grid(images), OUT.value)
    print(f"{NUM.value} samples at temperature {TEMPERATURE.value}, step {trained.step}: {OUT.value}")
    if not finite.all():
        print(f"{(~finite).sum()} of them overflowed and are left white; try a lower --temperature")


if __name__ == "__main__":
    start()
    app.run(main)
