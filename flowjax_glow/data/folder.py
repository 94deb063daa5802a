"""A folder of a user's own images: PNG, JPEG and WebP, at any depth.

The split of an image hangs on the name of its file relative to the folder alone: with u the first 8
bytes of the name's SHA-256 as a fraction of 2^64, u < 0.8 is train, u < 0.9 valid, and the rest
test. So adding or removing images never moves another from one split to another. Copies under other
names are not noticed: a folder with duplicates leaks between its splits.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from flowjax_glow.data.geometry import Geometry
from flowjax_glow.data.image import open_image
from flowjax_glow.data.split import Info, Split, hashed_split

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def info(path: str | os.PathLike[str] | None, *, geometry: Geometry) -> Info:
    """Levels and shape; version is a digest of the names and sizes in bytes of the images' files."""
    shape = _shape(geometry)
    digest = hashlib.sha256()
    for name, file in _files(path).items():
        digest.update(f"{name} {file.stat().st_size}\n".encode())
    return Info(f"folder/{digest.hexdigest()[:8]}", shape, n_bins=256, num_classes=None)


def load(path: str | os.PathLike[str] | None, split: str | None, *, geometry: Geometry) -> Split:
    """The images of a split in the order of their names, turned upright, cropped and resized.

    split: None for all images, whatever split they fall into.

    Hidden files, and files with other suffixes, are passed over. Images smaller than
    geometry.image_size are enlarged.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: naming the file, if it cannot be read or has more than 2^24 pixels (data/image.py);
        or if no image falls into the split.
    """
    shape = _shape(geometry)
    files = _files_of(path, split)
    images = np.empty((len(files), *shape), np.uint8)
    for i, file in enumerate(files.values()):
        images[i] = _read(file, geometry, shape)
    return Split(images, np.full(len(files), -1, np.int32))


def attributes(
    path: str | os.PathLike[str] | None, split: str
) -> dict[str, Bool[np.ndarray, " examples"]]:
    """Whether each image of a split lies in a folder of a name, at any depth below path, by that name.

    Raises:
      FileNotFoundError, ValueError: as load, without looking at the images.
    """
    folders = [Path(name).parts[:-1] for name in _files_of(path, split)]
    names = {part for name in _files(path) for part in Path(name).parts[:-1]}
    return {name: np.array([name in parts for parts in folders]) for name in sorted(names)}


def _files_of(path: str | os.PathLike[str] | None, split: str | None) -> dict[str, Path]:
    files = {name: file for name, file in _files(path).items() if split in (None, split_of(name))}
    if not files:
        raise ValueError(f"the folder needs more images; none of {path} falls into {split!r}")
    return files


def split_of(name: str) -> str:
    """The split of a file, by its name relative to the folder, with forward slashes."""
    return hashed_split(name.encode())


def _shape(geometry: Geometry) -> tuple[int, int, int]:
    if geometry.channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3; got {geometry.channels}")
    return geometry.shape((None, None, geometry.channels or 3))


def _files(path: str | os.PathLike[str] | None) -> dict[str, Path]:
    """The images' files by relative name, sorted."""
    if not path:
        raise ValueError(f"path must name a folder of images; got {path!r}")
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder of images at {root}")
    relative = [f.relative_to(root) for f in root.rglob("*") if f.suffix.lower() in _SUFFIXES]
    visible = [f for f in relative if not any(part.startswith(".") for part in f.parts)]
    if not visible:
        raise ValueError(f"a folder of images must hold PNG, JPEG or WebP files; {root} has none")
    return {name: root / name for name in sorted(f.as_posix() for f in visible)}


def _read(file: Path, geometry: Geometry, shape: tuple[int, int, int]) -> np.ndarray:
    from PIL import ImageOps

    with open_image(file, file) as image:
        return geometry.apply(ImageOps.exif_transpose(image), shape)
