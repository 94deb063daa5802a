"""Data sets by name: bundled ones, any image set of tensorflow-datasets, a folder of images, a table.

load("photos", "train")
load("cartoon_faces", "train")
load("cifar10", "test", download=True)
load("imagenet32", "valid", build="oord2016")
load("celeb_a", "train", crop=148, image_size=64)
load("folder", "valid", path="my/images", image_size=64)
load("moons", "train")
load("table", "train", path="my/numbers.csv")

What tensorflow-datasets cannot simply download, it looks for by the published name in
data_dir/downloads/manual, and checks against the published checksum where there is one:

- imagenet32 and imagenet64 of oord2016: train_32x32.tar and valid_32x32.tar, or those of 64x64, which
  image-net.org no longer has; academictorrents.com does. Of downsampled2017, if image-net.org refuses:
  Imagenet32_train_npz.zip and Imagenet32_val_npz.zip, or the three of Imagenet64.
- celeb_a, where Google Drive refuses: img_align_celeba.zip and the four lists of its builder.
- celeb_a_hq/256: data256x256.tar, that the scripts of Progressive GAN make of CelebA. It is one split,
  of which valid and test are held out.
- lsun/bedroom and the other scenes download, 46 GB of bedrooms, and are prepared with the package lmdb;
  the objects among LSUN's categories have one split too.

Neither ImageNet nor LSUN has a test split: "test" is then what they call validation, as in the papers,
and "valid" is held out of the training images. CelebA has no class labels, nor has oord2016.
"""

import os
from typing import Any

import numpy as np
from jaxtyping import Shaped

from flowjax_glow.data import folder, prepared, table, toys
from flowjax_glow.data.geometry import Geometry
from flowjax_glow.data.split import Info, Split

_SPLITS = ("train", "valid", "test")

# Of ImageNet at 32 x 32 and 64 x 64 there are two sets, made by different filters; one model has 3.7
# bits per dimension on the one and 3.4 on the other. The names of both in tensorflow-datasets.
BUILDS: dict[str | None, str] = {
    "oord2016": "downsampled_imagenet",
    "downsampled2017": "imagenet_resized",
}
_SIZES = {"imagenet32": 32, "imagenet64": 64}
_OTHER_NAMES = {"svhn": "svhn_cropped"}


