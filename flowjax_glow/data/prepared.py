"""Image sets prepared by tensorflow-datasets as ArrayRecord, read without TensorFlow.

A set without a validation split has the last of its training images held out for one, and a set
without a test split is tested on its validation split; where it has neither, the last of its training
images are held out twice, first to validate and then to test. Images are decoded by Pillow, whatever
else is installed, so that their pixels are the same everywhere.
"""

import functools
import io
import operator
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from flowjax_glow.data import bundled
from flowjax_glow.data.geometry import Geometry
from flowjax_glow.data.image import open_image
from flowjax_glow.data.preparation import is_prepared, prepare
from flowjax_glow.data.split import Info, Split
from flowjax_glow.data.streaming import Streamed, naming_row
from flowjax_glow.data.toys import TOYS


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


def info(builder: Any, *, geometry: Geometry) -> Info:
    """Version, shape, levels and classes of the set.

    Raises:
      ValueError: if the images are not what is asked for, or not of 8 bits.
    """
    import tensorflow_datasets as tfds

    label = dict(builder.info.features).get("label")
    n_bins = bundled.N_BINS.get(builder.name, 256)
    if n_bins != 256 and geometry.crop is not None and geometry.image_size not in (None, geometry.crop):
        raise ValueError(
            f"image_size must be crop's {geometry.crop} for images of {n_bins} levels, which resizing "
            f"would not keep; got {geometry.image_size}"
        )
    return Info(
        version=builder.info.full_name,
        event_shape=_image_shape(builder, geometry),
        n_bins=n_bins,
        num_classes=label.num_classes if isinstance(label, tfds.features.ClassLabel) else None,
    )


def load(
    builder: Any,
    split: str,
    *,
    geometry: Geometry,
    valid_examples: int | None,
    download: bool,
    memory_gib: float,
) -> Split:
    """The images of "train", "valid" or "test", preparing the set if that takes no download.

    Args:
      valid_examples: where the set has no validation split, how many of the last training images to
        hold out; by default 5,000 of 50,000 or more, and else a tenth.
      memory_gib: a split whose images take more GiB than this when decoded is `Streamed`.

    Raises:
      ValueError: if the images are not what is asked for, or the splits cannot be made; naming the row
        of the split, for an image that cannot be used (data/image.py), in a streamed split when it is
        read.
      FileNotFoundError: if the set is not prepared, and download is False.
    """
    what = info(builder, geometry=geometry)
    source = _records(builder, split, valid_examples, download)
    decode = functools.partial(_decoded, what=what, geometry=geometry)
    labelled = what.num_classes is not None
    images = Streamed(source, decode, what.event_shape, np.uint8)
    labels = np.full(len(source), -1, np.int32)
    if images.nbytes > memory_gib * 2**30:
        return Split(images, Streamed(source, _label, (), np.int32) if labelled else labels)
    pixels = np.empty(images.shape, np.uint8)
    for i, record in enumerate(source):
        with naming_row(i):
            pixels[i] = decode(record)
        if labelled:
            labels[i] = _label(record)
    return Split(pixels, labels)


def attributes(
    builder: Any, split: str, *, valid_examples: int | None, download: bool
) -> dict[str, Shaped[np.ndarray, " examples"]]:
    """Every feature of a split that is one bool or one number, row by row as `load` has them, by name.

    Features within a feature, as CelebA's `attributes`, have their own names; and where two have the
    same, that of what they are in before it: "attributes/Smiling". Of classes there are the numbers.

    Raises:
      ValueError, FileNotFoundError: as load.
    """
    source = _records(builder, split, valid_examples, download)
    dtypes = dict(_scalars(builder.info.features))
    names = [path[-1] for path in dtypes]
    columns = {path: np.empty(len(source), dtype) for path, dtype in dtypes.items()}
    for i, record in enumerate(source):
        for path, column in columns.items():
            column[i] = functools.reduce(operator.getitem, path, record)
    return {
        path[-1] if names.count(path[-1]) == 1 else "/".join(path): column
        for path, column in columns.items()
    }


