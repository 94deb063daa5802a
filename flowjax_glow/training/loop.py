"""train_and_evaluate: from a config to a folder with checkpoints, metrics, pictures and a number."""

import collections
import contextlib
import functools
import math
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from flowjax_glow.base import Params
from flowjax_glow.data.split import Split
from flowjax_glow.data.streaming import Streamed
from flowjax_glow.evaluation import likelihood
from flowjax_glow.flow import count_parameters
from flowjax_glow.likelihood import unit_of
from flowjax_glow.report.record import write_record
from flowjax_glow.sharding import fsdp_shardings, put_state, to_this_process
from flowjax_glow.training.bad_steps import BadSteps
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.checks import check_config
from flowjax_glow.training.config import Config, check_same_run, check_writable, write_config
from flowjax_glow.training.drivers import check_devices, make_driver
from flowjax_glow.training.experiment import (
    Experiment,
    abstract_state,
    batch_at,
    build,
    config_of,
    initial_state,
    load_split,
    load_trained,
    params_of,
    train_step,
)
from flowjax_glow.training.metrics import MetricsLog, Progress, Silent
from flowjax_glow.training.outcome import choose_protocol, evaluate_trained
from flowjax_glow.training.pictures import can_be_drawn, sample_picture, write_pictures
from flowjax_glow.training.preemption import PreemptedError, Preemption
from flowjax_glow.training.state import TrainState
from flowjax_glow.training.step import tensors
from flowjax_glow.training.watch import watch

# Enough to keep the devices busy while the next batch is made. XLA on a CPU can wait for ever in an
# all-reduce where more than 32 are.
CALLS_UNDER_WAY = 8


class Ready(NamedTuple):
    """A run that may begin: its experiment, data, devices and folder, which holds the config."""

    experiment: Experiment
    train_split: Split
    valid_split: Split
    mesh: Mesh
    workdir: str


def train_and_evaluate(config: Config, workdir: str) -> dict[str, Any]:
    """Trains what the config describes, or goes on with it, and evaluates it on the test split.

    Leaves in workdir: config.json, metrics.jsonl, tensorboard/, checkpoints/ (the last two, and the
    best on valid), samples/, learning_curve.png and evaluation.json. Run again with the same workdir it
    goes on from the last checkpoint, and the parameters come out bit for bit as if it had never
    stopped; on other devices, or by another driver, to rounding. Of several processes all call it
    together, and the first writes.

    Returns:
      The record of evaluation.json; see training.outcome.

    Raises:
      ValueError, OSError: from set_up; and for a checkpoint of other arrays, an image that cannot be
        used, a disk that is full.
      NonFiniteError: after train.max_bad_steps in a row whose loss or gradient was not finite.
      NotInvertibleError: with model.memory = "constant", where the data no longer come back.
      CheckpointError: where a checkpoint cannot be saved, or all are damaged.
      PreemptedError: after SIGTERM, with the step it came to saved.
    """
    return run(set_up(config, workdir))


def set_up(config: Config, workdir: str) -> Ready:
    """Checks all that can be wrong with a config before anything is trained, and writes it to workdir.

    Raises:
      ValueError: for a config that cannot be, or another than the run in workdir was begun with.
      FileNotFoundError: for a data set that is not there.
    """
    check_config(config)
    mesh = check_devices(config)
    experiment = build(config)
    choose_protocol(experiment)  # for what it refuses
    check_writable(workdir, "workdir")
    check_same_run(workdir, config_of(experiment))
    abstract_state(experiment)  # for what the nets refuse
    train_split = load_split(experiment, "train", training=True)
    valid_split = load_split(experiment, "valid")
    batch_at(experiment, train_split, 0)  # for what it refuses
    write_config(workdir, config_of(experiment))
    return Ready(experiment, train_split, valid_split, mesh, workdir)


def run(ready: Ready) -> dict[str, Any]:
    """Trains to train.steps, then evaluates the best checkpoint; see train_and_evaluate."""
    mesh, workdir = ready.mesh, ready.workdir
    train(ready)
    trained = load_trained(workdir)
    record = evaluate_trained(trained, workdir, mesh=mesh)
    if jax.process_index() == 0:
        write_record(Path(workdir) / "evaluation.json", record)
        write_pictures(trained, workdir)
    return record


