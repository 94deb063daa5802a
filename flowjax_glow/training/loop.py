"""train_and_evaluate: from a config to a folder with checkpoints, metrics, pictures and a number."""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from flowjax_glow.data.split import Split
from flowjax_glow.evaluation import likelihood
from flowjax_glow.flow import count_parameters
from flowjax_glow.report.record import write_record
from flowjax_glow.sharding import data_parallel, make_mesh, replicate, shard_batch
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.config import Config, write_config
from flowjax_glow.training.experiment import (
    Experiment,
    abstract_state,
    batch_at,
    build,
    initial_state,
    load_split,
    load_trained,
    params_of,
)
from flowjax_glow.training.metrics import MetricsLog, Progress
from flowjax_glow.training.outcome import (
    evaluate_trained,
    sample_grid,
    write_pictures,
)
from flowjax_glow.training.state import TrainState
from flowjax_glow.training.step import make_train_step


class NonFiniteError(RuntimeError):
    """The loss or its gradient is not finite; nothing was saved since it was."""


class Ready(NamedTuple):
    """A run that may begin: its experiment, its images and its folder, which holds the config."""

    experiment: Experiment
    train_split: Split
    valid_split: Split
    workdir: str


def train_and_evaluate(config: Config, workdir: str) -> dict[str, Any]:
    """Trains what the config describes, or goes on with it, and evaluates it on the test split.

    Leaves in workdir: config.json, metrics.jsonl, tensorboard/, checkpoints/ (the last, and the best on
    valid), samples/, learning_curve.png and evaluation.json. Run again with the same workdir it goes on
    from the last checkpoint, and the parameters come out bit for bit as if it had never stopped.

    Returns:
      The record of evaluation.json; see training.outcome.

    Raises:
      ValueError, FileNotFoundError: from set_up.
      NonFiniteError: when the loss or its gradient is no longer finite.
    """
    return run(set_up(config, workdir))


def set_up(config: Config, workdir: str) -> Ready:
    """Checks all that can be wrong with a config before anything is trained, and writes it to workdir.

    Raises:
      ValueError: for a config that cannot be, or another than the run in workdir was begun with.
      FileNotFoundError: for a data set that is not there.
    """
    experiment = build(config)
    devices = jax.device_count()
    if config.train.batch_size % devices:
        raise ValueError(
            f"train.batch_size must be divisible by the {devices} devices; got "
            f"{config.train.batch_size}"
        )
    splits = load_split(experiment, "train"), load_split(experiment, "valid")
    write_config(Path(workdir), config)
    return Ready(experiment, *splits, workdir)


def run(ready: Ready) -> dict[str, Any]:
    """Trains to train.steps, then evaluates the best checkpoint; see train_and_evaluate."""
    mesh, workdir = make_mesh(), ready.workdir
    train(ready, mesh)
    trained = load_trained(workdir)
    record = evaluate_trained(trained, workdir, mesh=mesh)
    write_record(Path(workdir) / "evaluation.json", record)
    write_pictures(trained, workdir)
    return record


def train(ready: Ready, mesh: Mesh) -> TrainState:
    """Takes the steps from the last checkpoint, or the first, to train.steps; the final state."""
    experiment, train_split, valid_split, workdir = ready
    config = experiment.config
    total = config.train.steps
    step_fn = data_parallel(
        make_train_step(
            experiment.flow,
            experiment.optimizer,
            n_bins=experiment.n_bins,
            conditional=experiment.conditional,
            average_decay=config.train.average_decay,
        ),
        mesh,
    )
    with Checkpoints(Path(workdir) / "checkpoints") as checkpoints:
        if checkpoints.latest_step is None:
            state = initial_state(experiment, train_split)
        else:
            state = checkpoints.restore(checkpoints.latest_step, abstract_state(experiment))
        start = int(state.step)
        state = replicate(state, mesh)
        with (
            MetricsLog(workdir, from_step=start) as log,
            Progress(total, start=start) as progress,
        ):
            verb = "goes on from" if start else "starts at"
            progress.say(
                f"{verb} step {start}: {count_parameters(state.params):,} parameters, "
                f"{len(train_split.images):,} images, {mesh.size} devices"
            )
            meter = _Meter(config.train.batch_size)
            for step in range(start + 1, total + 1):
                batch = batch_at(experiment, train_split, step - 1)
                state, metrics = step_fn(state, shard_batch(batch, mesh))
                evaluates = step % config.train.eval_every == 0 or step == total
                if step % config.train.log_every == 0 or evaluates:
                    values = _finite(metrics, step)  # so that nothing else is ever saved
                    rate = meter.images_per_second(step)
                    if rate is not None:
                        values["images_per_second"] = rate
                    log.scalars(step, **values)
                    progress.update(step, values["bits_per_dim"], rate)
                if evaluates:
                    valid = _valid_bits_per_dim(experiment, state, valid_split, mesh)
                    checkpoints.save(state, valid)
                    log.scalars(step, valid_bits_per_dim=valid)
                    weights = params_of(state, config.eval.weights)
                    log.image(step, "samples", sample_grid(experiment, weights))
                    progress.say(f"step {step:>6}/{total}  valid {valid:.4f} bits/dim")
                    meter.restart(step)
    return state


def _finite(metrics: dict[str, Any], step: int) -> dict[str, float]:
    values = {name: float(value) for name, value in metrics.items()}
    bad = {name: value for name, value in values.items() if not math.isfinite(value)}
    if bad:
        raise NonFiniteError(
            f"at or before step {step} {', '.join(f'{k} became {v}' for k, v in bad.items())}; "
            "the last checkpoint is good: go on from it with a lower optimizer.learning_rate, a "
            "longer optimizer.warmup_steps or a lower optimizer.clip_norm, in a new workdir"
        )
    return values


def _valid_bits_per_dim(experiment: Experiment, state: TrainState, split: Split, mesh: Mesh) -> float:
    """With one draw of the noise, the same at every evaluation, so that steps can be compared."""
    config = experiment.config
    return likelihood(
        experiment.flow,
        params_of(state, config.eval.weights),
        split,
        jax.random.key(config.seed),
        n_bins=experiment.n_bins,
        batch_size=config.eval.batch_size,
        conditional=experiment.conditional,
        mesh=mesh,
    ).mean


class _Meter:
    """Images a second of training alone: from restart to the reading."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._step: int | None = None  # none before the first reading: that time is compilation
        self._time = 0.0

    def restart(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def images_per_second(self, step: int) -> float | None:
        rate = None
        if self._step is not None and step > self._step:
            rate = (step - self._step) * self._batch_size / (time.perf_counter() - self._time)
        self.restart(step)
        return rate
