"""The likelihood of each image of several sets under a run's flow, beside a lossless codec's rate."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Integer, UInt8

from flowjax_glow.data.codecs import lossless_bits_per_dim
from flowjax_glow.data.split import Split
from flowjax_glow.evaluation import likelihood
from flowjax_glow.outliers import auroc, complexity_score
from flowjax_glow.training.experiment import Trained
from flowjax_glow.training.other_data import levels_of, open_set, take

Images = UInt8[np.ndarray, "num height width channels"]


class Scores(NamedTuple):
    """Bits per dimension of each image by the flow, with one draw of the noise, and by the codec."""

    bits_per_dim: Float[np.ndarray, " images"]
    codec_bits_per_dim: Float[np.ndarray, " images"]

    @property
    def corrected(self) -> Float[np.ndarray, " images"]:
        """The first less the second: how foreign an image is, whatever its complexity."""
        return complexity_score(self.bits_per_dim, self.codec_bits_per_dim)


class Row(NamedTuple):
    """Of a set: how many images, means and deviation, and how well it is told from the test images.

    likelihood, corrected: the area under the ROC curve with bits per dimension as the score, and less
    the codec's; 1 where all are told. None of the run's own images.
    """

    images: int
    bits_per_dim: float
    deviation: float
    codec_bits_per_dim: float
    likelihood: float | None
    corrected: float | None


def score_images(
    trained: Trained,
    images: Images,
    labels: Integer[np.ndarray, " num"],
    *,
    codec: str,
    mesh: Mesh,
    seed: int = 0,
) -> Scores:
    """Both rates of images in the flow's shape and levels."""
    experiment = trained.experiment
    found = likelihood(
        experiment.flow,
        trained.params,
        Split(images, labels.astype(np.int32)),
        jax.random.key(seed),
        dequantizer=experiment.dequantizer,
        noise=trained.noise,
        batch_size=experiment.config.eval.batch_size,
        mesh=mesh,
    )
    return Scores(found.values[0].astype(np.float64), lossless_bits_per_dim(images, codec))


def compare_sets(
    trained: Trained,
    others: list[str],
    *,
    codec: str,
    mesh: Mesh,
    examples: int = 1_000,
    seed: int = 0,
) -> dict[str, Scores]:
    """Scores of "train", "test" and of other images, at most so many of each, drawn by the seed.

    Args:
      others: names of data sets, of which it is the test split, paths of folders, and names in ALTERED,
        which are made of the run's own test images.

    Raises:
      ValueError: for a run of vectors, a class-conditional one, whose densities of other images are
        those of a label that they do not have, and what open_set refuses.
      FileNotFoundError: for a set that is not there.
    """
    experiment = trained.experiment
    if experiment.conditional:
        raise ValueError("likelihoods need a run without classes, which other images do not have")

    def drawn(split: str, name: str | None = None) -> tuple[Images, Integer[np.ndarray, " num"]]:
        images = open_set(experiment, split, name)
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.permutation(len(images.split.labels))[:examples])
        return take(experiment, images, rows)

    test, test_labels = drawn("test")
    sets = {"train": drawn("train"), "test": (test, test_labels)}
    for name in others:
        if name in ALTERED:
            sets[name] = ALTERED[name](test, levels_of(experiment)), test_labels
        else:
            sets[name] = drawn("test", name)
    options = {"codec": codec, "mesh": mesh, "seed": seed}
    return {name: score_images(trained, *images, **options) for name, images in sets.items()}


def summarise(scores: dict[str, Scores]) -> dict[str, Row]:
    """A row of each set, in their order; "test" is what others are told from."""
    own = scores["test"]
    return {
        name: Row(
            images=len(of_set.bits_per_dim),
            bits_per_dim=float(of_set.bits_per_dim.mean()),
            deviation=float(of_set.bits_per_dim.std()),
            codec_bits_per_dim=float(of_set.codec_bits_per_dim.mean()),
            likelihood=None if name == "test" else auroc(own.bits_per_dim, of_set.bits_per_dim),
            corrected=None if name == "test" else auroc(own.corrected, of_set.corrected),
        )
        for name, of_set in scores.items()
    }


def _constant(images: Images, n_bins: int) -> Images:
    del n_bins
    mean = np.round(images.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
    return np.broadcast_to(mean, images.shape).copy()


def _smoothed(images: Images, n_bins: int) -> Images:
    del n_bins
    height, width = images.shape[1:3]
    padded = np.pad(images.astype(np.int32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return ((np.sum(shifted, axis=0) + 4) // 9).astype(np.uint8)


def _noise(images: Images, n_bins: int) -> Images:
    return np.random.default_rng(0).integers(n_bins, size=images.shape, dtype=np.uint8)


# constant: every pixel the mean of its image, by channel. smoothed: every pixel the mean of the 3x3
# around it. noise: every pixel at random.
ALTERED: dict[str, Callable[[Images, int], Images]] = {
    "constant": _constant,
    "smoothed": _smoothed,
    "noise": _noise,
}
