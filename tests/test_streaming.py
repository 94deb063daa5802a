"""A split on the disk is the same array as in memory, and a run on it the same run."""

import threading
import time

import jax
import numpy as np
import pytest
from configs import tiny

from flowjax_glow import data
from flowjax_glow.data import prepared
from flowjax_glow.data.geometry import Geometry
from flowjax_glow.data.streaming import Streamed
from flowjax_glow.evaluation import likelihood
from flowjax_glow.sharding import make_mesh
from flowjax_glow.training import loop
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.experiment import abstract_state, batch_at, build, load_split

SIZES = {"train": 40, "test": 7}
ROWS = {
    "all": slice(None),
    "slice": slice(3, 30, 4),
    "backwards": slice(-2, None, -3),
    "out of order, with copies": np.array([5, 0, 5, 2], np.int32),
    "from the end": np.array([-1, 3, -36]),
    "none": np.array([], np.int32),
    "a mask": np.arange(36) % 3 == 0,
    "two axes": np.array([[4, 1], [0, 35]]),
    "one": 4,
    "the last": -1,
}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """load(shape, split, memory_gib, geometry) of a set of random images of a shape, prepared once.

    A height or width of None is another one for each image. Sets of grey images have labels.
    """
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("made")

    def made(shape):
        class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                image = {"image": tfds.features.Image(shape=shape, encoding_format="png")}
                label = {"label": tfds.features.ClassLabel(num_classes=100)}
                features = tfds.features.FeaturesDict(image | label if shape[-1] == 1 else image)
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, dl_manager):
                del dl_manager
                return {split: self._generate_examples(split) for split in SIZES}

            def _generate_examples(self, split):
                for i in range(SIZES[split]):
                    rng = np.random.default_rng([i, len(split)])
                    size = [side or rng.integers(9, 20) for side in shape]
                    image = rng.integers(0, 256, size, dtype=np.uint8)
                    yield i, {"image": image} | ({"label": i} if shape[-1] == 1 else {})

        return Made(data_dir=folder / "_".join(map(str, shape)))

    def load(shape, split="train", memory_gib=0.0, geometry=None):
        options = {"valid_examples": None, "download": True, "memory_gib": memory_gib}
        return prepared.load(made(shape), split, geometry=geometry or Geometry(), **options)

    return load


def both(load, *args, **options):
    """A split on the disk, and the same in memory."""
    return load(*args, memory_gib=0.0, **options), load(*args, memory_gib=4.0, **options)


def prefetching_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("grain-prefetch")]


def end_of_prefetching_threads():
    """Waits for the threads, which end with the batch that they are at."""
    deadline = time.monotonic() + 20
    while prefetching_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not prefetching_threads()


@pytest.mark.parametrize(
    ("shape", "geometry"),
    [
        ((12, 12, 1), Geometry()),
        ((12, 12, 1), Geometry(pad=2, channels=3)),
        ((10, 8, 3), Geometry(crop=8, image_size=4)),
        ((None, None, 3), Geometry(image_size=8, random_crop=6)),
    ],
)
def test_rows_on_the_disk_are_those_in_memory(load, shape, geometry):
    for split, n in (("train", 36), ("valid", 4), ("test", 7)):
        streamed, in_memory = both(load, shape, split, geometry=geometry)
        assert isinstance(streamed.images, Streamed)
        assert isinstance(in_memory.images, np.ndarray)
        for name in ("shape", "dtype", "ndim", "nbytes"):
            assert getattr(streamed.examples, name) == getattr(in_memory.examples, name)
        assert len(streamed.examples) == len(streamed.labels) == n
        np.testing.assert_array_equal(streamed.examples[:], in_memory.examples)
        np.testing.assert_array_equal(streamed.labels[:], in_memory.labels)
        if split == "train":
            for rows in ROWS.values():
                for name in ("examples", "labels"):
                    there, here = (getattr(s, name)[rows] for s in (streamed, in_memory))
                    np.testing.assert_array_equal(there, here)
                    assert there.dtype == here.dtype
    assert (in_memory.labels[:].min() == -1) == (shape[-1] == 3)


@pytest.mark.parametrize("rows", [36, -37, [0, 36], 1.5])
def test_what_is_no_row_is_refused_as_by_numpy(load, rows):
    for split in both(load, (12, 12, 1)):
        with pytest.raises(IndexError):
            split.examples[rows]


def test_only_the_images_that_are_asked_for_are_decoded(load, monkeypatch):
    split = load((12, 12, 1))
    decoded = []
    apply = Geometry.apply
    monkeypatch.setattr(Geometry, "apply", lambda *args: decoded.append(1) or apply(*args))
    assert split.labels[:].shape == (36,)
    assert not decoded
    assert split.examples[np.array([30, 2])].shape == (2, 12, 12, 1)
    assert len(decoded) == 2


