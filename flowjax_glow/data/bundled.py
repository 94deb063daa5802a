"""The data sets that need no download: digits, crops of photographs, cartoon faces, as tfds builders.

digits: the 1,797 handwritten digits of scikit-learn, 8x8x1, with 17 levels (0 .. 16) and labels, in
their order there: 1,293 to train, 144 valid, 360 test.

photos: 32x32x3 crops of the ten colour photographs that ship inside scikit-learn and scikit-image,
split by photograph: 21,000 of seven photographs to train, 1,500 of one valid, 2,400 of two to test.
A photograph is taken at full size and reduced 2 and 3 times (the mean of each 2x2 or 3x3 block,
rounded), and from each of the three the same number of crops, at random positions. Crops of one
photograph overlap, but no two of the set are equal.

cartoon_faces: 32x32x3, 20,000 faces that cartoon_faces.py draws: 18,000 to train, 1,000 valid, 1,000
test, in the order of their numbers, with the attributes that they were drawn from.
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from flowjax_glow.data import cartoon_faces
from flowjax_glow.data.without_tensorflow import png

N_BINS = {"digits": 17, "photos": 256, "cartoon_faces": 256}

PHOTOGRAPHS = {
    "train": (
        "astronaut",
        "flower",
        "hubble_deep_field",
        "immunohistochemistry",
        "motorcycle",
        "retina",
        "rocket",
    ),
    "validation": ("coffee",),
    "test": ("chelsea", "china"),
}
_FACTORS = (1, 2, 3)
_CROPS = {"train": 1000, "validation": 500, "test": 400}  # of a photograph, at a factor
_SIZE = 32


@functools.cache
def register() -> None:
    """Makes the bundled sets known to tfds.builder."""
    import tensorflow_datasets as tfds

    class Digits(tfds.core.GeneratorBasedBuilder):
        """The handwritten digits of scikit-learn."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description=self.__doc__,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            rows = {"train": (0, 1293), "validation": (1293, 1437), "test": (1437, 1797)}
            return {split: self._generate_examples(*range_) for split, range_ in rows.items()}

        def _generate_examples(self, start, stop):
            from sklearn.datasets import load_digits

            digits: Any = load_digits()
            for i in range(start, stop):
                image = digits.images[i].astype(np.uint8)[..., None]
                yield i, {"image": png(image), "label": digits.target[i]}

    class Photos(tfds.core.GeneratorBasedBuilder):
        """Crops of the photographs inside scikit-learn and scikit-image."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(_SIZE, _SIZE, 3), encoding_format="png"),
                "photograph": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description=self.__doc__,
                features=tfds.features.FeaturesDict(features),
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            seen = set()
            return {split: self._generate_examples(split, seen) for split in PHOTOGRAPHS}

        def _generate_examples(self, split, seen):
            for name in PHOTOGRAPHS[split]:
                photograph = _photograph(name)
                for factor in _FACTORS:
                    reduced = reduce(photograph, factor)
                    for position, image in _crops(reduced, _CROPS[split], seen):
                        key = f"{name} {factor} {position}"
                        yield key, {"image": png(image), "photograph": name}

    class CartoonFaces(tfds.core.GeneratorBasedBuilder):
        """Faces drawn from known attributes."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            size = cartoon_faces.SIZE
            numbers = ("eye_size", "pose", "skin", "light")
            features = {
                "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                "smiling": np.bool_,
                "glasses": np.bool_,
                "hair_colour": tfds.features.ClassLabel(names=list(cartoon_faces.HAIR_COLOURS)),
                "hair_style": tfds.features.ClassLabel(names=list(cartoon_faces.HAIR_STYLES)),
                **dict.fromkeys(numbers, np.float32),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description=self.__doc__,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            faces = cartoon_faces.FACES
            return {split: self._generate_examples(numbers) for split, numbers in faces.items()}

        def _generate_examples(self, numbers):
            features: Any = self.info.features
            for i in numbers:
                face = cartoon_faces.random_face(i)
                shown = {"image": png(cartoon_faces.draw_face(face)), **face._asdict()}
                yield i, {name: shown[name] for name in features}


def reduce(
    image: UInt8[np.ndarray, "height width channels"], factor: int
) -> UInt8[np.ndarray, "reduced_height reduced_width channels"]:
    """The mean of each factor x factor block, rounded, without the rest on the right and below."""
    height, width, channels = image.shape
    height, width = height // factor, width // factor
    blocks = image[: height * factor, : width * factor].astype(np.uint32)
    sums = blocks.reshape(height, factor, width, factor, channels).sum((1, 3))
    return ((sums + factor**2 // 2) // factor**2).astype(np.uint8)


def _photograph(name: str) -> UInt8[np.ndarray, "height width 3"]:
    from skimage import data
    from sklearn.datasets import load_sample_image

    if name in ("china", "flower"):
        return load_sample_image(f"{name}.jpg")
    if name == "motorcycle":
        return data.stereo_motorcycle()[0]  # the left of the pair
    return getattr(data, name)()


def _crops(image: np.ndarray, number: int, seen: set[bytes]) -> Iterator[tuple[int, np.ndarray]]:
    """Position and pixels of `number` crops, none of them in `seen`, to which they are added."""
    rows, columns = image.shape[0] - _SIZE + 1, image.shape[1] - _SIZE + 1
    # RandomState, since numpy promises never to change its stream: version 1.0.0 is these crops.
    positions = iter(np.random.RandomState(0).permutation(rows * columns).tolist())
    while number:
        position = next(positions)
        top, left = divmod(position, columns)
        crop = image[top : top + _SIZE, left : left + _SIZE]
        if crop.tobytes() in seen:
            continue
        seen.add(crop.tobytes())
        number -= 1
        yield position, crop
