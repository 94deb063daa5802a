"""Downloads and prepares the image set of a config, as ArrayRecord, and says where it lies.

python -m experiments.prepare --config=experiments/configs/glow_digits.py [--config.data.data_dir=DIR]

It may be stopped at any time, by Ctrl-C or SIGTERM, and run again: what was downloaded as a whole is
kept, and a set is there as a whole or not at all. Checksums of all that is downloaded are checked. Some
sets need more packages than training does: pip install 'flowjax-glow[prepare]'.
"""

import functools
import os
import signal
import sys
from types import FrameType
from typing import Any

from absl import flags

from experiments.command import define_config, one_line, run_main
from flowjax_glow.data import preparation, prepared
from flowjax_glow.data.sources import tfds_name
from flowjax_glow.training.experiment import build

CONFIG = define_config("The experiment.")


def main(argv: list[str]) -> None:
    """Prints what is prepared, a line for each fact."""
    del argv
    try:
        with one_line(ValueError, OSError):
            _prepare()
    except SystemExit:
        sys.stderr.flush()
        os._exit(2)  # sys.exit waits for threads, and so for other downloads to end


def _prepare() -> None:
    config = CONFIG.value.data
    info = build(CONFIG.value).info  # a mistake is told before the download
    name = tfds_name(config.name, config.build)
    if name is None:
        print(f"{info.version} is read as it is")
        return
    builder = prepared.open_builder(name, config.data_dir)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, functools.partial(_stop, builder))
    was_there = preparation.is_prepared(builder)
    builder = preparation.prepare(builder)
    sizes = prepared.split_sizes(builder, config.valid_examples)
    print("prepared already" if was_there else "prepared")
    facts = {
        "folder": builder.data_dir,
        "version": info.version,
        "build": info.build,
        **{split: f"{size:,} images" for split, size in sizes.items()},
        "image": " x ".join(map(str, info.event_shape)),
        "bytes": f"{builder.info.dataset_size:,}",
    }
    for name, fact in facts.items():
        if fact is not None:
            print(f"{name:<8} {fact}")
    for path in preparation.left_behind(builder):
        print(f"note: {path} is of a preparation that was killed, or of one under way", file=sys.stderr)


def _stop(builder: Any, number: int, frame: FrameType | None) -> None:
    # Nothing is raised: what is raised by a signal is lost where it falls into a destructor.
    del frame
    preparation.discard(builder)
    os.write(sys.stderr.fileno(), b"\nstopped; nothing is left half prepared: run again to go on\n")
    os._exit(128 + number)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    run_main(main)
