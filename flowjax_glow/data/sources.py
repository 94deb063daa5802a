"""Data sets by name: bundled ones, any image set of tensorflow-datasets, a folder of images, a table.

load("photos", "train")
load("cifar10", "test", download=True)
load("folder", "valid", path="my/images", image_size=64)
load("moons", "train")
load("table", "train", path="my/numbers.csv")
"""

import os

from flowjax_glow.data import folder, prepared, table, toys
from flowjax_glow.data.split import Info, Split

_SPLITS = ("train", "valid", "test")


def load(
    name: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    path: str | os.PathLike[str] | None = None,
    train_examples: int | None = None,
    valid_examples: int | None = None,
    download: bool = False,
) -> Split:
    """The images or vectors of one split, in memory.

    Args:
      name: "digits", "photos", "folder", or a name that tensorflow-datasets knows, with its config
        and version if wanted: "cifar10", "emnist/letters", "mnist:3.0.1". Of vectors: "table", and the
        densities in the plane of `toys`: "moons", "circles", "spirals", "checkerboard",
        "eight_gaussians", "pinwheel".
      split: "train", "valid" or "test".
      data_dir: where tensorflow-datasets keeps prepared sets; by default $TFDS_DATA_DIR, and
        failing that ~/tensorflow_datasets.
      image_size: height and width in pixels. "folder", and sets whose images are not all of one
        square size, are resized to it; any other set must have it already. None: as the set has it.
      channels: 1 or 3. "folder" is converted (by default to 3); any other set must have it.
      path: of the "folder", or of the "table", a CSV or Parquet file.
      train_examples: how many points to draw of a density in the plane, in place of 20,000.
      valid_examples: how many images to hold out of a set's training images, where it has no
        validation split of its own; see `prepared.load`.
      download: whether tensorflow-datasets may fetch a set that is not prepared in data_dir.

    Raises:
      ValueError: unknown name or split, images other than asked for, unreadable images or tables, and
        arguments that mean nothing for the set.
      FileNotFoundError: no such folder or table, or the set is not prepared and download is False.
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {', '.join(_SPLITS)}; got {split!r}")
    if name == "folder":
        return folder.load(path, split, image_size=image_size, channels=channels)
    _check_arguments(name, path, image_size, channels)
    if name == "table":
        return table.load(path, split)
    if name in toys.TOYS:
        return toys.load(name, split, train_examples=train_examples)
    builder = prepared.open_builder(name, data_dir)
    return prepared.load(
        builder,
        split,
        image_size=image_size,
        channels=channels,
        valid_examples=valid_examples,
        download=download,
    )


def info(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Info:
    """What `load` with the same arguments will give; nothing is prepared or downloaded for it.

    Raises:
      ValueError: unknown name, or images other than asked for.
      FileNotFoundError: no such folder or table.
    """
    if name == "folder":
        return folder.info(path, image_size=image_size, channels=channels)
    _check_arguments(name, path, image_size, channels)
    if name == "table":
        return table.info(path)
    if name in toys.TOYS:
        return toys.info(name)
    builder = prepared.open_builder(name, data_dir)
    return prepared.info(builder, image_size=image_size, channels=channels)


def _check_arguments(
    name: str, path: str | os.PathLike[str] | None, image_size: int | None, channels: int | None
) -> None:
    if path and name != "table":
        raise ValueError(f"path is for 'folder' and 'table'; got name {name!r} and path {path}")
    if name == "table" or name in toys.TOYS:
        for argument, value in (("image_size", image_size), ("channels", channels)):
            if value is not None:
                raise ValueError(f"{argument} is for images; got name {name!r} and {value}")
