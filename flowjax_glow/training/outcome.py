"""What is left of a run when it ends: its evaluation record, samples and curves."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, UInt8

from flowjax_glow.base import Params, PRNGKey
from flowjax_glow.evaluation import likelihood, round_trip
from flowjax_glow.flow import count_parameters, prepare, sample
from flowjax_glow.likelihood import quantize
from flowjax_glow.report.plots import image_grid, learning_curve, save_image, to_uint8
from flowjax_glow.report.record import environment
from flowjax_glow.training.experiment import Experiment, Trained, load_split
from flowjax_glow.training.metrics import read_metrics

_prepare = jax.jit(prepare, static_argnums=0)
_sample = jax.jit(sample, static_argnums=(0, 3))

# The temperatures of the samples that a run leaves: the paper's, and the model's own distribution.
TEMPERATURES = (0.7, 1.0)


def evaluate_trained(
    trained: Trained,
    workdir: str,
    *,
    split: str = "test",
    draws: int | None = None,
    seed: int | None = None,
    mesh: Mesh,
) -> dict[str, Any]:
    """Bits/dim and round trip of every example of a split, and all that the numbers depend on.

    draws and seed of the dequantization noise are those of the run's config by default. eval.samples
    samples are drawn at temperature 1.0 to see whether they are finite.
    """
    experiment, params, config = trained.experiment, trained.params, trained.experiment.config
    draws = int(config.eval.draws if draws is None else draws)
    seed = int(config.seed if seed is None else seed)
    images = load_split(experiment, split)
    common: dict[str, Any] = {
        "n_bins": experiment.n_bins,
        "batch_size": config.eval.batch_size,
        "conditional": experiment.conditional,
        "mesh": mesh,
    }
    bits = likelihood(experiment.flow, params, images, jax.random.key(seed), draws=draws, **common)
    back = round_trip(experiment.flow, params, images, **common)
    samples = draw_samples(
        experiment, params, jax.random.key(seed), config.eval.samples, temperature=1.0
    )
    return {
        "model": config.model.name,
        "data_set": config.data.name,
        "build": experiment.info.build,
        "split": split,
        "examples": len(images.images),
        "event_shape": list(experiment.flow.event_shape),
        "n_bins": experiment.n_bins,
        "dequantization": "uniform",
        "draws": draws,
        "importance_samples": 1,
        "bits_per_dim": bits.mean,
        "standard_error": bits.standard_error,
        "weights": trained.weights,
        "step": trained.step,
        "parameters": count_parameters(params),
        "round_trip_error": back.error,
        "exact_images": back.exact_images,
        "samples": config.eval.samples,
        "finite_samples": float(samples.finite.mean()),
        "images_per_second": _training_rate(workdir),
        "precision": config.model.get("dtype") or "float32",
        "seed": seed,
        **environment(),
    }


class Samples(NamedTuple):
    """images: 256 levels of brightness, white where a sample overflowed. finite: whether it did not."""

    images: UInt8[np.ndarray, "num height width channels"]
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
    """Samples as images; of a class-conditional model, the classes in turn.

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
    finite = np.asarray(np.isfinite(x).all(axis=(1, 2, 3)))
    levels = np.asarray(quantize(jnp.asarray(x), n_bins=experiment.n_bins))
    images = to_uint8(levels, n_bins=experiment.n_bins)
    images[~finite] = 255
    return Samples(images, finite)


def sample_grid(
    experiment: Experiment, params: Params, *, temperature: float = 0.7, num: int = 64
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture of samples, drawn from the same latents at every call."""
    key = jax.random.key(experiment.config.seed)
    return image_grid(draw_samples(experiment, params, key, num, temperature=temperature).images)


def write_pictures(trained: Trained, workdir: str) -> None:
    """samples/, at two temperatures beside test images, and learning_curve.png."""
    experiment, n_bins = trained.experiment, trained.experiment.n_bins
    folder = Path(workdir) / "samples"
    folder.mkdir(exist_ok=True)
    for temperature in TEMPERATURES:
        picture = sample_grid(experiment, trained.params, temperature=temperature)
        save_image(picture, folder / f"temperature_{temperature}.png")
    test = load_split(experiment, "test")
    save_image(image_grid(to_uint8(test.images[:64], n_bins=n_bins)), folder / "test_images.png")
    learning_curve(read_metrics(workdir), Path(workdir) / "learning_curve.png")


def _training_rate(workdir: str) -> float | None:
    """The median of the images a second that the run logged; None where it logged none."""
    rates = [r["images_per_second"] for r in read_metrics(workdir) if "images_per_second" in r]
    return float(np.median(rates)) if rates else None
