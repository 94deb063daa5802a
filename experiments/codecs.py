"""Sets a run's bits per dimension beside lossless image codecs on the same test images.

python -m experiments.codecs --workdir=runs/glow_photos
"""

from pathlib import Path

from absl import flags

from experiments.command import one_line, run_main
from flowjax_glow.data.codecs import CODECS, lossless_bits_per_dim, mosaic_bits_per_dim
from flowjax_glow.report.record import read_record
from flowjax_glow.training.config import read_config
from flowjax_glow.training.experiment import build, load_split

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)


def main(argv: list[str]) -> None:
    """Prints a Markdown table; PNG, WebP and JPEG XL compress each image alone, and all as one."""
    del argv
    with one_line(ValueError, OSError):
        record = read_record(Path(WORKDIR.value) / "evaluation.json")
        experiment = build(read_config(WORKDIR.value))
        images = load_split(experiment, record["split"]).images
    print(f"{record['version']}, {record['split']}, {len(images):,} images\n")
    print("| | bits/dim, each image alone | all images as one |\n|---|---|---|")
    for codec in CODECS:
        alone, together = lossless_bits_per_dim(images, codec), mosaic_bits_per_dim(images, codec)
        print(f"| {codec} | {alone.mean():.3f} | {together:.3f} |", flush=True)
    bits, error = record["bits_per_dim"], record["standard_error"]
    print(f"| {record['model']} | {bits:.3f} ± {error:.3f} | |")


if __name__ == "__main__":
    run_main(main)
