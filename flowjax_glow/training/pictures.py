"""Samples of a run, and the pictures it leaves of them: images in a grid, points in the plane."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from flowjax_glow.base import Params, PRNGKey
from flowjax_glow.data.split import Info
from flowjax_glow.flow import log_prob, prepare, sample
from flowjax_glow.likelihood import quantize, unit_of
from flowjax_glow.report import plots
from flowjax_glow.training.experiment import Experiment, Trained, load_split
from flowjax_glow.training.metrics import read_metrics

_prepare = jax.jit(prepare, static_argnums=0)
_sample = jax.jit(sample, static_argnums=(0, 3))
_log_prob = jax.jit(log_prob, static_argnums=0)

# The temperatures of the images that a run leaves: the paper's, and the model's own distribution.
TEMPERATURES = (0.7, 1.0)
_POINTS = 5_000  # in a scatter plot


class Samples(NamedTuple):
    """Samples for people, and which of them did not overflow.

    values: images in 256 levels of brightness, white where a sample overflowed; or vectors in the
    data's own units.
    """

    values: UInt8[np.ndarray, "num height width channels"] | Float[np.ndarray, "num dim"]
    finite: Bool[np.ndarray, " num"]


def draw_samples(
    experiment: Experiment,
    params: Params,
    key: PRNGKey,
    num: int,
    *,
    temperature: float,
    batch_size: int = 256,
) -> Samples:
    """Samples of a flow; of a class-conditional one, the classes in turn.

    An affine coupling can overflow when it samples: data come back to 1e-6 all the same, since their
    latents are not where that happens.
    """
    flow, size = experiment.flow, min(num, batch_size)
    classes = experiment.config.model.get("num_classes")
    params = _prepare(flow, params)
    batches = []
    for start in range(0, num, size):
        cond = None if classes is None else (start + jnp.arange(size)) % classes
        batch_key = jax.random.fold_in(key, start)
        x = _sample(flow, params, batch_key, size, temperature=temperature, cond=cond)
        batches.append(np.asarray(x))
    x = np.concatenate(batches)[:num]
    finite = np.asarray(np.isfinite(x.reshape(num, -1)).all(axis=1))
    if experiment.n_bins is None:
        return Samples(in_own_units(experiment.info, x), finite)
    levels = np.asarray(quantize(jnp.asarray(x), n_bins=experiment.n_bins))
    images = plots.to_uint8(levels, n_bins=experiment.n_bins)
    images[~finite] = 255
    return Samples(images, finite)


def in_own_units(info: Info, x: Float[np.ndarray, "num dim"]) -> Float[np.ndarray, "num dim"]:
    """Vectors as they were before they were standardised, float64."""
    _, mean, deviation = zip(*info.columns, strict=True)
    return x * np.array([deviation]) + np.array([mean])


def can_be_drawn(experiment: Experiment) -> bool:
    """Whether there are pictures of the run's data: of images, and of vectors in the plane."""
    return experiment.n_bins is not None or experiment.flow.event_shape == (2,)


def picture_of(experiment: Experiment, samples: Samples) -> UInt8[np.ndarray, "height width 3"]:
    """The samples in one picture: images in a grid, points in the plane.

    Raises:
      ValueError: for vectors of more or fewer than two numbers.
    """
    if not can_be_drawn(experiment):
        (dim,) = experiment.flow.event_shape
        raise ValueError(f"a picture must be of images, or of vectors of 2 numbers; got {dim}")
    if experiment.n_bins is not None:
        return plots.image_grid(samples.values)
    return plots.scatter({"samples": samples.values[samples.finite]}, _names(experiment))


def sample_picture(
    experiment: Experiment, params: Params, *, temperature: float = 0.7
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture of 64 images, or 5,000 points at temperature 1, from the same latents at every call."""
    key = jax.random.key(experiment.config.seed)
    num, temperature = (_POINTS, 1.0) if experiment.n_bins is None else (64, temperature)
    return picture_of(experiment, draw_samples(experiment, params, key, num, temperature=temperature))


def write_pictures(trained: Trained, workdir: str) -> None:
    """learning_curve.png, and in samples/ what can be drawn: samples, test data, the density."""
    experiment = trained.experiment
    unit = unit_of(experiment.n_bins)
    plots.learning_curve(read_metrics(workdir), Path(workdir) / "learning_curve.png", unit=unit)
    if not can_be_drawn(experiment):
        return
    folder = Path(workdir) / "samples"
    folder.mkdir(exist_ok=True)
    if experiment.n_bins is None:
        pictures = plane_pictures(trained)
    else:
        pictures = _image_pictures(trained, experiment.n_bins)
    for name, picture in pictures.items():
        plots.save_image(picture, folder / f"{name}.png")


def _image_pictures(trained: Trained, n_bins: int) -> dict[str, UInt8[np.ndarray, "height width 3"]]:
    experiment = trained.experiment
    pictures = {
        f"temperature_{t}": sample_picture(experiment, trained.params, temperature=t)
        for t in TEMPERATURES
    }
    test = plots.to_uint8(load_split(experiment, "test").images[:64], n_bins=n_bins)
    return pictures | {"test_images": plots.image_grid(test)}


def plane_pictures(trained: Trained) -> dict[str, UInt8[np.ndarray, "height width 3"]]:
    """Of vectors of two numbers: "samples", beside test data, and "density"."""
    experiment, params = trained.experiment, trained.params
    info, names = experiment.info, _names(experiment)
    test = in_own_units(info, load_split(experiment, "test").examples)[:_POINTS]
    key = jax.random.key(experiment.config.seed)
    samples = draw_samples(experiment, params, key, len(test), temperature=1.0)

    def density(points):  # of x: in the values' own units it is a constant times as large
        _, mean, deviation = zip(*info.columns, strict=True)
        x = ((points - np.array([mean])) / np.array([deviation])).astype(np.float32)
        return np.exp(np.asarray(_log_prob(experiment.flow, params, jnp.asarray(x))))

    return {
        "samples": plots.scatter({"test data": test, "samples": samples.values[samples.finite]}, names),
        "density": plots.heat_map(density, test, "density", names),
    }


def _names(experiment: Experiment) -> list[str]:
    return [column.name for column in experiment.info.columns]