def load(
    name: str,
    split: str,
    *,
    build: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    crop: int | None = None,
    image_size: int | None = None,
    pad: int = 0,
    channels: int | None = None,
    random_crop: int | None = None,
    path: str | os.PathLike[str] | None = None,
    train_examples: int | None = None,
    valid_examples: int | None = None,
    download: bool = False,
    memory_gib: float = 4.0,
) -> Split:
    """The images or vectors of one split.

    Args:
      name: "digits", "photos", "cartoon_faces", "folder", "imagenet32", "imagenet64", "svhn", or a
        name that tensorflow-datasets knows, with its config and version if wanted: "cifar10",
        "emnist/letters", "mnist:3.0.1". Of vectors: "table", and the densities in the plane of `toys`:
        "moons", "circles", "spirals", "checkerboard", "eight_gaussians", "pinwheel".
      split: "train", "valid" or "test".
      build: of "imagenet32" and "imagenet64", which of the two sets: "oord2016", of van den Oord et
        al. (arXiv:1601.06759), or "downsampled2017", of Chrabaszcz et al. (arXiv:1707.08819).
      data_dir: where tensorflow-datasets keeps prepared sets; by default $TFDS_DATA_DIR, and
        failing that ~/tensorflow_datasets.
      crop: takes the middle of each image, so many pixels a side, before anything else.
      image_size: height and width in pixels. "folder", sets whose images are not all of one square
        size, and what crop gives are resized to it; any other set must have it already. None: as
        the set has it.
      pad: adds so many pixels of zeros on every side.
      channels: 1 or 3. "folder" is converted (by default to 3), and grey is repeated; any other set
        must have it.
      random_crop: takes the middle of what that gives, so many pixels a side. Images to be cropped
        at random are loaded without it, and `batch_at` is given it.
      path: of the "folder", or of the "table", a CSV or Parquet file.
      train_examples: how many points to draw of a density in the plane, in place of 20,000.
      valid_examples: how many images to hold out of a set's training images, where it has no
        validation split of its own; see `prepared.load`.
      download: whether tensorflow-datasets may fetch a set that is not prepared in data_dir.
      memory_gib: a larger split of tensorflow-datasets is read from the disk, rows as they are asked
        for.

    Raises:
      ValueError: unknown name, build or split, images other than asked for, unreadable images or
        tables, and arguments that mean nothing for the set.
      FileNotFoundError: no such folder or table, or the set is not prepared and download is False.
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {', '.join(_SPLITS)}; got {split!r}")
    geometry = Geometry(crop, image_size, pad, channels, random_crop)
    _check_arguments(name, build, path, geometry)
    if name == "folder":
        return folder.load(path, split, geometry=geometry)
    if name == "table":
        return table.load(path, split)
    if name in toys.TOYS:
        return toys.load(name, split, train_examples=train_examples)
    builder, geometry = _open(name, build, data_dir, geometry)
    return prepared.load(
        builder,
        split,
        geometry=geometry,
        valid_examples=valid_examples,
        download=download,
        memory_gib=memory_gib,
    )


def attributes(
    name: str,
    split: str,
    *,
    build: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    crop: int | None = None,
    image_size: int | None = None,
    pad: int = 0,
    channels: int | None = None,
    random_crop: int | None = None,
    path: str | os.PathLike[str] | None = None,
    train_examples: int | None = None,
    valid_examples: int | None = None,
    download: bool = False,
    memory_gib: float = 4.0,
) -> dict[str, Shaped[np.ndarray, " examples"]]:
    """What is known of each example that `load` with the same arguments gives, in its order, by name.

    Of a set of tensorflow-datasets, or a bundled one, every feature that is one bool or one number:
    "label", "smiling", or of CelebA, whose features lie one within another, "Smiling". Of a "folder",
    for each folder in it whether the image is in that: "cats" of "cats/tom.png". Of vectors, nothing.

    Raises:
      ValueError, FileNotFoundError: as load; but the images are not looked at.
    """
    del train_examples, memory_gib
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {', '.join(_SPLITS)}; got {split!r}")
    geometry = Geometry(crop, image_size, pad, channels, random_crop)
    _check_arguments(name, build, path, geometry)
    if name == "folder":
        return folder.attributes(path, split)
    if name == "table" or name in toys.TOYS:
        return {}
    builder, _ = _open(name, build, data_dir, geometry)
    return prepared.attributes(builder, split, valid_examples=valid_examples, download=download)


def info(
    name: str,
    *,
    build: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    crop: int | None = None,
    image_size: int | None = None,
    pad: int = 0,
    channels: int | None = None,
    random_crop: int | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Info:
    """What `load` with the same arguments will give; nothing is prepared or downloaded for it.

    Raises:
      ValueError: unknown name or build, or images other than asked for.
      FileNotFoundError: no such folder or table.
    """
    geometry = Geometry(crop, image_size, pad, channels, random_crop)
    _check_arguments(name, build, path, geometry)
    if name == "folder":
        return folder.info(path, geometry=geometry)
    if name == "table":
        return table.info(path)
    if name in toys.TOYS:
        return toys.info(name)
    builder, geometry = _open(name, build, data_dir, geometry)
    return prepared.info(builder, geometry=geometry)._replace(build=build)


def _check_arguments(
    name: str, build: str | None, path: str | os.PathLike[str] | None, geometry: Geometry
) -> None:
    if name in _SIZES and build not in BUILDS:
        raise ValueError(
            f"build of {name} must be 'oord2016' (RealNVP, Glow, Flow++, Jet) or "
            f"'downsampled2017' (DenseFlow), whose numbers do not compare; got {build!r}"
        )
    if name not in _SIZES and build is not None:
        raise ValueError(f"build is for {' and '.join(_SIZES)}; got name {name!r} and {build!r}")
    if path and name not in ("folder", "table"):
        raise ValueError(f"path is for 'folder' and 'table'; got name {name!r} and path {path}")
    if name == "table" or name in toys.TOYS:
        given, left = geometry._asdict(), Geometry()._asdict()
        for argument, value in given.items():
            if value != left[argument]:
                raise ValueError(f"{argument} is for images; got name {name!r} and {value}")


def _open(
    name: str, build: str | None, data_dir: str | os.PathLike[str] | None, geometry: Geometry
) -> tuple[Any, Geometry]:
    """The builder in tensorflow-datasets, and the geometry with the size of ImageNet's images."""
    if name in _SIZES:
        size = _SIZES[name]
        geometry.shape((size, size, 3))  # of downsampled_imagenet, tensorflow-datasets does not say it
        if geometry.crop is None:
            geometry = geometry._replace(image_size=size)
    return prepared.open_builder(tfds_name(name, build) or name, data_dir), geometry


def tfds_name(name: str, build: str | None) -> str | None:
    """A set's name in tensorflow-datasets; None of what is read as it is, and needs no preparation."""
    if name in ("folder", "table") or name in toys.TOYS:
        return None
    if name in _SIZES:
        return f"{BUILDS[build]}/{_SIZES[name]}x{_SIZES[name]}"
    return _OTHER_NAMES.get(name, name)
