"""Cartoon faces show what their attributes say; attributes of every set come in its images' order."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from flowjax_glow import data
from flowjax_glow.data import cartoon_faces
from flowjax_glow.data.cartoon_faces import FACES, HAIR_COLOURS, draw_face, random_face

SHRUNK = {"train": range(40), "validation": range(18_000, 18_009), "test": range(19_000, 19_010)}


# Numbers on cartoon_faces/1.0.0 compare only where these are its pixels. A digest that changes means
# that something that draws has: raise the version in bundled.py.
def test_faces_are_those_of_the_version():
    faces = [draw_face(random_face(i)) for i in (*range(40), *range(18_000, 18_005), 19_999)]
    assert {(face.shape, face.dtype) for face in faces} == {((32, 32, 3), np.dtype(np.uint8))}
    assert hashlib.sha256(b"".join(map(bytes, faces))).hexdigest()[:16] == "c2aeb8c8cabc9b95"


def _plain(**attributes):
    """A face straight from the front, without glasses."""
    usual = {"smiling": False, "glasses": False, "eye_size": 1.0, "hair_style": "short", "pose": 0.0}
    mouth = {"mouth_curve": 0.0, "mouth_open": 0.0, "mouth_width": 0.9, "x": 0.5, "y": 0.53}
    return random_face(3)._replace(**{**usual, **mouth, **attributes})


@pytest.mark.parametrize(
    ("attributes", "rows", "columns"),
    [
        ({"smiling": True, "mouth_curve": 0.8, "mouth_open": 0.6}, (20, 27), (10, 22)),
        ({"glasses": True}, (12, 20), (6, 26)),
        ({"eye_size": 1.4}, (11, 19), (8, 24)),
        ({"eye_size": 0.6}, (11, 19), (8, 24)),
        ({"brow": -1.0}, (11, 16), (8, 24)),
        ({"hair_colour": "blond"}, (3, 18), (5, 27)),
        ({"pose": 0.7}, (3, 28), (5, 28)),
    ],
)
def test_an_attribute_changes_its_part_of_the_picture_and_no_other(attributes, rows, columns):
    changed = (draw_face(_plain()) != draw_face(_plain(**attributes))).any(-1)
    assert changed.sum() >= 8
    assert changed[slice(*rows), slice(*columns)].sum() == changed.sum()


def test_a_small_change_of_a_number_is_a_small_change_of_the_picture():
    for name, step in (("eye_size", 0.05), ("pose", 0.05), ("mouth_curve", 0.1), ("skin", 0.02)):
        before = _plain()
        after = before._replace(**{name: getattr(before, name) + step})
        change = np.abs(draw_face(before).astype(int) - draw_face(after))
        assert 0 < change.max() <= 80, name


def test_noise_is_low_and_says_nothing_of_the_face():
    smiling = np.array([random_face(i).smiling for i in range(250)], float)
    still = [draw_face(_plain(noise=3.0, seed=i)).astype(float) for i in range(250)]
    noise = np.stack(still) - np.mean(still, axis=0)
    assert noise.std() == pytest.approx(3.0, rel=0.05)
    first = noise.reshape(250, -1)[:, :12]
    assert max(abs(np.corrcoef(smiling, value)[0, 1]) for value in first.T) < 0.25  # 4 / sqrt(250)


def test_attributes_are_independent_and_as_frequent_as_they_say():
    faces = [random_face(i) for i in range(1_000)]
    values = {
        name: [getattr(face, name) for face in faces]
        for name in ("smiling", "glasses", "eye_size", "pose", "skin", "light", "brow", "x", "width")
    }
    for colour in HAIR_COLOURS:
        values[colour] = [face.hair_colour == colour for face in faces]
        assert np.mean(values[colour]) == pytest.approx(1 / len(HAIR_COLOURS), abs=0.06)
    assert np.mean(values["smiling"]) == pytest.approx(0.5, abs=0.06)
    assert np.mean(values["glasses"]) == pytest.approx(0.35, abs=0.06)
    table = np.corrcoef(np.array(list(values.values()), float))
    colours = len(HAIR_COLOURS)
    table[-colours:, -colours:] = 0.0  # a face has one of them
    assert np.abs(table - np.diag(np.diag(table))).max() < 0.13  # 4 / sqrt(1000)


def test_every_face_is_in_one_split():
    assert {split: len(numbers) for split, numbers in FACES.items()} == {
        "train": 18_000,
        "validation": 1_000,
        "test": 1_000,
    }
    assert len({i for numbers in FACES.values() for i in numbers}) == 20_000


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory):
    """A folder with the set of SHRUNK, prepared by its builder."""
    folder = tmp_path_factory.mktemp("cartoon_faces")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cartoon_faces, "FACES", SHRUNK)
        data.load("cartoon_faces", "test", data_dir=folder)
    return folder


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_set_has_the_faces_and_their_attributes(shrunk, split):
    faces = [random_face(i) for i in SHRUNK["validation" if split == "valid" else split]]
    images, labels = data.load("cartoon_faces", split, data_dir=shrunk)
    np.testing.assert_array_equal(images, [draw_face(face) for face in faces])
    assert (labels == -1).all()
    found = data.attributes("cartoon_faces", split, data_dir=shrunk)
    for name in ("smiling", "glasses"):
        assert found[name].dtype == bool
        assert found[name].tolist() == [getattr(face, name) for face in faces]
    for name in ("eye_size", "pose", "skin", "light"):
        np.testing.assert_allclose(found[name], [getattr(face, name) for face in faces], rtol=1e-6)
    for name, names in (("hair_colour", HAIR_COLOURS), ("hair_style", cartoon_faces.HAIR_STYLES)):
        assert [list(names)[i] for i in found[name]] == [getattr(face, name) for face in faces]


def test_info_of_the_set(tmp_path):
    expected = data.Info("cartoon_faces/1.0.0", (32, 32, 3), 256, None)
    assert data.info("cartoon_faces", data_dir=tmp_path) == expected


@pytest.fixture(scope="module")
def portraits():
    """A set of tensorflow-datasets with features in features, as CelebA's: image i is of level i."""
    import tensorflow_datasets as tfds

    class NestedPortraits(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            point = tfds.features.FeaturesDict({"x": np.int64, "y": np.int64})
            features = {
                "image": tfds.features.Image(shape=(8, 8, 3)),
                "label": tfds.features.ClassLabel(names=["even", "odd"]),
                "attributes": {"Smiling": np.bool_, "Young": np.bool_},
                "landmarks": {"left_eye": point, "right_eye": point},
                "weight": np.float32,
                "name": tfds.features.Text(),
                "box": tfds.features.BBoxFeature(),
                "numbers": tfds.features.Sequence(np.int64),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            del dl_manager
            return {"train": self._generate_examples(0, 50), "test": self._generate_examples(50, 60)}

        def _generate_examples(self, start, stop):
            for i in range(start, stop):
                yield (
                    i,
                    {
                        "image": np.full((8, 8, 3), i, np.uint8),
                        "label": i % 2,
                        "attributes": {"Smiling": i % 3 == 0, "Young": i % 5 == 0},
                        "landmarks": {
                            "left_eye": {"x": i, "y": 2 * i},
                            "right_eye": {"x": -i, "y": -2 * i},
                        },
                        "weight": i / 2,
                        "name": str(i),
                        "box": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
                        "numbers": list(range(i % 4)),
                    },
                )

    return "nested_portraits"


@pytest.mark.parametrize(
    ("split", "options"),
    [("train", {}), ("valid", {}), ("valid", {"valid_examples": 13}), ("test", {"memory_gib": 0.0})],
)
def test_attributes_of_any_tfds_set_come_in_the_order_of_its_images(
    portraits, tmp_path, split, options, monkeypatch
):
    options |= {"data_dir": tmp_path, "download": True}
    i = data.load(portraits, split, **options).images[:][:, 0, 0, 0].astype(int)
    monkeypatch.setattr(Image, "open", None)  # no image is decoded for them
    found = data.attributes(portraits, split, **options)
    expected = {
        "label": i % 2,
        "Smiling": i % 3 == 0,
        "Young": i % 5 == 0,
        "landmarks/left_eye/x": i,
        "landmarks/left_eye/y": 2 * i,
        "landmarks/right_eye/x": -i,
        "landmarks/right_eye/y": -2 * i,
        "weight": i / 2,
    }
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    kinds = {"Smiling": np.bool_, "label": np.int64, "weight": np.float32}
    assert {name: found[name].dtype for name in kinds} == kinds


def test_attributes_of_a_folder_are_the_folders_in_it(tmp_path):
    for i in range(60):
        place = tmp_path / ("cats" if i % 2 else "dogs") / ("old" if i % 3 else ".")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (100 * (i % 2), 100 * bool(i % 3), 0)).save(place / f"{i}.png")
    options = {"path": tmp_path, "image_size": 8}
    for split in ("train", "valid"):
        colours = data.load("folder", split, **options).images[:, 0, 0]
        found = data.attributes("folder", split, **options)
        assert found.keys() == {"cats", "dogs", "old"}
        np.testing.assert_array_equal(found["cats"], colours[:, 0] == 100)
        np.testing.assert_array_equal(found["dogs"], colours[:, 0] == 0)
        np.testing.assert_array_equal(found["old"], colours[:, 1] == 100)


def test_digits_have_labels_and_vectors_have_no_attributes(tmp_path):
    found = data.attributes("digits", "valid", data_dir=tmp_path)
    assert list(found) == ["label"]
    labels = data.load("digits", "valid", data_dir=tmp_path).labels
    np.testing.assert_array_equal(found["label"], labels)
    assert data.attributes("moons", "train") == {}


def test_attributes_of_what_cannot_be_loaded_say_why_as_load_does(tmp_path):
    with pytest.raises(FileNotFoundError, match="'mnist' is not prepared in"):
        data.attributes("mnist:3.0.1", "train", data_dir=tmp_path)
    with pytest.raises(ValueError, match="split must be one of train, valid, test; got 'dev'"):
        data.attributes("digits", "dev")
    with pytest.raises(ValueError, match="path is for 'folder' and 'table'; got name 'digits'"):
        data.attributes("digits", "train", path="a")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"none of .* falls into 'test'"):
        data.attributes("folder", "test", path=tmp_path)
