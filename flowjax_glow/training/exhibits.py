"""What a run's model can show of itself, each as a section of its report.

All of it runs two compiled programs, one each way, in batches of one size, and one more for the noise,
whatever is asked: most of the time that a small model would take is compilation.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, UInt8

from flowjax_glow import latents
from flowjax_glow.base import Batch, Params
from flowjax_glow.flow import Flow, decode, encode, sample
from flowjax_glow.levels import log_prob_by_level
from flowjax_glow.likelihood import (
    as_floating,
    bits_per_dim,
    negative_log_likelihood,
    quantize,
    unit_of,
)
from flowjax_glow.report import html, plots
from flowjax_glow.report.html import Section
from flowjax_glow.training.experiment import Experiment, Trained, load_split
from flowjax_glow.training.other_data import read_attributes
from flowjax_glow.training.pictures import plane_pictures

_BATCH = 64  # examples in a device call, at most: as many as most pictures have
_ROWS, _COLUMNS = 8, 8
_TEMPERATURES = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_LABEL_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
_STRENGTHS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
_NEIGHBOURS = 3

Images = UInt8[np.ndarray, "num height width channels"]


class Examples(NamedTuple):
    """Some examples of a split, all if there are few, and what the model makes of them.

    rows: which. of: how many the split has. x: dequantized, and latents of that. values: -log p of
    each, in bits per dimension or nats.
    """

    rows: Integer[np.ndarray, " num"]
    of: int
    examples: np.ndarray
    labels: Integer[np.ndarray, " num"]
    x: Float[Array, "num *event"]
    log_q: Float[Array, " num"]
    latents: Batch
    values: Float[np.ndarray, " num"]


class View(NamedTuple):
    """A trained model as it is looked at: its flow runs in batches, and its params are prepared."""

    trained: Trained
    flow: Flow
    params: Params

    @property
    def experiment(self) -> Experiment:
        """The run's."""
        return self.trained.experiment

    @property
    def n_bins(self) -> int:
        """Levels of a pixel.

        Raises:
          ValueError: for a model of vectors.
        """
        if self.experiment.n_bins is None:
            raise ValueError(f"the run must be of images; it is of {self.experiment.config.data.name}")
        return self.experiment.n_bins


def view(trained: Trained) -> View:
    """Compiles nothing yet."""
    experiment = trained.experiment
    flow = experiment.flow
    params = jax.jit(flow.bijector.prepare)(trained.params)
    # An estimate needs a key, and the latents do not depend on it.
    key = jax.random.key(experiment.config.seed) if flow.bijector.stochastic else None

    def along(fn):
        run = _in_batches(experiment, lambda params, batch: fn(params, *batch, key))
        return lambda params, value, cond=None, _=None: run(params, (value, cond))

    forward, inverse = along(flow.bijector.forward), along(flow.bijector.inverse)
    bijector = flow.bijector._replace(forward=forward, inverse=inverse)
    return View(trained, flow._replace(bijector=bijector), params)


def _in_batches(experiment: Experiment, fn: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """fn(params, batch), run on so many examples at a time; the last of them are padded."""
    compiled, size = jax.jit(fn), min(_BATCH, experiment.config.eval.batch_size)

    def run(params, batch):
        num, outs = jax.tree.leaves(batch)[0].shape[0], []
        for start in range(0, num, size):
            rows = np.minimum(np.arange(start, start + size), num - 1)
            outs.append(compiled(params, jax.tree.map(lambda leaf, r=rows: leaf[r], batch)))
        return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:num], *outs)

    return run


