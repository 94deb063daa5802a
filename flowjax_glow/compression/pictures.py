"""Images that a flow takes exactly as they are, from PNG files and back.

Nothing is cropped, resized or converted: what a flow cannot take as it is, is refused.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowjax_glow.compression.coder import Images
from flowjax_glow.compression.container import check_names
from flowjax_glow.data.image import open_image

_MODES = {1: "L", 3: "RGB"}


def read_images(
    paths: Sequence[str | os.PathLike[str]], *, event_shape: tuple[int, ...], n_bins: int
) -> tuple[tuple[str, ...], Images]:
    """The names of PNG files, and their pixels.

    Args:
      paths: files, whose names are those of the files alone; and folders, of which all PNG files are
        taken, at any depth, by their names in the folder; hidden ones are passed over.
      event_shape: of every image. n_bins: pixels are below it.

    Raises:
      ValueError: naming the file that is not exactly such an image; and for none, a name that is there
        twice or that could not be written again.
      FileNotFoundError: naming the path that is not there.
    """
    files: list[tuple[str, Path]] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(f.relative_to(path) for f in path.rglob("*") if f.suffix.lower() == ".png")
            seen = [f for f in inside if not any(part.startswith(".") for part in f.parts)]
            files += [(f.as_posix(), path / f) for f in seen]
        elif path.is_file():
            files.append((path.name, path))
        else:
            raise FileNotFoundError(f"there is no {path}")
    if not files:
        raise ValueError(f"IMAGES must be PNG files, or folders of them; got {list(map(str, paths))}")
    names = tuple(name for name, _ in files)
    check_names(names)
    return names, np.stack([_read(file, event_shape, n_bins) for _, file in files])


def _read(file: Path, event_shape: tuple[int, ...], n_bins: int) -> np.ndarray:
    height, width, channels = event_shape
    mode = _MODES.get(channels)
    if mode is None:
        raise ValueError(f"a PNG file has 1 channel or 3, and the flow's images have {channels}")
    with open_image(file, file) as image:
        if image.format != "PNG" or image.mode != mode or "transparency" in image.info:
            raise ValueError(f"it must be a PNG file of mode {mode}; got {image.format}, {image.mode}")
        if getattr(image, "n_frames", 1) != 1:
            raise ValueError(f"it must be one image; got {image.n_frames}")
        if image.size != (width, height):
            raise ValueError(
                f"the flow's images are {width} x {height}, and none is resized; got "
                f"{image.size[0]} x {image.size[1]}"
            )
        pixels = np.asarray(image).reshape(event_shape)
        if pixels.max() >= n_bins:
            raise ValueError(f"the flow's images have levels below {n_bins}; got {pixels.max()}")
    return pixels


def write_images(folder: str | os.PathLike[str], names: tuple[str, ...] | None, images: Images) -> None:
    """Writes images as PNG files into a new folder, all or none; 00000.png and so on without names.

    Raises:
      ValueError: where there is something in the folder already, and for names that lead out of it.
    """
    from PIL import Image

    folder = Path(folder)
    check_free(folder)
    names = tuple(f"{i:05d}.png" for i in range(len(images))) if names is None else names
    check_names(names)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
        inside = Path(made) / "images"
        for name, pixels in zip(names, images, strict=True):
            file = inside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file)
        if folder.exists():
            folder.rmdir()  # it is empty
        inside.rename(folder)


def check_free(folder: str | os.PathLike[str]) -> None:
    """Whether a folder is not there yet, or empty.

    Raises:
      ValueError: where it is neither.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--out must be a new folder, or an empty one; there is something in {folder}")
