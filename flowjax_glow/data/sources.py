"""Data sets by name: a bundled one, any image set of tensorflow-datasets, or a folder of images.

load("photos", "train")
load("cifar10", "test", download=True)
load("folder", "valid", path="my/images", image_size=64)
"""

import os

from flowjax_glow.data import folder, prepared
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
    valid_examples: int | None = None,
    download: bool = False,
) -> Split:
    """The images of one split, in memory.

    Args:
      name: "digits", "photos", "folder", or a name that tensorflow-datasets knows, with its config
        and version if wanted: "cifar10", "emnist/letters", "mnist:3.0.1".
      split: "train", "valid" or "test".
      data_dir: where tensorflow-datasets keeps prepared sets; by default $TFDS_DATA_DIR, and
        failing that ~/tensorflow_datasets.
      image_size: height and width in pixels. "folder", and sets whose images are not all of one
        square size, are resized to it; any other set must have it already. None: as the set has it.
      channels: 1 or 3. "folder" is converted (by default to 3); any other set must have it.
      path: of the "folder".
      valid_examples: how many images to hold out of a set's training images, where it has no
        validation split of its own; see `prepared.load`.
      download: whether tensorflow-datasets may fetch a set that is not prepared in data_dir.

    Raises:
      ValueError: unknown name or split, images other than asked for, unreadable images.
      FileNotFoundError: no such folder, or the set is not prepared and download is False.
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {', '.join(_SPLITS)}; got {split!r}")
    if name == "folder":
        return folder.load(path, split, image_size=image_size, channels=channels)
    _check_no_path(name, path)
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
      FileNotFoundError: no such folder.
    """
    if name == "folder":
        return folder.info(path, image_size=image_size, channels=channels)
    _check_no_path(name, path)
    builder = prepared.open_builder(name, data_dir)
    return prepared.info(builder, image_size=image_size, channels=channels)


def _check_no_path(name: str, path: str | os.PathLike[str] | None) -> None:
    if path:
        raise ValueError(f"path is for the data set 'folder'; got name {name!r} and path {path}")
