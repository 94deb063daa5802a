"""Sets of tensorflow-datasets are prepared, split and read without TensorFlow."""

import gzip
import sys
import tarfile

import numpy as np
import pytest

from flowjax_glow import data
from flowjax_glow.data import prepared
from flowjax_glow.data.geometry import Geometry


def write_mnist(folder, images, labels, prefix):
    """The files that MNIST is published as: big-endian headers of 16 and 8 bytes, gzipped."""
    files = {f"{prefix}-images-idx3-ubyte.gz": bytes(16) + images.tobytes()}
    files[f"{prefix}-labels-idx1-ubyte.gz"] = bytes(8) + labels.astype(np.uint8).tobytes()
    for name, content in files.items():
        (folder / name).write_bytes(gzip.compress(content))


def write_cifar10(folder, images, labels, members):
    """The batches that CIFAR-10 is published as: a label, then the channels one after another."""
    for name, rows in members.items():
        pixels = images[rows].transpose(0, 3, 1, 2).reshape(len(images[rows]), -1)
        records = np.concatenate([labels[rows, None].astype(np.uint8), pixels], axis=1)
        (folder / name).write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)))
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in (*members, "batches.meta.txt"):
            archive.add(folder / name, f"cifar-10-batches-bin/{name}")


@pytest.mark.parametrize(("name", "shape"), [("mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))])
def test_tfds_sets_are_prepared_and_read_without_tensorflow(tmp_path, monkeypatch, name, shape):
    """The builders of tfds themselves, on files laid out as the published ones."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.image_classification import mnist

    n, n_test = 200, 40
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n + n_test, *shape), dtype=np.uint8)
    labels = rng.integers(0, 10, n + n_test)
    if name == "mnist":
        monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", n)
        monkeypatch.setattr(mnist, "_TEST_EXAMPLES", n_test)
        write_mnist(tmp_path, images[:n], labels[:n], "train")
        write_mnist(tmp_path, images[n:], labels[n:], "t10k")
    else:
        members = {f"data_batch_{i + 1}.bin": slice(i * n // 5, (i + 1) * n // 5) for i in range(5)}
        write_cifar10(tmp_path, images, labels, {**members, "test_batch.bin": slice(n, None)})

    def from_folder(manager, urls):
        if isinstance(urls, str):
            return manager.extract(tmp_path / urls.rsplit("/", 1)[1])
        return manager.extract({k: tmp_path / v.rsplit("/", 1)[1] for k, v in urls.items()})

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", from_folder)
    options = {"data_dir": tmp_path / "prepared", "download": True}
    splits = {s: data.load(name, s, **options) for s in ("train", "valid", "test")}

    assert [len(s.images) for s in splits.values()] == [180, 20, 40]
    assert len(data.load(name, "valid", valid_examples=7, **options).images) == 7
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    rows = [image.tobytes() for split in splits.values() for image in split.images]
    assert sorted(rows) == sorted(label_of)
    assert [label_of[row] for row in rows] == [x for s in splits.values() for x in s.labels]
    assert set(rows[200:]) == {image.tobytes() for image in images[n:]}
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    ("sizes", "valid_examples", "expected"),
    [
        ({"train": 60_000, "test": 9}, None, ("train[:-5000]", "train[-5000:]", "test")),
        ({"train": 49_999, "test": 9}, None, ("train[:-4999]", "train[-4999:]", "test")),
        ({"train": 60_000, "test": 9}, 100, ("train[:-100]", "train[-100:]", "test")),
        ({"train": 100, "validation": 9}, None, ("train[:-10]", "train[-10:]", "validation")),
        ({"train": 9, "validation": 9, "test": 9}, None, ("train", "validation", "test")),
        ({"train": 30_000}, None, ("train[:-6000]", "train[-6000:-3000]", "train[-3000:]")),
    ],
)
def test_splits_of_a_tfds_set(sizes, valid_examples, expected):
    found = [prepared.tfds_split(sizes, s, valid_examples) for s in ("train", "valid", "test")]
    assert tuple(found) == expected


def make_builder(shape, sizes):
    """A tfds set of constant images of a given shape, or of random sizes, without labels."""
    import tensorflow_datasets as tfds

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=shape)})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            del dl_manager
            return {split: self._generate_examples(n) for split, n in sizes.items()}

        def _generate_examples(self, n):
            for i in range(n):
                height, width, channels = (size or 20 + i for size in shape)
                yield i, {"image": np.full((height, width, channels), i, np.uint8)}

    return Made


def load_made(builder_class, data_dir, split="train", download=True, **options):
    options = {"valid_examples": None, "memory_gib": 4.0} | options
    names = options.keys() & set(Geometry._fields)
    geometry = Geometry(**{name: options.pop(name) for name in names})
    builder = builder_class(data_dir=data_dir)
    return prepared.load(builder, split, geometry=geometry, download=download, **options)


@pytest.mark.parametrize("shape", [(30, 20, 1), (None, None, 3)])
def test_tfds_images_of_other_shapes_are_cropped_and_resized(tmp_path, shape):
    builder = make_builder(shape, {"train": 10, "validation": 3})
    images, labels = load_made(builder, tmp_path, "test", image_size=16)
    assert images.shape == (3, 16, 16, shape[-1])
    # Each image is of one level, so every pixel of it is.
    assert sorted(images[:, 0, 0, 0]) == [0, 1, 2]
    assert (images == images[:, :1, :1, :1]).all()
    assert (labels == -1).all()


@pytest.mark.parametrize(
    ("error", "match", "shape", "sizes", "options"),
    [
        (ValueError, r"image_size must be 8 .*; got 16", (8, 8, 3), {}, {"image_size": 16}),
        (ValueError, r"channels must be 3 .*; got 1", (8, 8, 3), {}, {"channels": 1}),
        (ValueError, r"image_size must be given .* 8 x 9", (8, 9, 3), {}, {}),
        (ValueError, r"crop must fit into images of 8 x 9; got 9", (8, 9, 3), {}, {"crop": 9}),
        (
            ValueError,
            r"valid_examples must be in 1 .. 4; got 5",
            (8, 8, 3),
            {"test": 5},
            {"valid_examples": 5},
        ),
        (
            FileNotFoundError,
            r"'made' is not prepared in .*; run `python -m experiments.prepare`",
            (8, 8, 3),
            {},
            {"download": False},
        ),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path, error, match, shape, sizes, options):
    builder = make_builder(shape, {"train": 5, **sizes})
    with pytest.raises(error, match=match):
        load_made(builder, tmp_path, **options)


def test_a_set_needs_a_training_split():
    with pytest.raises(ValueError, match="a data set must have a split 'train'; got test"):
        prepared.tfds_split({"test": 5}, "train", None)


def test_a_set_prepared_in_another_format_says_so(tmp_path):
    builder = make_builder((8, 8, 3), {"train": 20, "test": 5})
    load_made(builder, tmp_path)
    for file in tmp_path.rglob("dataset_info.json"):
        file.write_text(file.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match=r"must be prepared as array_record; .* holds tfrecord"):
        load_made(builder, tmp_path)


def test_a_builder_that_asks_for_more_of_tensorflow_is_told():
    from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow

    from flowjax_glow.data.without_tensorflow import without_tensorflow

    with without_tensorflow(), pytest.raises(AttributeError, match=r"needs TensorFlow \(Graph\)"):
        tensorflow.Graph()
    assert "_module" not in tensorflow.__dict__
