"""Data sets come as they should, and batches are a pure function of the step."""

import gzip
import hashlib
import itertools
import subprocess
import sys
import tarfile
from typing import Any

import numpy as np
import pytest

from flowjax_glow import data
from flowjax_glow.data import bundled, codecs, prepared

NO_NETWORK = """
import socket
def refuse(*args, **kwargs): raise AssertionError("the network was asked for")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
"""


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tensorflow_datasets")


@pytest.fixture(scope="session")
def photographs(data_dir):
    """{split: (names of the photographs, crops)}, row by row."""
    found = {}
    data.load("photos", "test", data_dir=data_dir)
    for split in ("train", "valid", "test"):
        tfds_split = "validation" if split == "valid" else split
        source = prepared.open_builder("photos", data_dir).as_data_source(tfds_split)
        rows = [(example["photograph"].decode(), example["image"]) for example in source]
        found[split] = [name for name, _ in rows], np.stack([image for _, image in rows])
    return found


def random_split(n, height=7, width=9, channels=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, height, width, channels), dtype=np.uint8)
    return data.Split(images, np.arange(n, dtype=np.int32))


def test_importing_loads_nothing_heavy():
    code = """
import importlib, pkgutil, sys
import flowjax_glow.data
for module in pkgutil.iter_modules(flowjax_glow.data.__path__):
    importlib.import_module(f"flowjax_glow.data.{module.name}")
heavy = {"tensorflow", "tensorflow_datasets", "array_record", "sklearn", "skimage", "PIL", "pyarrow"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_processes_prepare_a_bundled_set_at_once_with_neither_network_nor_tensorflow(tmp_path):
    code = f"""{NO_NETWORK}
import sys
from flowjax_glow import data
assert data.load("digits", "train", data_dir={str(tmp_path)!r}).images.shape == (1293, 8, 8, 1)
assert "tensorflow" not in sys.modules
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]


@pytest.mark.parametrize(
    ("split", "rows"),
    [("train", slice(0, 1293)), ("valid", slice(1293, 1437)), ("test", slice(1437, 1797))],
)
def test_digits_are_those_of_sklearn_in_their_order(data_dir, split, rows):
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images, labels = data.load("digits", split, data_dir=data_dir)
    np.testing.assert_array_equal(images[..., 0], digits.images[rows])
    np.testing.assert_array_equal(labels, digits.target[rows])
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    assert (images.max(), data.info("digits").n_bins) == (16, 17)


# Numbers on photos/1.0.0 compare only where these are its pixels. A digest that changes means that
# something that decodes the photographs has: raise the version in bundled.py.
@pytest.mark.parametrize(
    ("split", "number", "digest"),
    [
        ("train", 21_000, "900916335c15ea00"),
        ("valid", 1_500, "4be3fd96a0b388ad"),
        ("test", 2_400, "33609022ed001e5c"),
    ],
)
def test_photos_splits(photographs, split, number, digest):
    names, crops = photographs[split]
    assert crops.shape == (number, 32, 32, 3)
    assert set(names) == set(bundled.PHOTOGRAPHS["validation" if split == "valid" else split])
    assert hashlib.sha256(b"".join(sorted(map(bytes, crops)))).hexdigest()[:16] == digest


def test_load_gives_the_crops_without_labels(photographs, data_dir):
    images, labels = data.load("photos", "test", data_dir=data_dir, image_size=32, channels=3)
    np.testing.assert_array_equal(images, photographs["test"][1])
    assert (labels == -1).all()


def test_photos_splits_share_neither_a_photograph_nor_a_crop(photographs):
    for one, other in itertools.combinations(photographs, 2):
        assert not set(photographs[one][0]) & set(photographs[other][0])
    crops = np.concatenate([crops for _, crops in photographs.values()])
    assert len({crop.tobytes() for crop in crops}) == len(crops)


