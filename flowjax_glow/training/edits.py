"""Edits of a run's images: the direction of an attribute in latent space, and strips along it.

The direction is of examples with the attribute and without it, dequantized as the model was trained on
them: in the middle of their bins they would all lack what the noise is coded by. What is edited is in
the middle of its bins, so that at strength 0 every pixel comes back.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Integer, UInt8

from flowjax_glow.base import Batch, PRNGKey
from flowjax_glow.flow import encode, prepare
from flowjax_glow.latents import attribute_direction, edit
from flowjax_glow.likelihood import as_floating, quantize
from flowjax_glow.models.hyperparameters import nearest
from flowjax_glow.report.plots import to_uint8
from flowjax_glow.training.experiment import Experiment, Trained
from flowjax_glow.training.other_data import (
    ImageSet,
    levels_of,
    open_set,
    read_attributes,
    take,
)

METHODS = ("difference", "discriminant")
_IN_A_CALL = 256  # images decoded at a time

Rows = Integer[np.ndarray, " _"]


class Kinds(NamedTuple):
    """Rows of a split's examples with an attribute, and of those without it."""

    with_: Rows
    without: Rows


class Strips(NamedTuple):
    """Edited images, a row each.

    values: in 256 levels of brightness, white where decoding overflowed. originals: what was edited, so
    too. exact: of each row, whether strength 0 gives the very same levels. finite: of each image.
    """

    values: UInt8[np.ndarray, "num strengths height width channels"]
    originals: UInt8[np.ndarray, "num height width channels"]
    exact: Bool[np.ndarray, " num"]
    finite: Bool[np.ndarray, "num strengths"]


def find_kinds(
    attribute: str, attributes: Mapping[str, np.ndarray], images: ImageSet, *, most: int, seed: int = 0
) -> Kinds:
    """Examples with an attribute and without it, at most half of `most` of each, drawn by the seed.

    Args:
      attribute: "NAME" of one that is true or false; "NAME=VALUE", equal to it and not; "NAME" of a
        number, in its upper quarter and its lower; "brightness", so the mean level of an image, on
        digits the weight of the stroke.
      attributes: data.attributes of these images.

    Raises:
      ValueError: for an attribute that there is not, naming those there are; for a class without
        "=VALUE" and one of which there is no example; and for a number that hardly varies.
    """
    name, equals, value = attribute.partition("=")
    rng = np.random.default_rng(seed)
    rows = np.arange(len(images.split.labels))
    if name == "brightness" and name not in attributes:
        # Half of them are in neither quarter.
        rows = np.sort(rng.permutation(rows)[: 2 * most])
        values = images.split.images[rows].mean(axis=(1, 2, 3), dtype=np.float64)
    elif name in attributes:
        values = np.asarray(attributes[name])
    else:
        known = dict.fromkeys([*attributes, "brightness"])
        raise ValueError(
            f"attribute must be one of {', '.join(known)}; got {name!r}{nearest(name, known)}"
        )
    is_with, is_without = _split_values(name, values, value if equals else None)
    half = max(1, most // 2)
    return Kinds(*(np.sort(rng.permutation(rows[kind])[:half]) for kind in (is_with, is_without)))


def _split_values(name: str, values: np.ndarray, value: str | None) -> tuple[np.ndarray, np.ndarray]:
    if value is not None:
        equal = values.astype(str) == value
        if not equal.any():
            there = np.unique(values)
            listed = ", ".join(map(str, there)) if len(there) <= 20 else f"{there[0]} to {there[-1]}"
            raise ValueError(f"{name} must be one of {listed}; got {value!r}")
        return equal, ~equal
    if values.dtype == bool:
        return values, ~values
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"a class must be given as {name}=VALUE; got {name}")
    low, high = np.quantile(values, [0.25, 0.75])
    if not low < high:
        raise ValueError(f"{name} must vary between examples; its quartiles are both {low}")
    return values >= high, values <= low


def encode_images(
    trained: Trained,
    images: UInt8[np.ndarray, "num height width channels"],
    labels: Integer[np.ndarray, " num"],
    key: PRNGKey | None = None,
) -> Batch:
    """The latents of images, on the host, in device calls of one shape.

    key: of the dequantization noise; None: the middle of every bin.
    """
    experiment = trained.experiment
    cond, params = _cond(experiment, labels), _prepare(experiment.flow, trained.params)
    size = min(_IN_A_CALL, len(images))
    parts = []
    for start in range(0, len(images), size):
        index = np.arange(start, start + size, dtype=np.int32)
        rows = np.minimum(index, len(images) - 1)
        z = _encode(
            experiment.flow,
            params,
            jnp.asarray(images[rows]),
            None if cond is None else jnp.asarray(cond[rows]),
            key,
            jnp.asarray(index),
            n_bins=levels_of(experiment),
        )
        parts.append(jax.tree.map(np.asarray, z))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(images)], *parts)


