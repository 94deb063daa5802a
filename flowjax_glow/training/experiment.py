"""From a config to the things it describes; and from a run's folder back to them."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flowjax_glow import data, models
from flowjax_glow.base import Params
from flowjax_glow.data.split import Info, Split
from flowjax_glow.flow import Flow, init
from flowjax_glow.likelihood import dequantize, reduce_bits
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.config import Config, read_config
from flowjax_glow.training.optimizers import make_optimizer
from flowjax_glow.training.state import TrainState, averaged_params, init_state


class Experiment(NamedTuple):
    """What a config describes. n_bins: levels of a pixel after the reduction to data.n_bits."""

    config: Config
    info: Info
    n_bins: int
    flow: Flow
    optimizer: optax.GradientTransformation

    @property
    def conditional(self) -> bool:
        """Whether the flow is told the labels."""
        return self.config.model.get("num_classes") is not None


class Trained(NamedTuple):
    """A finished or stopped run: its experiment, and the params of one of its checkpoints."""

    experiment: Experiment
    params: Params
    step: int
    weights: str


def build(config: Config) -> Experiment:
    """The flow, optimizer and data set of a config; no image is read and no parameter made.

    Raises:
      ValueError: for what the config asks that cannot be, with the rule and the value.
    """
    info = data.info(**_source(config))
    n_bits = config.data.n_bits
    if n_bits != 8 and info.n_bins != 256:
        raise ValueError(f"data.n_bits must be 8 for {info.n_bins} levels; got {n_bits}")
    hyperparameters = config.model.to_dict()
    flow = models.build(hyperparameters.pop("name"), info.image_shape, **hyperparameters)
    optimizer = make_optimizer(config.optimizer, config.train.steps)
    return Experiment(config, info, min(info.n_bins, 2**n_bits), flow, optimizer)


def load_split(experiment: Experiment, name: str) -> Split:
    """The "train", "valid" or "test" images, reduced to data.n_bits."""
    config = experiment.config.data
    options = {"valid_examples": config.valid_examples, "download": config.download}
    split = data.load(split=name, **_source(experiment.config), **options)
    if config.n_bits == 8:
        return split
    return split._replace(images=reduce_bits(split.images, config.n_bits))


def batch_at(experiment: Experiment, split: Split, step: int) -> dict[str, Any]:
    """What this process has of a step's training batch, augmented: {"image", "label"}."""
    config = experiment.config
    batch = data.batch_at(
        split,
        step,
        batch_size=config.train.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        flip=config.data.flip,
        shift=config.data.shift,
    )
    return {name: batch[name] for name in ("image", "label")}


def initial_state(experiment: Experiment, split: Split) -> TrainState:
    """The state before the first step; the params are initialised on train.init_examples images.

    Every process sees the same images, and so makes the same params.
    """
    config = experiment.config
    batch = data.batch_at(split, 0, batch_size=config.train.init_examples, seed=config.seed)
    return _make_state(experiment, jnp.asarray(batch["image"]), jnp.asarray(batch["label"]))


def _make_state(experiment: Experiment, images: Any, labels: Any) -> TrainState:
    init_key, noise_key, run_key = jax.random.split(jax.random.key(experiment.config.seed), 3)
    x = dequantize(noise_key, images, n_bins=experiment.n_bins)
    cond = labels if experiment.conditional else None
    params = init(experiment.flow, init_key, x, cond)
    return init_state(params, experiment.optimizer, run_key)


def abstract_state(experiment: Experiment) -> TrainState:
    """The shapes and dtypes of the state; nothing is allocated."""
    images = jax.ShapeDtypeStruct((2, *experiment.flow.event_shape), jnp.uint8)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    return jax.eval_shape(lambda *batch: _make_state(experiment, *batch), images, labels)


def load_trained(workdir: str, *, weights: str | None = None) -> Trained:
    """The experiment of a run's folder and the params of its best checkpoint on valid.

    weights: "average" or "raw"; by default what the run's config says.

    Raises:
      FileNotFoundError: where there is no run, or no checkpoint yet.
    """
    config = read_config(workdir)
    if config is None:
        raise FileNotFoundError(f"there is no run in {workdir}: it has no config.json")
    experiment = build(config)
    with Checkpoints(Path(workdir) / "checkpoints", create=False) as checkpoints:
        step = checkpoints.best_step
        if step is None:
            raise FileNotFoundError(f"the run in {workdir} has no checkpoint yet")
        state = checkpoints.restore(step, abstract_state(experiment))
    kind: str = weights or config.eval.weights
    return Trained(experiment, params_of(state, kind), step, kind)


def params_of(state: TrainState, weights: str) -> Params:
    """The params of a state: "raw", or their "average"."""
    if weights not in ("average", "raw"):
        raise ValueError(f"weights must be 'average' or 'raw'; got {weights!r}")
    return averaged_params(state) if weights == "average" else state.params


def _source(config: Config) -> dict[str, Any]:
    return {k: config.data[k] for k in ("name", "data_dir", "image_size", "channels", "path")}
