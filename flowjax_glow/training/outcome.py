"""The record of a run when it ends: its likelihood on a split, and all that the number depends on."""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from flowjax_glow import data
from flowjax_glow.evaluation import likelihood, round_trip
from flowjax_glow.flow import count_parameters
from flowjax_glow.likelihood import unit_of
from flowjax_glow.report.record import environment
from flowjax_glow.training.experiment import Trained, load_split
from flowjax_glow.training.metrics import read_metrics
from flowjax_glow.training.pictures import draw_samples


def evaluate_trained(
    trained: Trained,
    workdir: str,
    *,
    split: str = "test",
    draws: int | None = None,
    importance: int | None = None,
    seed: int | None = None,
    mesh: Mesh,
) -> dict[str, Any]:
    """Likelihood and round trip of every example of a split, and all that the numbers depend on.

    Of images bits_per_dim. Of vectors nats, of what the flow is given, and nats_in_own_units, of the
    values before they were standardised: the logs of the deviations in columns are added. nats_of_truth
    is that of the density the examples were drawn from, where it is known. estimated: whether the
    log-determinant was an unbiased estimate.

    draws and seed, of the dequantization noise and of estimates, and importance, the samples that a
    bound is made of, are those of the run's config by default; of vectors there is one sample, and
    where nothing is estimated, one draw. eval.samples samples are drawn at
    temperature 1.0 to see whether they are finite.
    """
    experiment, params, config = trained.experiment, trained.params, trained.experiment.config
    flow, info, n_bins = experiment.flow, experiment.info, experiment.n_bins
    estimated = flow.bijector.stochastic
    draws = int(config.eval.draws if draws is None else draws)
    draws = draws if estimated or n_bins is not None else 1
    importance = int(config.eval.importance if importance is None else importance)
    importance = importance if n_bins is not None else 1
    seed = int(config.seed if seed is None else seed)
    examples = load_split(experiment, split)
    common: dict[str, Any] = {
        "batch_size": config.eval.batch_size,
        "conditional": experiment.conditional,
        "mesh": mesh,
    }
    found = likelihood(
        flow,
        params,
        examples,
        jax.random.key(seed),
        dequantizer=experiment.dequantizer,
        noise=trained.noise,
        draws=draws,
        importance=importance,
        **common,
    )
    back = round_trip(flow, params, examples, n_bins=n_bins, **common)
    samples = draw_samples(
        experiment, params, jax.random.key(seed), config.eval.samples, temperature=1.0
    )
    record = {
        "model": config.model.name,
        "data_set": config.data.name,
        "build": info.build,
        "split": split,
        "examples": len(examples.examples),
        "event_shape": list(flow.event_shape),
        "n_bins": n_bins,
        "dequantization": None if n_bins is None else config.dequantization.name,
        "draws": draws,
        "importance_samples": importance,
        "estimated": estimated,
        unit_of(n_bins).field: found.mean,
        "standard_error": found.standard_error,
        "weights": trained.weights,
        "step": trained.step,
        "parameters": count_parameters((params, trained.noise)),
        "round_trip_error": back.error,
        "exact_images": back.exact_images,
        "samples": config.eval.samples,
        "finite_samples": float(samples.finite.mean()),
        "examples_per_second": _training_rate(workdir),
        "precision": config.model.get("dtype") or "float32",
        "seed": seed,
        **environment(),
    }
    if n_bins is not None:
        return record
    truth = data.log_density(config.data.name, examples.examples)
    return record | {
        "nats_in_own_units": found.mean + sum(math.log(c.deviation) for c in info.columns),
        "nats_of_truth": None if truth is None else float(-truth.mean()),
        "columns": [column._asdict() for column in info.columns],
    }


def _training_rate(workdir: str) -> float | None:
    """The median of the examples a second that the run logged; None where it logged none."""
    rates = [r["examples_per_second"] for r in read_metrics(workdir) if "examples_per_second" in r]
    return float(np.median(rates)) if rates else None