def test_reduce_takes_the_mean_of_blocks():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    for factor in (1, 2, 3):
        expected = [
            [
                np.round(image[i : i + factor, j : j + factor].mean((0, 1)) + 1e-9)
                for j in range(0, 7 - factor + 1, factor)
            ]
            for i in range(0, 5 - factor + 1, factor)
        ]
        np.testing.assert_array_equal(bundled.reduce(image, factor), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", data.Info("digits/1.0.0", (8, 8, 1), 17, 10)),
        ("photos", data.Info("photos/1.0.0", (32, 32, 3), 256, None)),
        ("mnist:3.0.1", data.Info("mnist/3.0.1", (28, 28, 1), 256, 10)),
        ("cifar10:3.0.2", data.Info("cifar10/3.0.2", (32, 32, 3), 256, 10)),
        ("celeb_a:2.1.0", data.Info("celeb_a/2.1.0", (64, 64, 3), 256, None)),
    ],
)
def test_info_needs_nothing_prepared(tmp_path, name, expected):
    image_size = 64 if name.startswith("celeb_a") else None
    assert data.info(name, data_dir=tmp_path, image_size=image_size) == expected
    assert not list(tmp_path.iterdir())


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
    options = {"image_size": None, "channels": None, "valid_examples": None} | options
    builder = builder_class(data_dir=data_dir)
    return prepared.load(builder, split, download=download, **options)


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
        (ValueError, r"must have splits 'train', and 'test' .*; got train", (8, 8, 3), {}, {}),
        (
            ValueError,
            r"valid_examples must be in 1 .. 4; got 5",
            (8, 8, 3),
            {"test": 5},
            {"valid_examples": 5},
        ),
        (
            FileNotFoundError,
            r"'made' is not prepared in .*; run with --config.data.download=True",
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


def test_a_set_prepared_in_another_format_says_so(tmp_path):
    builder = make_builder((8, 8, 3), {"train": 20, "test": 5})
    load_made(builder, tmp_path)
    for file in tmp_path.rglob("dataset_info.json"):
        file.write_text(file.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match=r"must be prepared as array_record; .* holds tfrecord"):
        load_made(builder, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("nothing", "train"), "unknown data set 'nothing'; bundled are digits, photos, moons"),
        (("digits", "dev"), "split must be one of train, valid, test; got 'dev'"),
    ],
)
def test_unknown_names(tmp_path, arguments, match):
    with pytest.raises(ValueError, match=match):
        data.load(*arguments, data_dir=tmp_path)


def test_a_path_is_refused_where_it_means_nothing(tmp_path):
    with pytest.raises(ValueError, match="path is for 'folder' and 'table'; got name 'digits'"):
        data.load("digits", "train", path=tmp_path)


def test_a_builder_that_asks_for_more_of_tensorflow_is_told():
    from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow

    from flowjax_glow.data.without_tensorflow import without_tensorflow

    with without_tensorflow(), pytest.raises(AttributeError, match=r"needs TensorFlow \(Graph\)"):
        tensorflow.Graph()
    assert "_module" not in tensorflow.__dict__


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (13, 4), (5, 12)])
def test_each_example_comes_once_an_epoch(n, batch_size):
    split = random_split(n)
    batches = [data.batch_at(split, i, batch_size=batch_size, seed=0) for i in range(3 * n)]
    index = np.concatenate([batch["index"] for batch in batches])
    epochs = index[: len(index) // n * n].reshape(-1, n)
    assert (np.sort(epochs) == np.arange(n)).all()
    assert len({tuple(epoch) for epoch in epochs}) > 1
    np.testing.assert_array_equal(
        np.concatenate([batch["example"] for batch in batches]), split.images[index]
    )
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches]), index)