def train(ready: Ready) -> TrainState:
    """Takes the steps from the last checkpoint, or the first, to train.steps; the final state.

    Raises:
      NonFiniteError, PreemptedError: as train_and_evaluate does.
    """
    experiment, train_split, _, mesh, workdir = ready
    config, unit = experiment.config, unit_of(experiment.n_bins)
    total, per_call = config.train.steps, config.train.steps_per_call
    driver = make_driver(config.parallel.driver, train_step(experiment), mesh)
    writes = jax.process_index() == 0
    with Preemption() as preemption, Checkpoints(Path(workdir) / "checkpoints") as checkpoints:
        state = _first_state(experiment, train_split, checkpoints, mesh)
        start = step = saved = int(state.step)
        # It has no number where SIGTERM came in the middle of its evaluation.
        evaluates = start > 0 and _is_evaluated(config, start) and checkpoints.valid(start) is None
        names = tensors(state)
        state = driver.put_state(state)
        with (
            MetricsLog(workdir, from_step=start) if writes else Silent() as log,
            Progress(total, unit=unit.symbol, start=start) if writes else Silent() as progress,
            contextlib.closing(_batches(experiment, train_split, start)) as batches,
        ):
            verb = "goes on from" if start else "starts at"
            progress.say(
                f"{verb} step {start}: {count_parameters(state.params):,} parameters, "
                f"{len(train_split.examples):,} examples, {mesh.size} devices"
            )
            meter = _Meter(config.train.batch_size)
            bad_steps = BadSteps(names, config.train.max_bad_steps, progress.say)
            under_way: collections.deque[tuple[range, Any]] = collections.deque()
            while True:
                if evaluates:
                    state = put_state(state, mesh)  # what pmap gives is not what Orbax saves
                    _evaluate_and_save(ready, state, checkpoints, preemption, log, progress)
                    saved = step
                    meter.restart(step)
                if preemption.stops():
                    while under_way:
                        bad_steps.look(*under_way.popleft())
                    if saved < step:
                        checkpoints.save(put_state(state, mesh), None)
                    what = "which is saved; run again to go on" if step else "before the first"
                    raise PreemptedError(f"stopped at step {step}, {what}")
                if step >= total:
                    return state
                # A run that went on from between two calls comes to their rhythm by a shorter one.
                ahead = range(step, step + per_call - step % per_call)
                state, metrics = driver.steps(state, driver.put_batches([next(batches) for _ in ahead]))
                step = ahead.stop
                evaluates = _is_evaluated(config, step)
                logs = evaluates or step % config.train.log_every == 0
                under_way.append((ahead, metrics))
                while len(under_way) > (0 if logs else CALLS_UNDER_WAY):
                    bad_steps.look(*under_way.popleft())
                if logs:
                    values = _to_log(metrics, unit.field)
                    rate = meter.examples_per_second(step)
                    if rate is not None:
                        values["examples_per_second"] = rate
                    log.scalars(step, **values)
                    progress.update(step, values.get(unit.field), rate)


def _evaluate_and_save(
    ready: Ready,
    state: TrainState,
    checkpoints: Checkpoints,
    preemption: Preemption,
    log: MetricsLog | Silent,
    progress: Progress | Silent,
) -> None:
    """Measures a state on valid, watches its inverse, saves it, and draws samples of it.

    Where SIGTERM came in between it is saved without a number.
    """
    experiment, _, split, mesh, _ = ready
    config, unit, step = experiment.config, unit_of(experiment.n_bins), int(state.step)
    weights = to_this_process(params_of(state, config.eval.weights), mesh)
    valid = _valid_loss(experiment, weights, split, mesh, preemption)
    if valid is None:
        checkpoints.save(state, None)
        return
    where, finite = f"step {step:>6}/{config.train.steps}", math.isfinite(valid)
    if finite:
        log.scalars(step, **{f"valid_{unit.field}": valid})
    progress.say(f"{where}  valid {valid:.4f} {unit.symbol}")
    if config.train.watch:
        watched = watch(experiment, weights["flow"], split, step)
        log.scalars(step, **watched.values)
        for line in watched.warnings:
            log.warning(step, line)
            progress.say(f"{where}  warning: {line}")
    checkpoints.save(state, valid if finite else None)  # without a number it is never the best
    if jax.process_index() == 0 and can_be_drawn(experiment):
        log.image(step, "samples", sample_picture(experiment, weights["flow"]))


def _is_evaluated(config: Config, step: int) -> bool:
    return step % config.train.eval_every == 0 or step == config.train.steps


def _batches(experiment: Experiment, split: Split, start: int) -> Any:
    """The batches of the steps from start to train.steps, of each this process's share; to be closed.

    Those of a split on the disk are made by threads, ahead of the step and beside the device's work. In
    memory one is made in less time than it takes to hand it from thread to thread.
    """
    train = experiment.config.train
    if not isinstance(split.examples, Streamed):
        return (batch_at(experiment, split, step) for step in range(start, train.steps))
    import grain

    threads = min(os.cpu_count() or 1, 16)
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=threads + train.steps_per_call
    )
    steps = grain.MapDataset.range(start, train.steps)
    return iter(steps.map(functools.partial(batch_at, experiment, split)).to_iter_dataset(options))


def _first_state(
    experiment: Experiment, train_split: Split, checkpoints: Checkpoints, mesh: Mesh
) -> TrainState:
    if checkpoints.latest_step is None:
        return initial_state(experiment, train_split)
    like, shardings = abstract_state(experiment), functools.partial(fsdp_shardings, mesh=mesh)
    return checkpoints.restore(checkpoints.latest_step, like, shardings)


def _to_log(metrics: dict[str, Any], field: str) -> dict[str, float]:
    """What is logged of a step's metrics: a loss or a norm that is not finite is left out."""
    values = {name: float(metrics[name]) for name in (field, "grad_norm")}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    return {**finite, "bad_steps": float(metrics["bad_steps"])}


def _valid_loss(
    experiment: Experiment,
    params: dict[str, Params],
    split: Split,
    mesh: Mesh,
    preemption: Preemption,
) -> float | None:
    """With one draw of the noise, the same at every evaluation, so that steps can be compared.

    None where SIGTERM came before it was done: the run that goes on then begins with it.
    """
    config = experiment.config

    def stop_if_asked(*_: Any) -> None:
        if preemption.came:
            raise PreemptedError

    try:
        valid = likelihood(
            experiment.flow,
            params["flow"],
            split,
            jax.random.key(config.seed),
            dequantizer=experiment.dequantizer,
            noise=params["dequantizer"],
            batch_size=config.eval.batch_size,
            conditional=experiment.conditional,
            mesh=mesh,
            report=stop_if_asked,
        ).mean
    except PreemptedError:
        return None
    return None if preemption.came else valid


class _Meter:
    """Examples a second of training alone: from restart to the reading."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._step: int | None = None  # none before the first reading: that time is compilation
        self._time = 0.0

    def restart(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def examples_per_second(self, step: int) -> float | None:
        rate = None
        if self._step is not None and step > self._step:
            rate = (step - self._step) * self._batch_size / (time.perf_counter() - self._time)
        self.restart(step)
        return rate
