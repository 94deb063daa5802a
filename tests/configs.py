"""The configs of experiments/configs, and what the tests need to run them."""

import importlib
from pathlib import Path

import numpy as np

from experiments.configs import glow_digits
from flowjax_glow.data.bundled import N_BINS
from flowjax_glow.data.toys import TOYS

ROOT = Path(__file__).parents[1]
NAMES = sorted(
    path.stem
    for path in (ROOT / "experiments/configs").glob("*.py")
    if path.stem not in ("__init__", "default")
)


def module(name):
    """A config's file, imported."""
    return importlib.import_module(f"experiments.configs.{name}")


def needs_no_download(name):
    """Whether a config's data come with the library, or are the user's own."""
    return module(name).get_config().data.name in {*N_BINS, *TOYS, "table"}


def write_table(folder):
    """A CSV file with four columns of numbers and one of text."""
    rows = np.random.default_rng(0).normal(size=(200, 4))
    lines = ["a,b,c d,e,name", *(",".join([*map(str, row), "x"]) for row in rows)]
    path = folder / "table.csv"
    path.write_text("\n".join(lines))
    return path


def tiny(data_dir, **train):
    """glow_digits, shrunk to what compiles in seconds."""
    config = glow_digits.get_config("smoke")
    config.data.data_dir = str(data_dir)
    config.model.depth, config.model.levels, config.model.width = 1, 1, 4
    config.model.permutation = "plu"  # has constants among its params
    config.train.watch = 0
    config.train.update(train)
    return config
