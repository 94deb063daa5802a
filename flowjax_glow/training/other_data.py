"""Images that a run's flow can be given: of its own data set, of another one, of a folder.

Another set's images are cut to the largest square in their middle and resized (data/geometry.py), made
grey or RGB as the flow's are, and their levels become the flow's: level k of n is brightness
255 k / (n - 1), and brightness b is level floor(b n / 256).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from flowjax_glow import data
from flowjax_glow.data import folder, prepared, sources
from flowjax_glow.data.geometry import Geometry
from flowjax_glow.data.split import Split
from flowjax_glow.report.plots import to_uint8
from flowjax_glow.training.experiment import Experiment, load_split, source_of


class ImageSet(NamedTuple):
    """A split as it is stored, and the levels of its pixels."""

    split: Split
    n_bins: int


def levels_of(experiment: Experiment) -> int:
    """The levels of a pixel of the run's images.

    Raises:
      ValueError: for a run of vectors.
    """
    if experiment.n_bins is None:
        raise ValueError(f"the run must be of images; got one of {experiment.config.data.name}")
    return experiment.n_bins


def open_set(experiment: Experiment, split: str, name: str | None = None) -> ImageSet:
    """The images of a split: "train", "valid" or "test".

    Args:
      name: of a data set, or the path of a folder of images; None or the run's own: as it was trained.

    Raises:
      ValueError: for a run or a set of vectors, and what data.load refuses.
      FileNotFoundError: for a set that is not there.
    """
    own = levels_of(experiment)
    if name in (None, experiment.config.data.name):
        return ImageSet(load_split(experiment, split), own)
    source = _source(experiment, name)
    memory_gib = experiment.config.data.memory_gib
    n_bins = data.info(**{k: v for k, v in source.items() if k != "download"}).n_bins
    if n_bins is None:
        raise ValueError(f"data must be images, a set's name or a folder's path; got {name!r}")
    return ImageSet(data.load(split=split, **source, memory_gib=memory_gib), n_bins)


def read_attributes(
    experiment: Experiment, split: str, name: str | None = None
) -> dict[str, np.ndarray]:
    """data.attributes of what open_set with the same arguments opens, an entry each example."""
    config = experiment.config.data
    if name in (None, config.name):
        options = {"valid_examples": config.valid_examples, "download": config.download}
        return data.attributes(split=split, **source_of(experiment.config), **options)
    return data.attributes(split=split, **_source(experiment, name))


def open_folder(experiment: Experiment, path: str) -> ImageSet:
    """All images of a folder, whatever split they would fall into."""
    levels_of(experiment)
    size, _, channels = experiment.flow.event_shape
    images = folder.load(path, None, geometry=Geometry(image_size=size, channels=channels))
    return ImageSet(images, 256)


def take(
    experiment: Experiment, images: ImageSet, rows: Integer[np.ndarray, " num"]
) -> tuple[UInt8[np.ndarray, "num height width channels"], Integer[np.ndarray, " num"]]:
    """Images of some rows in the flow's shape and levels, and their labels."""
    examples, labels = images.split.images[rows], images.split.labels[rows]
    shape, n_bins = experiment.flow.event_shape, levels_of(experiment)
    if examples.shape[1:] != shape or images.n_bins != n_bins:
        bright = to_uint8(examples, n_bins=images.n_bins)
        fitted = np.stack([_fitted(image, shape) for image in bright])
        examples = (fitted.astype(np.int32) * n_bins // 256).astype(np.uint8)
    return examples, labels


def _fitted(
    image: UInt8[np.ndarray, "_ _ channels"], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "size size channels"]:
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return Geometry(image_size=shape[0]).apply(picture, shape)


def _source(experiment: Experiment, name: str) -> dict[str, Any]:
    """What data.load is told of another set."""
    size, _, channels = experiment.flow.event_shape
    if Path(name).is_dir():
        return {"name": "folder", "path": name, "image_size": size, "channels": channels}
    config = experiment.config.data
    source = {"name": name, "data_dir": config.data_dir, "download": config.download}
    # Images of one square size are read as they are, since data.load would not resize them.
    return source if _is_square(name, config.data_dir) else source | {"image_size": size}


def _is_square(name: str, data_dir: str | None) -> bool:
    """Whether all images of a set are of one square size; also of what data.info will refuse."""
    stored = None if name in ("imagenet32", "imagenet64") else sources.tfds_name(name, None)
    if stored is None:
        return True
    features = prepared.open_builder(stored, data_dir).info.features
    height, width = features["image"].shape[:2] if "image" in features else (None, None)
    return height is not None and height == width