def look(view: View, split: str, most: int) -> Examples:
    """At most so many examples of a split, drawn by the run's seed, in their order.

    Raises:
      FileNotFoundError: where the data are not there.
    """
    experiment, whole = view.experiment, load_split(view.experiment, split)
    total, key = len(whole.labels), jax.random.key(experiment.config.seed)
    rng = np.random.default_rng(experiment.config.seed)
    rows = np.arange(total) if total <= most else np.sort(rng.choice(total, most, replace=False))
    examples, labels = np.asarray(whole.examples[rows]), np.asarray(whole.labels[rows])

    def dequantized(noise, batch):
        return experiment.dequantizer.sample(noise, key, *batch)

    index = jnp.asarray(rows, jnp.int32)
    x, log_q = _in_batches(experiment, dequantized)(view.trained.noise, (jnp.asarray(examples), index))
    z, logdet = view.flow.bijector.forward(view.params, x, _cond(view, labels))
    log_prob = view.flow.prior.log_prob(z) + logdet - log_q
    values = negative_log_likelihood(log_prob, view.flow.event_shape, n_bins=experiment.n_bins)
    return Examples(rows, total, examples, labels, x, log_q, z, np.asarray(values))


def samples(view: View) -> Section:
    """64 samples, and some at rising temperature."""
    key = jax.random.key(view.experiment.config.seed)
    num = _ROWS * _COLUMNS
    x = sample(view.flow, view.params, key, num, temperature=0.7, cond=_classes(view, num))
    rows = latents.temperature_sweep(
        view.flow, view.params, key, _ROWS, _TEMPERATURES, cond=_classes(view, _ROWS)
    )
    warm = sample(view.flow, view.params, key, num, cond=_classes(view, num))
    finite = int(_finite(warm).sum())
    of_classes = "" if _classes(view, 1) is None else " The classes come in turn."
    return Section(
        "Samples",
        [
            html.tiles(
                _shown(view, x),
                alt=f"{num} samples of the model at temperature 0.7",
                caption=f"{num} samples at temperature 0.7, none chosen.{of_classes}",
            ),
            html.strip(
                _shown(view, rows),
                alt=f"{_ROWS} samples, each at temperatures from 0 to 1",
                caption="Each row is one draw of the latents, multiplied by the temperature above the "
                f"column; at 1 it is the model itself, of which {finite} of {num} samples are finite"
                + ("." if finite == num else "; what overflows is left white."),
                column_labels=[f"{t:g}" for t in _TEMPERATURES],
            ),
        ],
    )


def reconstructions(view: View, test: Examples) -> Section:
    """Images to latents and back, and how many are the same to the last pixel."""
    x = as_floating(None, jnp.asarray(test.examples), n_bins=view.n_bins)
    cond = _cond(view, test.labels)
    back = decode(view.flow, view.params, encode(view.flow, view.params, x, cond), cond)
    levels = np.asarray(quantize(back, n_bins=view.n_bins))
    exact = int(((levels == test.examples).all(axis=(1, 2, 3)) & _finite(back)).sum())
    error = float(jnp.max(jnp.abs(back - x)))
    count = len(test.examples)
    num = min(14, count)  # with the names, as many as go beside each other
    rows = np.stack([_bright(view, test.examples[:num]), _shown(view, back[:num])])
    return Section(
        "Reconstructions",
        [
            html.headline(f"{exact:,} of {count:,}", "images come back with every pixel equal"),
            html.strip(
                rows,
                alt="Test images, and below each what its latents decode to",
                caption="Test images, encoded and decoded again. The largest difference of any number "
                f"is {error:.1e}; a level of a pixel is {1 / view.n_bins:.1e} wide.",
                row_labels=["image", "decoded"],
            ),
        ],
    )


def interpolations(view: View, test: Examples) -> Section | None:
    """Between test images, of which a class-conditional model gets pairs of one class."""
    pairs = _pairs(view, test.labels)
    if not len(pairs):
        return None
    x = as_floating(None, jnp.asarray(test.examples), n_bins=view.n_bins)
    first, second = pairs.T
    rows = latents.interpolate(
        view.flow,
        view.params,
        x[first],
        x[second],
        _COLUMNS,
        spherical=True,
        cond=_cond(view, test.labels[first]),
    )
    return Section(
        "Interpolations",
        [
            html.strip(
                _shown(view, rows),
                alt=f"{len(pairs)} rows of images, from one test image to another",
                caption="The first and the last of each row are test images; between them the latents "
                "move on the sphere from one to the other, in equal steps.",
            )
        ],
    )