def test_the_seed_sets_the_order():
    split = random_split(50)
    orders = [data.batch_at(split, 0, batch_size=50, seed=seed)["index"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()


AUGMENTATIONS = [{}, {"flip": True}, {"shift": 0.3}, {"flip": True, "shift": 0.3}]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("process_count", [1, 2, 3])
def test_processes_share_one_global_batch_whenever_it_is_asked_for(process_count, augmentation):
    split = random_split(20)
    options = {"batch_size": 12, "seed": 3, **augmentation}
    expected = {step: data.batch_at(split, step, **options) for step in range(4)}
    for step in (3, 1, 2, 0):
        shares = [
            data.batch_at(split, step, process_index=p, process_count=process_count, **options)
            for p in range(process_count)
        ]
        for name, whole in expected[step].items():
            np.testing.assert_array_equal(np.concatenate([share[name] for share in shares]), whole)
            assert whole.dtype == (np.uint8 if name == "example" else np.int32)


def moved(image, mirror, down, right):
    """One image mirrored, then moved over itself padded with its edge."""
    height, width, _ = image.shape
    image = image[:, ::-1] if mirror else image
    image = np.pad(image, ((height, height), (width, width), (0, 0)), mode="edge")
    return image[height - down : 2 * height - down, width - right : 2 * width - right]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_mirrored_and_moved_as_allowed(augmentation, channels):
    split = random_split(200, height=7, width=9, channels=channels)
    batch = data.batch_at(split, 0, batch_size=200, seed=0, **augmentation)
    flips = (0, 1) if augmentation.get("flip") else (0,)
    downs = rights = range(-2, 3) if augmentation.get("shift") else (0,)  # 0.3 of 7 and of 9
    moves = list(itertools.product(flips, downs, rights))
    found = []
    for image, index in zip(batch["example"], batch["index"], strict=True):
        same = [m for m in moves if np.array_equal(image, moved(split.images[index], *m))]
        assert len(same) == 1
        found += same
    # 200 draws miss one of 50 moves with probability 0.6; of the 2, 5 or 5 on an axis, never.
    for axis, values in enumerate((flips, downs, rights)):
        assert {move[axis] for move in found} == set(values)


def test_half_the_images_are_mirrored():
    split = random_split(2000)
    batch = data.batch_at(split, 0, batch_size=2000, seed=0, flip=True)
    mirrored = (batch["example"] != split.images[batch["index"]]).any((1, 2, 3)).mean()
    assert abs(mirrored - 0.5) < 0.05  # 4.5 standard deviations of a fair coin


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 7, "process_count": 2}, "multiple of process_count; got 7 and 2"),
        ({"batch_size": 0}, "batch_size must be a positive multiple of process_count; got 0"),
        ({"process_index": 1}, r"process_index must be in \[0, process_count\); got 1 of 1"),
        ({"shift": 1.0}, r"shift must be in \[0, 1\); got 1.0"),
        ({"step": -1}, "step must not be negative; got -1"),
    ],
)
def test_batches_that_cannot_be(options, match):
    options = {"step": 0, "batch_size": 4, "seed": 0} | options
    with pytest.raises(ValueError, match=match):
        data.batch_at(random_split(10), **options)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="at least one example; got 0"):
        data.batch_at(random_split(0), 0, batch_size=4, seed=0)


@pytest.mark.parametrize("codec", codecs.CODECS)
@pytest.mark.parametrize("channels", [1, 3])
def test_codecs_beat_8_bits_on_smooth_images_and_not_on_noise(codec, channels):
    if codec == "jpegxl":
        pytest.importorskip("pillow_jxl")
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None], (5, 32, 32, channels))
    each = codecs.lossless_bits_per_dim(ramp.copy(), codec)
    assert each.shape == (5,)
    assert (each < 3).all()
    # Headers are shared: one image's worth of them, and tiles repeat.
    assert codecs.mosaic_bits_per_dim(ramp.copy(), codec) < each.mean()

    noise = random_split(5, 32, 32, channels).images
    assert (codecs.lossless_bits_per_dim(noise, codec) >= 8).all()
    assert codecs.mosaic_bits_per_dim(noise, codec) >= 8


def test_png_bits_are_those_of_the_file(tmp_path):
    from PIL import Image

    (image,) = images = random_split(1).images
    Image.fromarray(image).save(tmp_path / "image.png", compress_level=9)
    expected = 8 * (tmp_path / "image.png").stat().st_size / image.size
    np.testing.assert_array_equal(codecs.lossless_bits_per_dim(images, "png"), [expected])


def test_an_unknown_codec_is_refused():
    with pytest.raises(ValueError, match="codec must be one of png, webp, jpegxl; got 'gif'"):
        codecs.lossless_bits_per_dim(np.zeros((1, 8, 8, 1), np.uint8), "gif")
