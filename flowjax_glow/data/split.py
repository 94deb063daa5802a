"""A split of a data set in memory, and what has to be known of the set it is from."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8


class Split(NamedTuple):
    """Images and labels of one split, row by row.

    images holds the raw levels 0 .. n_bins - 1. labels is -1 where the set has none.
    """

    images: UInt8[np.ndarray, "examples height width channels"]
    labels: Int32[np.ndarray, " examples"]


class Info(NamedTuple):
    """What has to be known of a data set besides its images.

    build names the exact version, such as "cifar10/3.0.2", and goes beside every number measured
    on the set. n_bins is the number of levels a pixel can take. num_classes is None without labels.
    """

    build: str
    image_shape: tuple[int, int, int]
    n_bins: int
    num_classes: int | None
