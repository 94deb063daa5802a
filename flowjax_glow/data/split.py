"""A split of a data set, and what has to be known of the set it is from."""

import hashlib
from typing import Any, NamedTuple


class Split(NamedTuple):
    """Examples and labels of one split, row by row.

    examples: uint8 (examples, height, width, channels), images as levels 0 .. n_bins - 1, or float32
    (examples, dim), vectors. labels: int32 (examples,), -1 where the set has none. Both are arrays, or
    of a split too large for the memory `Streamed`, which is indexed by rows as they are.
    """

    examples: Any
    labels: Any

    @property
    def images(self) -> Any:
        """The examples of a set of images.

        Raises:
          ValueError: for a set of vectors.
        """
        if self.examples.ndim != 4:
            raise ValueError(f"examples must be images; got vectors of {self.examples.shape[1]}")
        return self.examples


class Column(NamedTuple):
    """One number of a vector: its name, and what was subtracted from it and divided by.

    The vector holds (value - mean) / deviation of the value in its own units.
    """

    name: str
    mean: float = 0.0
    deviation: float = 1.0


class Info(NamedTuple):
    """What has to be known of a data set besides its examples.

    version names the exact data, such as "cifar10/3.0.2", and build which of the incompatible sets of
    that name, as of ImageNet's: "oord2016". Both go beside every number measured on the set.
    event_shape is of one example: (height, width, channels), or (dim,) of vectors. n_bins is the number
    of levels a pixel can take, None for vectors, which are continuous. num_classes is None without
    labels. columns has one entry for each number of a vector, and none for images.
    """

    version: str
    event_shape: tuple[int, ...]
    n_bins: int | None
    num_classes: int | None
    columns: tuple[Column, ...] = ()
    build: str | None = None


def hashed_split(content: bytes) -> str:
    """The split of an example that is in no split: train with probability 0.8, valid or test with 0.1.

    With u the first 8 bytes of the content's SHA-256 as a fraction of 2^64, u < 0.8 is train, u < 0.9
    valid, and the rest test. So examples added or removed never move another.
    """
    u = int.from_bytes(hashlib.sha256(content).digest()[:8]) / 2**64
    return "train" if u < 0.8 else "valid" if u < 0.9 else "test"
