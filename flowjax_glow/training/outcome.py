"""The record of a run when it ends: its likelihood on a split, and all that the number depends on."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from flowjax_glow import data
from flowjax_glow.data.split import Split
from flowjax_glow.evaluation import (
    Likelihood,
    check_importance,
    device_calls,
    likelihood,
    round_trip,
)
from flowjax_glow.flow import count_parameters
from flowjax_glow.likelihood import unit_of
from flowjax_glow.report.record import environment
from flowjax_glow.training.config import fingerprint
from flowjax_glow.training.experiment import Experiment, Trained, load_split
from flowjax_glow.training.metrics import Progress, Silent, read_metrics, training_seconds
from flowjax_glow.training.pictures import draw_samples


class Protocol(NamedTuple):
    """What can be chosen of an evaluation, besides the weights.

    split: "train", "valid" or "test". draws: of the dequantization noise, and of estimates, for each
    example. importance: K, the samples in the bound of a draw. seed: of all of them.
    """

    split: str
    draws: int
    importance: int
    seed: int


def choose_protocol(
    experiment: Experiment,
    *,
    split: str = "test",
    draws: int | None = None,
    importance: int | None = None,
    seed: int | None = None,
) -> Protocol:
    """A protocol with the config's draws, importance and seed where they are None.

    Where nothing is random, of vectors whose log-determinant is exact, there is one draw.

    Raises:
      ValueError: for no draws, and for the importance that evaluation.check_importance refuses.
    """
    config, flow = experiment.config, experiment.eval_flow
    draws = int(config.eval.draws if draws is None else draws)
    if draws < 1:
        raise ValueError(f"draws must be at least 1; got {draws}")
    is_random = flow.bijector.stochastic or experiment.n_bins is not None
    importance = int(config.eval.importance if importance is None else importance)
    check_importance(flow, experiment.dequantizer, importance)
    seed = int(config.seed if seed is None else seed)
    return Protocol(split, draws if is_random else 1, importance, seed)


def record_name(trained: Trained, protocol: Protocol) -> str:
    """The file in the run's folder that holds the record of this protocol.

    evaluation.json is the run's own, of the test split by its config; another's name says what differs:
    evaluation_split=valid_draws=3.json.
    """
    own = choose_protocol(trained.experiment)._asdict()
    differs = {name: value for name, value in protocol._asdict().items() if value != own[name]}
    if trained.weights != trained.experiment.config.eval.weights:
        differs["weights"] = trained.weights
    return "_".join(["evaluation", *(f"{name}={value}" for name, value in differs.items())]) + ".json"


def evaluate_trained(
    trained: Trained,
    workdir: str,
    protocol: Protocol | None = None,
    *,
    batch_size: int | None = None,
    mesh: Mesh,
) -> dict[str, Any]:
    """Likelihood and round trip of every example of a split, and all that the numbers depend on.

    Of images bits_per_dim. Of vectors nats, of what the flow is given, and nats_in_own_units, of the
    values before they were standardised: the logs of the deviations in columns are added. nats_of_truth
    is that of the density the examples were drawn from, where it is known.

    standard_error: of that number over the examples. standard_error_of_draws: over the draws, None of
    one. estimated: whether the log-determinant was an unbiased estimate. seed: of the noise;
    training_seed: of the run. config: a fingerprint, the same of runs that differ in training_seed
    alone. n_bits: None where the levels are no power of two. device_kind and devices: where it was
    evaluated. training_seconds: see training.metrics.MetricsLog. paper: the config's.

    eval.samples samples are drawn at temperature 1.0 to see whether they are finite. A bar goes to
    stderr, or now and then a line.

    Args:
      protocol: what is measured; choose_protocol's of the run by default.
      batch_size: examples in a device call, by default the config's; it changes no number.
    """
    experiment, params, config = trained.experiment, trained.params, trained.experiment.config
    flow, info, n_bins = experiment.flow, experiment.info, experiment.n_bins
    protocol = choose_protocol(experiment) if protocol is None else protocol
    batch_size = int(config.eval.batch_size if batch_size is None else batch_size)
    examples = load_split(experiment, protocol.split)
    found = _likelihood(trained, examples, protocol, batch_size, mesh)
    back = round_trip(
        flow,
        params,
        examples,
        n_bins=n_bins,
        batch_size=batch_size,
        conditional=experiment.conditional,
        mesh=mesh,
    )
    samples = draw_samples(
        experiment, params, jax.random.key(protocol.seed), config.eval.samples, temperature=1.0
    )
    record = {
        "run": Path(workdir).resolve().name,
        "model": config.model.name,
        "data_set": config.data.name,
        "build": info.build,
        "version": info.version,
        "split": protocol.split,
        "examples": len(examples.examples),
        "event_shape": list(flow.event_shape),
        "n_bins": n_bins,
        "n_bits": _n_bits(n_bins),
        "dequantization": None if n_bins is None else config.dequantization.name,
        "draws": protocol.draws,
        "importance_samples": protocol.importance,
        "estimated": flow.bijector.stochastic,
        unit_of(n_bins).field: found.mean,
        "standard_error": found.standard_error,
        "standard_error_of_draws": found.standard_error_of_draws,
        "weights": trained.weights,
        "step": trained.step,
        "parameters": count_parameters((params, trained.noise)),
        "eval_model": config.eval.model.to_dict(),
        "round_trip_error": back.error,
        "exact_images": back.exact_images,
        "samples": config.eval.samples,
        "finite_samples": float(samples.finite.mean()),
        "precision": config.model.get("dtype") or "float32",
        "matmul_precision": _matmul_precision(),
        "seed": protocol.seed,
        "training_seed": config.seed,
        "training_seconds": training_seconds(workdir),
        "examples_per_second": _training_rate(workdir),
        "config": fingerprint(config),
        "device_kind": mesh.devices.flat[0].device_kind,
        "devices": mesh.size,
        **environment(),
        "paper": config.paper.to_dict(),
    }
    if n_bins is not None:
        return record
    truth = data.log_density(config.data.name, examples.examples)
    return record | {
        "nats_in_own_units": found.mean + sum(math.log(c.deviation) for c in info.columns),
        "nats_of_truth": None if truth is None else float(-truth.mean()),
        "columns": [column._asdict() for column in info.columns],
    }


def _likelihood(
    trained: Trained, examples: Split, protocol: Protocol, batch_size: int, mesh: Mesh
) -> Likelihood:
    experiment = trained.experiment
    repeats = {"draws": protocol.draws, "importance": protocol.importance, "batch_size": batch_size}
    calls = device_calls(len(examples.examples), **repeats, mesh=mesh)
    unit = unit_of(experiment.n_bins).symbol
    is_first = jax.process_index() == 0
    with Progress(calls, unit=unit, what="evaluate", stderr=True) if is_first else Silent() as bar:
        return likelihood(
            experiment.flow,
            trained.params,
            examples,
            jax.random.key(protocol.seed),
            dequantizer=experiment.dequantizer,
            noise=trained.noise,
            **repeats,
            conditional=experiment.conditional,
            mesh=mesh,
            report=bar.update,
        )


def _n_bits(n_bins: int | None) -> int | None:
    bits = (n_bins or 0).bit_length() - 1
    return bits if n_bins == 2**bits else None


def _matmul_precision() -> str:
    """What JAX is told: "default" is the backend's own, TF32 on some GPUs."""
    return jax.config.jax_default_matmul_precision or "default"  # type: ignore[reportAttributeAccessIssue]


def _training_rate(workdir: str) -> float | None:
    """The median of the examples a second that the run logged; None where it logged none."""
    rates = [r["examples_per_second"] for r in read_metrics(workdir) if "examples_per_second" in r]
    return float(np.median(rates)) if rates else None
