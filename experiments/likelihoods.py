"""How likely a run's flow finds images: its own, others, and how well that tells them apart.

python -m experiments.likelihoods --workdir=runs/glow_photos --others=cartoon_faces,smoothed,constant

--others takes names of data sets, folders of images, and "smoothed", "constant" and "noise", which are
made of the run's own test images. The picture has histograms of bits per dimension, and of what is left
when a lossless codec's are taken off; the table says how often an image of another set has more of
either than a test image (AUROC): 1 tells all, 0.5 none, and less takes others for the run's own.
"""

from pathlib import Path

import numpy as np
from absl import flags

from experiments.command import check_picture, one_line, run_main
from flowjax_glow.data.codecs import CODECS
from flowjax_glow.report.plots import histograms, save_image
from flowjax_glow.sharding import make_mesh, use_cpu_cores
from flowjax_glow.training.config import check_writable
from flowjax_glow.training.experiment import load_trained
from flowjax_glow.training.manifest import CheckpointError
from flowjax_glow.training.scores import compare_sets, summarise

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
OTHERS = flags.DEFINE_list("others", ["smoothed", "constant", "noise"], "Sets and folders of images.")
OUT = flags.DEFINE_string("out", "likelihoods.png", "The picture; its ending is the format.")
EXAMPLES = flags.DEFINE_integer("examples", 1_000, "Images of each set, at most.", lower_bound=1)
CODEC = flags.DEFINE_enum("codec", "png", list(CODECS), "The lossless codec.")
WEIGHTS = flags.DEFINE_enum("weights", None, ["average", "raw"], "The config's by default.")
SEED = flags.DEFINE_integer("seed", 0, "Of the noise, and of the choice of images.", lower_bound=0)


def main(argv: list[str]) -> None:
    """Prints a Markdown table, and writes the picture."""
    del argv
    use_cpu_cores()
    damaged = one_line(CheckpointError, exit_code=1)
    with one_line(ValueError, OSError), damaged:
        check_writable(Path(OUT.value).parent, "--out")
        check_picture(OUT.value, "--out")
        trained = load_trained(WORKDIR.value, weights=WEIGHTS.value)
        scores = compare_sets(
            trained,
            OTHERS.value,
            codec=CODEC.value,
            mesh=make_mesh(),
            examples=EXAMPLES.value,
            seed=SEED.value,
        )
    print("| images | number | bits/dim | deviation | codec | AUROC | AUROC, less the codec |")
    print("|---|---|---|---|---|---|---|")
    for name, row in summarise(scores).items():
        areas = ("" if area is None else f"{area:.3f}" for area in (row.likelihood, row.corrected))
        cells = (f"{row.bits_per_dim:.3f}", f"{row.deviation:.3f}", f"{row.codec_bits_per_dim:.3f}")
        print(f"| {name} | {row.images:,} |", *(f"{cell} |" for cell in (*cells, *areas)))
    pictures = [
        histograms({name: s.bits_per_dim for name, s in scores.items()}, "bits/dim"),
        histograms({name: s.corrected for name, s in scores.items()}, f"bits/dim less {CODEC.value}'s"),
    ]
    Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
    save_image(np.concatenate(pictures), OUT.value)
    print(f"\nhistograms: {OUT.value}")


if __name__ == "__main__":
    run_main(main)
