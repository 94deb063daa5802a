"""Data sets come as they should, by their names."""

import hashlib
import itertools
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from configs import tiny

from experiments.configs import default
from flowjax_glow import data
from flowjax_glow.data import bundled, prepared
from flowjax_glow.training.experiment import batch_at, build, initial_state, load_split

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


OORD, LATER = "oord2016", "downsampled2017"


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("digits", {}, data.Info("digits/1.0.0", (8, 8, 1), 17, 10)),
        ("photos", {}, data.Info("photos/1.0.0", (32, 32, 3), 256, None)),
        ("mnist:3.0.1", {}, data.Info("mnist/3.0.1", (28, 28, 1), 256, 10)),
        ("mnist:3.0.1", {"pad": 2, "channels": 3}, data.Info("mnist/3.0.1", (32, 32, 3), 256, 10)),
        ("cifar10:3.0.2", {}, data.Info("cifar10/3.0.2", (32, 32, 3), 256, 10)),
        ("svhn", {}, data.Info("svhn_cropped/3.1.0", (32, 32, 3), 256, 10)),
        (
            "imagenet32",
            {"build": OORD},
            data.Info("downsampled_imagenet/32x32/2.0.0", (32, 32, 3), 256, None, build=OORD),
        ),
        (
            "imagenet64",
            {"build": OORD},
            data.Info("downsampled_imagenet/64x64/2.0.0", (64, 64, 3), 256, None, build=OORD),
        ),
        (
            "imagenet32",
            {"build": LATER},
            data.Info("imagenet_resized/32x32/0.1.0", (32, 32, 3), 256, 1000, build=LATER),
        ),
        (
            "imagenet64",
            {"build": LATER},
            data.Info("imagenet_resized/64x64/0.1.0", (64, 64, 3), 256, 1000, build=LATER),
        ),
        (
            "celeb_a:2.1.0",
            {"crop": 148, "image_size": 64},
            data.Info("celeb_a/2.1.0", (64, 64, 3), 256, None),
        ),
        ("celeb_a_hq/256", {}, data.Info("celeb_a_hq/256/2.0.0", (256, 256, 3), 256, None)),
        (
            "lsun/bedroom",
            {"image_size": 96, "random_crop": 64},
            data.Info("lsun/bedroom/3.1.0", (64, 64, 3), 256, None),
        ),
    ],
)
def test_info_needs_nothing_prepared_and_no_network(tmp_path, monkeypatch, name, options, expected):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was asked for: {args} {kwargs}")

    for function in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, function, refuse)
    assert data.info(name, data_dir=tmp_path, **options) == expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("nothing", {}, "unknown data set 'nothing'; bundled are digits, photos, cartoon_faces, moons"),
        ("digits", {"path": "a"}, "path is for 'folder' and 'table'; got name 'digits' and path a"),
        (
            "imagenet32",
            {},
            r"build of imagenet32 must be 'oord2016' \(RealNVP, Glow, Flow\+\+, Jet\) or "
            r"'downsampled2017' \(DenseFlow\), whose numbers do not compare; got None",
        ),
        ("imagenet64", {"build": "2016"}, "build of imagenet64 must be .*; got '2016'"),
        (
            "cifar10",
            {"build": OORD},
            "build is for imagenet32 and imagenet64; got name 'cifar10' and 'oord2016'",
        ),
        ("imagenet64", {"build": OORD, "image_size": 32}, "image_size must be 64 .*; got 32"),
        ("imagenet64", {"build": LATER, "image_size": 32}, "image_size must be 64 .*; got 32"),
        ("imagenet64", {"build": OORD, "crop": 65}, "crop must fit into images of 64 x 64; got 65"),
        (
            "digits",
            {"crop": 8, "image_size": 4},
            "image_size must be crop's 8 for images of 17 levels, which resizing would not keep; got 4",
        ),
        ("moons", {"random_crop": 2}, "random_crop is for images; got name 'moons' and 2"),
        ("table", {"path": "a.csv", "pad": 1}, "pad is for images; got name 'table' and 1"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(tmp_path, name, options, match):
    with pytest.raises(ValueError, match=match):
        data.info(name, data_dir=tmp_path, **options)
    with pytest.raises(ValueError, match=match):
        data.load(name, "train", data_dir=tmp_path, **options)


def test_unknown_splits():
    with pytest.raises(ValueError, match="split must be one of train, valid, test; got 'dev'"):
        data.load("digits", "dev")


@pytest.mark.parametrize("memory_gib", [4.0, 0.0])
def test_a_config_brings_images_to_its_shape_and_levels(photographs, data_dir, memory_gib):
    """Whether they are in memory or on the disk."""
    config = default.get_config()
    config.data.update(name="photos", data_dir=str(data_dir), memory_gib=memory_gib, n_bits=5)
    config.data.update(crop=20, pad=2, random_crop=16)
    experiment = build(config)
    assert (experiment.flow.event_shape, experiment.n_bins) == ((16, 16, 3), 32)
    crops = photographs["test"][1][:50, 6:26, 6:26]
    whole = np.pad(crops, ((0, 0), (2, 2), (2, 2), (0, 0))) >> 3
    for training, expected in ((True, whole), (False, whole[:, 4:20, 4:20])):
        examples = load_split(experiment, "test", training=training).examples
        assert isinstance(examples, np.ndarray) == (memory_gib > 0)
        np.testing.assert_array_equal(examples[:50], expected)


@pytest.mark.usefixtures("optax_promotes")
def test_augmentations_touch_training_alone(data_dir):
    config = tiny(data_dir)
    config.data.update(flip=True, shift=0.3, random_crop=4)
    experiment = build(config)
    assert experiment.flow.event_shape == (4, 4, 1)
    for name in ("train", "valid", "test"):
        whole = data.load("digits", name, data_dir=data_dir).images
        found = load_split(experiment, name)
        np.testing.assert_array_equal(found.images, whole[:, 2:6, 2:6])
    train = load_split(experiment, "train", training=True)
    batch = batch_at(experiment, train, 0)["example"]
    assert batch.shape == (config.train.batch_size, 4, 4, 1)
    index = data.batch_at(train, 0, batch_size=len(batch), seed=config.seed)["index"]
    assert (batch != train.images[index, 2:6, 2:6]).any((1, 2, 3)).sum() > len(batch) / 2
    # The params are initialised on images as they are trained on.
    assert initial_state(experiment, train).step == 0