def _pairs(view: View, labels: Integer[np.ndarray, " num"]) -> Integer[np.ndarray, "pairs 2"]:
    if not view.experiment.conditional:
        num = min(_ROWS, len(labels) // 2)
        return np.arange(2 * num).reshape(2, num).T
    members = [np.flatnonzero(labels == c)[:2] for c in np.unique(labels)]
    return np.array([m for m in members if len(m) == 2][:_ROWS], int).reshape(-1, 2)


def edits(view: View, train: Examples, test: Examples) -> Section | None:
    """Along an attribute that is true or false, "smiling" first; or from each class to the next.

    None where the set has neither, and where the model is told the classes.
    """
    if (found := _attribute(view)) is not None:
        return _attribute_edits(view, train, test, *found)
    if view.experiment.conditional or view.experiment.info.num_classes is None:
        return None
    counts = {c: np.flatnonzero(train.labels == c) for c in np.unique(test.labels)}
    classes = [c for c, members in counts.items() if len(members) >= 2]
    steps = list(itertools.pairwise(classes))[:_ROWS]
    if not steps:
        return None
    x = as_floating(None, jnp.asarray(test.examples), n_bins=view.n_bins)
    rows = []
    for a, b in steps:
        direction = _direction(train, counts[b], counts[a])
        one = np.flatnonzero(test.labels == a)[:1]
        rows.append(latents.edit(view.flow, view.params, x[one], direction, _LABEL_STRENGTHS))
    return Section(
        "Edits",
        [
            html.strip(
                _shown(view, jnp.concatenate(rows)),
                alt="Test images that are moved towards another class",
                caption="A test image of one class, moved in latent space by the difference of the "
                f"means of two classes in {len(train.rows):,} training images; above each column how "
                "far, 1 being as far as the means are apart. At 0 it is the image itself.",
                row_labels=[f"{a} \N{RIGHTWARDS ARROW} {b}" for a, b in steps],
                column_labels=[f"{s:g}" for s in _LABEL_STRENGTHS],
            )
        ],
    )


def _attribute(view: View) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Its name, and whether each example of train and of test has it."""
    train, test = (read_attributes(view.experiment, split) for split in ("train", "test"))
    names = [name for name, values in train.items() if values.dtype == bool and name in test]
    names.sort(key=lambda name: name.lower() != "smiling")
    return (names[0], train[names[0]], test[names[0]]) if names else None


def _attribute_edits(
    view: View, train: Examples, test: Examples, name: str, of_train: np.ndarray, of_test: np.ndarray
) -> Section | None:
    has, has_not = (np.flatnonzero(of_train[train.rows] == value) for value in (True, False))
    kinds = [np.flatnonzero(of_test[test.rows] == value)[: _ROWS // 2] for value in (False, True)]
    if min(len(has), len(has_not)) < 2 or not sum(map(len, kinds)):
        return None
    chosen = np.concatenate(kinds)
    x = as_floating(None, jnp.asarray(test.examples[chosen]), n_bins=view.n_bins)
    rows = latents.edit(
        view.flow,
        view.params,
        x,
        _direction(train, has, has_not),
        _STRENGTHS,
        cond=_cond(view, test.labels[chosen]),
    )
    return Section(
        "Edits",
        [
            html.strip(
                _shown(view, rows),
                alt=f"Test images with less and with more of {name}",
                caption=f"Test images without {name}, then with it, moved along the difference of "
                f"the means of both kinds in {len(train.rows):,} training images; above each column "
                "how far, 1 being as far as the means are apart. At 0 it is the image itself.",
                row_labels=["without"] * len(kinds[0]) + ["with"] * len(kinds[1]),
                column_labels=[f"{s:+g}" if s else "0" for s in _STRENGTHS],
            )
        ],
    )


def _direction(train: Examples, to: np.ndarray, from_: np.ndarray) -> Batch:
    z = [jax.tree.map(lambda leaf, rows=rows: leaf[rows], train.latents) for rows in (to, from_)]
    return latents.attribute_direction(*z)


def likelihoods(view: View, splits: dict[str, Examples]) -> Section:
    """How likely the model finds the splits; and of test images the most and the least likely."""
    unit = unit_of(view.experiment.n_bins)
    finite = {name: split.values[np.isfinite(split.values)] for name, split in splits.items()}
    counts = [f"{len(split.rows):,} of {split.of:,} {name}" for name, split in splits.items()]
    left = sum(len(split.values) for split in splits.values()) - sum(map(len, finite.values()))
    blocks = [
        html.plot(
            plots.histograms(
                {name: values for name, values in finite.items() if len(values)}, unit.symbol
            ),
            alt=f"Histograms of {unit.symbol} of the splits",
            caption=f"Of each example in {unit.symbol}, less being more likely: {', '.join(counts)} "
            "examples, one draw of what is random."
            + (f" {left} without a finite number are left out." if left else ""),
            width=700,
        )
    ]
    if view.experiment.n_bins is not None:
        test = splits["test"]
        order = np.argsort(test.values, kind="stable")
        num = min(2 * _COLUMNS, len(order))
        for rows, which in ((order[:num], "most"), (order[::-1][:num], "least")):
            blocks.append(
                html.tiles(
                    _bright(view, test.examples[rows]),
                    alt=f"The {num} {which} likely test images",
                    caption=f"The {which} likely of the test images, with their {unit.symbol}.",
                    labels=[f"{value:.2f}" for value in test.values[rows]],
                )
            )
    return Section("Likelihood of examples", blocks)


def levels(view: View, test: Examples) -> Section | None:
    """What each level of a multi-scale model adds to its bits per dimension; None of a single level."""
    shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(test.latents)]
    if len(shapes) == 1:
        return None
    flow = view.experiment.flow
    run = _in_batches(view.experiment, lambda params, batch: log_prob_by_level(flow, params, *batch))
    terms = run(view.params, (test.x, _cond(view, test.labels)))
    dims, rows, total = math.prod(flow.event_shape), [], 0.0
    for i, (shape, term) in enumerate(zip(shapes, terms, strict=True)):
        own = float(jnp.mean(bits_per_dim(term, shape, n_bins=view.n_bins)))
        share = math.prod(shape) / dims
        total += own * share
        rows.append(
            [_level(i, len(shapes)), _by(shape), f"{share:.1%}", f"{own:.3f}", f"{own * share:.3f}"]
        )
    noise = float(jnp.mean(bits_per_dim(-test.log_q, flow.event_shape, n_bins=1)))
    if noise:
        rows.append(["learned noise", "", "", "", f"{noise:.3f}"])
    rows.append(["sum", _by(flow.event_shape), "100%", "", f"{total + noise:.3f}"])
    header = ["level", "latents", "share", "bits/dim of its own", "adds"]
    return Section(
        "Bits per dimension by level",
        [
            html.table(rows, label="Bits per dimension by level", header=header, sums=True),
            html.paragraph(
                "A level has the log-density of the latents that leave there, and its share of each "
                "log-determinant on the way to them, which is shared equally by all numbers that go "
                f"through. The sum is exact: the bits/dim of these {len(test.rows):,} test images. "
                "That the shares are equal is a convention."
            ),
        ],
    )


def _level(i: int, count: int) -> str:
    return f"{i + 1}" + (", finest" if i == 0 else ", coarsest" if i == count - 1 else "")


def neighbours(view: View, train: Examples, test: Examples) -> Section | None:
    """The training images nearest to samples, in pixels and in latents: whether any is a copy."""
    key = jax.random.key(view.experiment.config.seed)
    num = _ROWS * _COLUMNS
    x = sample(view.flow, view.params, key, num, cond=_classes(view, num))
    kept = np.flatnonzero(_finite(x))
    if not len(kept):
        return None
    x, cond = x[kept], _classes(view, num)
    z = encode(view.flow, view.params, x, None if cond is None else cond[kept])
    pixels, pool = _levels(view, x), train.examples
    most = min(_NEIGHBOURS, len(pool))
    by_pixels, distances = _nearest(pixels, pool, most)
    yardstick = _nearest(test.examples[: len(kept)], pool, 1)[1]
    by_latents, _ = latents.nearest(z, train.latents, most)
    rows = np.concatenate(
        [
            _bright(view, pixels)[:_ROWS, None],
            *(_bright(view, pool)[np.asarray(by)[:_ROWS]] for by in (by_pixels, by_latents)),
        ],
        axis=1,
    )
    of_samples, of_test = (float(np.median(d[:, 0])) for d in (distances, yardstick))
    copies = int((distances[:, 0] == 0).sum())
    return Section(
        "Nearest training images",
        [
            html.strip(
                rows,
                alt="Samples, and the training images nearest to each",
                caption=f"Samples at temperature 1, and the nearest of {len(pool):,} of "
                f"{train.of:,} training images, by pixels and by latents.",
                column_labels=["sample", *(f"pixels {i + 1}" for i in range(most))]
                + [f"latents {i + 1}" for i in range(most)],
            ),
            html.paragraph(
                f"Of {len(kept)} samples {copies or 'none'} equal a training image. From a sample to "
                f"its nearest training image it is {of_samples:.2f} levels (root mean square over the "
                f"pixels; the median), from a test image to its own {of_test:.2f}. Samples of a model "
                "that had learned images by heart would be much nearer than test images are."
            ),
        ],
    )


def _nearest(images: np.ndarray, among: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Places, and root mean square distances in levels."""
    of, pool = (jnp.asarray(part, jnp.float32) for part in (images, among))
    places, distances = latents.nearest(of, pool, num)
    return np.asarray(places), np.asarray(distances) / math.sqrt(images[0].size)


def plane(view: View) -> Section:
    """Samples and the density of vectors of two numbers."""
    pictures = plane_pictures(view.trained)
    return Section(
        "Samples and density",
        [
            html.plot(
                pictures["samples"],
                alt="Points of the test data, and samples of the model",
                caption="Test data, and as many samples at temperature 1.",
                width=900,
            ),
            html.plot(
                pictures["density"],
                alt="The model's density over the plane",
                caption="The density, exact at every point.",
                width=460,
                is_map=True,
            ),
        ],
    )


def _cond(view: View, labels: Integer[np.ndarray, " num"]) -> Batch | None:
    return jnp.asarray(labels) if view.experiment.conditional else None


def _classes(view: View, num: int) -> Batch | None:
    classes = view.experiment.config.model.get("num_classes")
    return None if classes is None else jnp.arange(num) % classes


def _levels(view: View, x: Float[Array, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return np.asarray(quantize(x, n_bins=view.n_bins))


def _bright(view: View, images: UInt8[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    return plots.to_uint8(images, n_bins=view.n_bins)


def _shown(view: View, x: Float[Array, "*batch height width channels"]) -> np.ndarray:
    """As people see them; white where a sample overflowed."""
    images = _bright(view, _levels(view, x))
    images[~_finite(x)] = 255
    return images


def _finite(x: Float[Array, "*batch height width channels"]) -> np.ndarray:
    return np.asarray(np.isfinite(np.asarray(x)).all(axis=(-3, -2, -1)))


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