@pytest.mark.parametrize("process_count", [1, 2])
def test_batches_of_a_split_on_the_disk_are_those_in_memory(load, process_count):
    options = {"batch_size": 14, "seed": 3, "process_count": process_count, "flip": True, "shift": 0.2}
    streamed, in_memory = both(load, (12, 12, 1))
    for step in (5, 0, 2):  # some straddle epochs of 36
        for process in range(process_count):
            there, here = (
                data.batch_at(s, step, process_index=process, random_crop=10, **options)
                for s in (streamed, in_memory)
            )
            for name, value in here.items():
                np.testing.assert_array_equal(there[name], value)
                assert there[name].dtype == value.dtype


@pytest.mark.parametrize(("name", "split"), [("digits", "test"), ("digits", "valid")])
def test_a_bundled_set_on_the_disk_is_that_in_memory(data_dir, name, split):
    streamed, in_memory = (data.load(name, split, data_dir=data_dir, memory_gib=g) for g in (0.0, 4.0))
    assert isinstance(streamed.images, Streamed)
    rows = np.random.default_rng(0).permutation(len(in_memory.images))[:50]
    np.testing.assert_array_equal(streamed.images[rows], in_memory.images[rows])
    np.testing.assert_array_equal(streamed.labels[rows], in_memory.labels[rows])


@pytest.mark.parametrize("memory_gib", [0.0, 4.0])
def test_batches_made_ahead_are_those_of_the_steps(data_dir, memory_gib):
    config = tiny(data_dir, steps=60, batch_size=100, steps_per_call=3)
    config.data.memory_gib, config.data.shift = memory_gib, 0.2
    experiment = build(config)
    split = load_split(experiment, "train", training=True)
    batches = loop._batches(experiment, split, start=7)
    for step in range(7, 60):
        batch = next(batches)
        assert bool(prefetching_threads()) == (memory_gib == 0)
        for name, value in batch_at(experiment, split, step).items():
            np.testing.assert_array_equal(batch[name], value)
    with pytest.raises(StopIteration):
        next(batches)
    batches.close()
    assert end_of_prefetching_threads()


def test_a_mistake_in_a_thread_is_raised_where_the_batch_is_taken(data_dir):
    config = tiny(data_dir, steps=50)
    config.data.memory_gib = 0.0
    experiment = build(config)
    split = load_split(experiment, "train", training=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Streamed, "__getitem__", lambda *_: 1 / 0)
        batches = loop._batches(experiment, split, start=0)
        with pytest.raises(ZeroDivisionError):
            next(batches)
        batches.close()
    assert end_of_prefetching_threads()


class StoppedError(Exception):
    pass


@pytest.mark.usefixtures("optax_promotes")
def test_a_run_on_the_disk_stopped_and_gone_on_with_is_the_run_in_memory(
    data_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "can_be_drawn", lambda _: False)  # spares compiling it

    def config_of(memory_gib):
        config = tiny(data_dir)
        config.data.memory_gib, config.data.shift = memory_gib, 0.1
        return config

    def state_of(workdir):
        with Checkpoints(workdir / "checkpoints", create=False) as checkpoints:
            state = checkpoints.restore(4, abstract_state(build(config_of(4.0))))
        return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))

    loop.train(loop.set_up(config_of(4.0), str(tmp_path / "whole")))

    def stop_at_3(config, step, is_evaluated=loop._is_evaluated):
        if step == 3:
            raise StoppedError
        return is_evaluated(config, step)

    halves = loop.set_up(config_of(0.0), str(tmp_path / "halves"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_is_evaluated", stop_at_3)
        with pytest.raises(StoppedError):
            loop.train(halves)
    assert end_of_prefetching_threads()
    loop.train(halves)
    assert end_of_prefetching_threads()
    states = state_of(tmp_path / "whole"), state_of(tmp_path / "halves")
    jax.tree.map(np.testing.assert_array_equal, *states)

    experiment, mesh = halves.experiment, make_mesh()
    splits = [load_split(build(config_of(gib)), "valid") for gib in (0.0, 4.0)]
    assert isinstance(splits[0].images, Streamed)
    params = jax.tree.map(np.asarray, states[0].params["flow"])
    found = [
        likelihood(
            experiment.flow,
            params,
            split,
            jax.random.key(0),
            dequantizer=experiment.dequantizer,
            batch_size=64,
            mesh=mesh,
        ).values
        for split in splits
    ]
    np.testing.assert_array_equal(found[0], found[1])
