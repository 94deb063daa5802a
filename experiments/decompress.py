"""Gives back the images that experiments.compress compressed, as PNG files: the same pixels and names.

python -m experiments.decompress --workdir=runs/glow_digits test.fgi --out=images/

It refuses, with one line and exit code 2, before anything is written: a file that is cut short or
damaged, another run or checkpoint than the file was made by, and a machine that computes otherwise.
"""

from absl import flags

from experiments.command import one_line, run_main
from flowjax_glow.compression import read_file, write_images
from flowjax_glow.compression.pictures import check_free
from flowjax_glow.training.compressed import decompress
from flowjax_glow.training.config import check_writable
from flowjax_glow.training.experiment import load_trained
from flowjax_glow.training.manifest import CheckpointError

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
OUT = flags.DEFINE_string("out", None, "The folder of images, which is made.", required=True)


def main(argv: list[str]) -> None:
    """Writes the images."""
    damaged = one_line(CheckpointError, exit_code=1)
    with one_line(ValueError, OSError), damaged:
        if len(argv) != 2:
            raise ValueError(f"one file must be given, of experiments.compress; got {argv[1:]}")
        check_free(OUT.value)
        check_writable(OUT.value, "--out")
        header, words = read_file(argv[1])
        trained = load_trained(WORKDIR.value, weights=header.weights)
        images = decompress(trained, header, words)
        write_images(OUT.value, header.names, images)
    print(f"{len(images):,} images: {OUT.value}")


if __name__ == "__main__":
    run_main(main, arguments=True)
