"""Image sets prepared by tensorflow-datasets as ArrayRecord, read without TensorFlow.

A set without a validation split has the last of its training images held out for one, and a set
without a test split is tested on its validation split.
"""

import os
import time
from typing import Any

import numpy as np
from absl import logging

from flowjax_glow.data import bundled
from flowjax_glow.data.split import Info, Split
from flowjax_glow.data.square import square
from flowjax_glow.data.toys import TOYS
from flowjax_glow.data.without_tensorflow import without_tensorflow


def open_builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    """The tfds builder of a data set, bundled or not; nothing is prepared yet.

    Raises:
      ValueError: if there is no set of that name.
    """
    import tensorflow_datasets as tfds

    bundled.register()
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise ValueError(
            f"unknown data set {name!r}; bundled are {', '.join([*bundled.N_BINS, *TOYS])}; folder and "
            "table are yours; any image set of tensorflow-datasets works (cifar10, mnist, ...)"
        ) from None


def info(builder: Any, *, image_size: int | None, channels: int | None) -> Info:
    """Build, shape, levels and classes of the set, checked against the shape asked for.

    Raises:
      ValueError: if the images are not what is asked for, or not of 8 bits.
    """
    import tensorflow_datasets as tfds

    label = dict(builder.info.features).get("label")
    return Info(
        build=builder.info.full_name,
        event_shape=_image_shape(builder, image_size, channels),
        n_bins=bundled.N_BINS.get(builder.name, 256),
        num_classes=label.num_classes if isinstance(label, tfds.features.ClassLabel) else None,
    )


def load(
    builder: Any,
    split: str,
    *,
    image_size: int | None,
    channels: int | None,
    valid_examples: int | None,
    download: bool,
) -> Split:
    """The images of "train", "valid" or "test", preparing the set if that takes no download.

    Args:
      valid_examples: where the set has no validation split, how many of the last training images to
        hold out; by default 5,000 of 50,000 or more, and else a tenth.

    Raises:
      ValueError: if the images are not what is asked for, or the splits cannot be made.
      FileNotFoundError: if the set is not prepared, and download is False.
    """
    what = info(builder, image_size=image_size, channels=channels)
    shape = _image_shape(builder, image_size, channels)
    builder = _prepare(builder, download or builder.name in bundled.N_BINS)
    sizes = {name: part.num_examples for name, part in builder.info.splits.items()}
    source = _data_source(builder, tfds_split(sizes, split, valid_examples))

    resized = shape != builder.info.features["image"].shape
    images = np.empty((len(source), *shape), np.uint8)
    labels = np.full(len(source), -1, np.int32)
    for i, example in enumerate(source):
        image = square(example["image"], shape) if resized else example["image"]
        if image.shape != shape:
            raise ValueError(
                f"images of {what.build} must be {shape}; image {i} of {split} is {image.shape}"
            )
        images[i] = image
        if what.num_classes is not None:
            labels[i] = example["label"]
    return Split(images, labels)


def _image_shape(builder: Any, image_size: int | None, channels: int | None) -> tuple[int, int, int]:
    name, features = builder.info.full_name, dict(builder.info.features)
    image = features.get("image")
    if image is None or len(image.shape) != 3 or image.np_dtype != np.uint8:
        raise ValueError(
            f"a data set must have a feature 'image' of 8 bits a channel; {name} has "
            f"{', '.join(features)}"
        )
    height, width, own_channels = image.shape
    if channels is not None and channels != own_channels:
        raise ValueError(f"channels must be {own_channels} for {name}; got {channels}")
    if height is not None and height == width:
        if image_size is not None and image_size != height:
            raise ValueError(f"image_size must be {height} for {name}; got {image_size}")
        return image.shape
    if image_size is None:
        raise ValueError(
            f"image_size must be given for {name}, whose images are {height} x {width} (None: of "
            "any size) and are resized and cropped to a square; got None"
        )
    return image_size, image_size, own_channels


def _prepare(builder: Any, allowed: bool) -> Any:
    """The builder of the prepared set."""
    import tensorflow_datasets as tfds

    if builder.data_path.exists():
        return builder
    if not allowed:
        raise FileNotFoundError(
            f"data set {builder.name!r} is not prepared in {builder.data_dir_root}; run with "
            "--config.data.download=True on a machine with internet, or point "
            "--config.data.data_dir (or TFDS_DATA_DIR) at a folder that holds it"
        )
    start = time.perf_counter()
    try:
        with without_tensorflow():
            builder.download_and_prepare(
                file_format=tfds.core.FileFormat.ARRAY_RECORD,
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
    except OSError:
        # tfds writes aside and renames, so another process may have been the first to get there.
        if not builder.data_path.exists():
            raise
    seconds = time.perf_counter() - start
    logging.info("prepared %s in %s (%.1f s)", builder.info.full_name, builder.data_dir, seconds)
    return tfds.builder_from_directory(builder.data_dir)


def _data_source(builder: Any, instruction: str) -> Any:
    try:
        return builder.as_data_source(instruction)
    except NotImplementedError:
        raise ValueError(
            f"{builder.info.full_name} must be prepared as array_record; {builder.data_dir} holds "
            f"{builder.info.file_format.value}: choose another --config.data.data_dir and "
            "--config.data.download=True"
        ) from None


def tfds_split(sizes: dict[str, int], split: str, valid_examples: int | None) -> str:
    """The tfds split, or slice of one, that is our "train", "valid" or "test".

    Args:
      sizes: the number of examples of each split that the set has.

    Raises:
      ValueError: if there is no training split or nothing to test on, or valid_examples would leave
        nothing of the training split.
    """
    if "train" not in sizes or not {"validation", "test"} & sizes.keys():
        raise ValueError(
            f"a data set must have splits 'train', and 'test' or 'validation'; got {', '.join(sizes)}"
        )
    if split == "test":
        return "test" if "test" in sizes else "validation"
    if "test" in sizes and "validation" in sizes:
        return "validation" if split == "valid" else "train"
    total = sizes["train"]
    if valid_examples is None:
        valid_examples = 5000 if total >= 50_000 else total // 10
    if not 0 < valid_examples < total:
        raise ValueError(f"valid_examples must be in 1 .. {total - 1}; got {valid_examples}")
    return f"train[:-{valid_examples}]" if split == "train" else f"train[-{valid_examples}:]"
