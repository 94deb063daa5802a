"""Writes the report of a run: one HTML file with its numbers, its curves and what its model can do.

python -m experiments.report --workdir=runs/glow_digits [--out=report.html --examples=2000]

The file has all pictures in it and fetches nothing. Without --out it is report.html in WORKDIR. A run
that is under way has a report too, of what there is. Progress goes to stderr.
"""

import functools
import sys
from pathlib import Path

from absl import flags

from experiments.command import one_line, run_main
from flowjax_glow.training.config import check_writable
from flowjax_glow.training.manifest import CheckpointError
from flowjax_glow.training.report import report_of

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
OUT = flags.DEFINE_string("out", None, "The file; by default report.html in WORKDIR.")
EXAMPLES = flags.DEFINE_integer(
    "examples", 2_000, "How many of each split are looked at, at most.", lower_bound=1
)


def main(argv: list[str]) -> None:
    """Writes the file."""
    del argv
    out = Path(OUT.value or Path(WORKDIR.value) / "report.html")
    damaged = one_line(CheckpointError, exit_code=1)
    with one_line(ValueError, OSError), damaged:
        if out.suffix != ".html":
            raise ValueError(f"--out must end in .html; got {OUT.value}")
        check_writable(out.parent, "--out" if OUT.value else "--workdir")
        say = functools.partial(print, file=sys.stderr, flush=True)
        page = report_of(WORKDIR.value, examples=EXAMPLES.value, say=say)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page)
    print(f"saved in {out}, {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    run_main(main)
