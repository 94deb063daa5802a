"""Batches are a pure function of the step, and augmented for training alone."""

import itertools

import numpy as np
import pytest

from flowjax_glow import data


def random_split(n, height=7, width=9, channels=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, height, width, channels), dtype=np.uint8)
    return data.Split(images, np.arange(n, dtype=np.int32))


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


AUGMENTATIONS = [
    {},
    {"flip": True},
    {"shift": 0.3},
    {"flip": True, "shift": 0.3},
    {"random_crop": 5},
    {"flip": True, "shift": 0.3, "random_crop": 5},
]


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
def test_each_image_is_cropped_mirrored_and_moved_as_allowed(augmentation, channels):
    split = random_split(100, height=7, width=9, channels=channels)
    batch = data.batch_at(split, 0, batch_size=100, seed=0, **augmentation)
    crop = augmentation.get("random_crop")
    tops, lefts = (range(3), range(5)) if crop else ((0,), (0,))
    flips = (0, 1) if augmentation.get("flip") else (0,)
    most = (0, 0) if not augmentation.get("shift") else (1, 1) if crop else (2, 2)  # 0.3 of the sides
    downs, rights = (range(-m, m + 1) for m in most)
    moves = list(itertools.product(tops, lefts, flips, downs, rights))
    found = []
    for image, index in zip(batch["example"], batch["index"], strict=True):
        whole = split.images[index]
        windows = {
            (top, left): whole[top:, left:][:crop, :crop]
            for top, left in itertools.product(tops, lefts)
        }
        same = [m for m in moves if np.array_equal(image, moved(windows[m[:2]], *m[2:]))]
        assert len(same) == 1
        found += same
    # 100 draws miss one of 5 with probability 1e-9.
    for axis, values in enumerate((tops, lefts, flips, downs, rights)):
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
        ({"random_crop": 8}, "random_crop must be in 1 .. 7; got 8"),
        ({"random_crop": 0}, "random_crop must be in 1 .. 7; got 0"),
    ],
)
def test_batches_that_cannot_be(options, match):
    options = {"step": 0, "batch_size": 4, "seed": 0} | options
    with pytest.raises(ValueError, match=match):
        data.batch_at(random_split(10), **options)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="at least one example; got 0"):
        data.batch_at(random_split(0), 0, batch_size=4, seed=0)