def find_direction(
    trained: Trained,
    attribute: str,
    *,
    name: str | None = None,
    split: str = "train",
    method: str = "difference",
    examples: int = 2_000,
    seed: int = 0,
) -> tuple[Batch, Kinds]:
    """The direction of an attribute in the latents, and the examples of the split that it is from.

    Args:
      attribute: as in find_kinds. name: of the data set, as in open_set.
      method: "difference" of the means, or the linear "discriminant"; see attribute_direction.
      examples: at most so many of the split, half of either kind.

    Raises:
      ValueError: from find_kinds, open_set and attribute_direction, and for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    experiment = trained.experiment
    images = open_set(experiment, split, name)
    attributes = read_attributes(experiment, split, name)
    kinds = find_kinds(attribute, attributes, images, most=examples, seed=seed)
    key = jax.random.key(seed)
    z_with, z_without = (
        encode_images(trained, *take(experiment, images, rows), jax.random.fold_in(key, i))
        for i, rows in enumerate(kinds)
    )
    return _direction(z_with, z_without, whitened=method == "discriminant"), kinds


def choose_images(
    trained: Trained, attribute: str, num: int, *, name: str | None = None, seed: int = 0
) -> tuple[UInt8[np.ndarray, "num height width channels"], Integer[np.ndarray, " num"]]:
    """Test images to edit, the first half without the attribute, the others with it; and labels."""
    images = open_set(trained.experiment, "test", name)
    attributes = read_attributes(trained.experiment, "test", name)
    kinds = find_kinds(attribute, attributes, images, most=2 * num, seed=seed)
    without = kinds.without[: num - num // 2]
    return take(trained.experiment, images, np.concatenate([without, kinds.with_[: num // 2]]))


def edit_images(
    trained: Trained,
    images: UInt8[np.ndarray, "num height width channels"],
    labels: Integer[np.ndarray, " num"],
    direction: Batch,
    strengths: Sequence[float],
) -> Strips:
    """Each image moved along a direction of latent space by each strength.

    A class-conditional flow encodes and decodes an image by its own label.
    """
    experiment = trained.experiment
    flow, n_bins = experiment.flow, levels_of(experiment)
    cond, params = _cond(experiment, labels), _prepare(flow, trained.params)
    size = min(len(images), max(1, _IN_A_CALL // (len(strengths) + 1)))
    # Strength 0 comes with every call: what is asked for may be without it.
    amounts = jnp.asarray([0.0, *strengths], jnp.float32)
    parts = []
    for start in range(0, len(images), size):
        rows = np.minimum(np.arange(start, start + size), len(images) - 1)
        x = as_floating(None, jnp.asarray(images[rows]), n_bins=n_bins)
        own = None if cond is None else jnp.asarray(cond[rows])
        parts.append(np.asarray(_edit(flow, params, x, direction, amounts, cond=own)))
    x = np.concatenate(parts)[: len(images)]
    finite = np.all(np.isfinite(x), axis=(2, 3, 4))
    levels = np.asarray(quantize(jnp.asarray(x), n_bins=n_bins))
    values = to_uint8(levels, n_bins=n_bins)
    values[~finite] = 255
    exact = np.equal(levels[:, 0], images).all(axis=(1, 2, 3)) & finite[:, 0]
    return Strips(values[:, 1:], to_uint8(images, n_bins=n_bins), exact, finite[:, 1:])


def _cond(experiment: Experiment, labels: Integer[np.ndarray, " num"]) -> Any:
    if not experiment.conditional:
        return None
    classes = experiment.config.model.num_classes
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"a class-conditional run needs images with labels from 0 to {classes - 1}; got "
            f"{'images without' if labels.min() < 0 else labels.max()}"
        )
    return labels


@functools.partial(jax.jit, static_argnames=("flow", "n_bins"))
def _encode(flow, params, images, cond, key, index, *, n_bins):
    return encode(flow, params, as_floating(key, images, n_bins=n_bins, index=index), cond)


_prepare = jax.jit(prepare, static_argnums=0)
_edit = jax.jit(edit, static_argnums=0)
_direction = jax.jit(attribute_direction, static_argnames="whitened")