def _scalars(features: Any, within: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], np.dtype]]:
    """The path and dtype of every feature that is one bool or one number."""
    import tensorflow_datasets as tfds

    for name, feature in features.items():
        path = (*within, name)
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _scalars(feature, path)
        elif isinstance(feature, tfds.features.Tensor) and feature.shape == ():
            dtype: Any = feature.np_dtype
            if np.dtype(dtype).kind in "biuf":
                yield path, np.dtype(dtype)


def _decoded(
    record: dict[str, Any], *, what: Info, geometry: Geometry
) -> UInt8[np.ndarray, "height width channels"]:
    with open_image(io.BytesIO(record["image"]), f"of {what.version}") as image:
        pixels = geometry.apply(image, what.event_shape)
    if pixels.shape != what.event_shape:
        raise ValueError(f"images of {what.version} must be {what.event_shape}; one is {pixels.shape}")
    return pixels


def _label(record: dict[str, Any]) -> int:
    return int(record["label"])


def split_sizes(builder: Any, valid_examples: int | None) -> dict[str, int]:
    """Images in our "train", "valid" and "test" of a prepared set; `load` says more.

    Raises:
      ValueError: if the splits cannot be made.
    """
    sizes = _sizes(builder)
    instructions = {s: tfds_split(sizes, s, valid_examples) for s in ("train", "valid", "test")}
    return {s: builder.info.splits[part].num_examples for s, part in instructions.items()}


def _sizes(builder: Any) -> dict[str, int]:
    return {name: part.num_examples for name, part in builder.info.splits.items()}


def _image_shape(builder: Any, geometry: Geometry) -> tuple[int, int, int]:
    name, features = builder.info.full_name, dict(builder.info.features)
    image = features.get("image")
    if (
        image is None
        or len(image.shape) != 3
        or image.np_dtype != np.uint8
        or image.shape[-1] not in (1, 3)
    ):
        raise ValueError(
            "a data set must have a feature 'image' of 1 or 3 channels and 8 bits a channel; "
            f"{name} has {', '.join(features)}"
        )
    return geometry.shape(image.shape)


def _records(builder: Any, split: str, valid_examples: int | None, download: bool) -> Any:
    """The records of our "train", "valid" or "test", images still encoded, of the set now prepared."""
    import tensorflow_datasets as tfds

    if not (is_prepared(builder) or download or builder.name in bundled.N_BINS):
        raise FileNotFoundError(
            f"data set {builder.name!r} is not prepared in {builder.data_dir_root}; run "
            "`python -m experiments.prepare` with this --config on a machine with internet, or point "
            "--config.data.data_dir (or TFDS_DATA_DIR) at a folder that holds it"
        )
    builder = prepare(builder)
    instruction = tfds_split(_sizes(builder), split, valid_examples)
    try:
        return builder.as_data_source(instruction, decoders={"image": tfds.decode.SkipDecoding()})
    except NotImplementedError:
        raise ValueError(
            f"{builder.info.full_name} must be prepared as array_record; {builder.data_dir} holds "
            f"{builder.info.file_format.value}: choose another --config.data.data_dir, and run "
            "`python -m experiments.prepare` with it"
        ) from None


def tfds_split(sizes: dict[str, int], split: str, valid_examples: int | None) -> str:
    """The tfds split, or slice of one, that is our "train", "valid" or "test".

    Args:
      sizes: the number of examples of each split that the set has.

    Raises:
      ValueError: if there is no training split, or valid_examples would leave nothing of it.
    """
    if "train" not in sizes:
        raise ValueError(f"a data set must have a split 'train'; got {', '.join(sizes)}")
    own = {"validation", "test"} & sizes.keys()
    if split == "test" and own:
        return "test" if "test" in own else "validation"
    if len(own) == 2:
        return "validation" if split == "valid" else "train"
    total, parts = sizes["train"], 1 if own else 2
    if valid_examples is None:
        valid_examples = 5000 if total >= 50_000 else total // 10
    most = (total - 1) // parts
    if not 0 < valid_examples <= most:
        raise ValueError(f"valid_examples must be in 1 .. {most}; got {valid_examples}")
    if split == "train":
        return f"train[:-{parts * valid_examples}]"
    if split == "valid" and parts == 2:
        return f"train[-{2 * valid_examples}:-{valid_examples}]"
    return f"train[-{valid_examples}:]"
