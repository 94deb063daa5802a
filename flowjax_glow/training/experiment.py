"""From a config to the things it describes; and from a run's folder back to them."""

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flowjax_glow import data, models
from flowjax_glow.base import Params
from flowjax_glow.data.split import Info, Split
from flowjax_glow.data.streaming import Streamed
from flowjax_glow.dequantization import Dequantizer
from flowjax_glow.evaluation import check_split
from flowjax_glow.flow import Flow, init
from flowjax_glow.likelihood import reduce_bits
from flowjax_glow.sharding import check_backend
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.checks import check_config
from flowjax_glow.training.config import Config, read_config
from flowjax_glow.training.optimizers import make_optimizer
from flowjax_glow.training.state import TrainState, averaged_params, init_state
from flowjax_glow.training.step import TrainStep, make_train_step


class Experiment(NamedTuple):
    """What a config describes.

    eval_flow: the flow with the hyperparameters of eval.model; it takes the flow's params.
    """

    config: Config
    info: Info
    flow: Flow
    eval_flow: Flow
    dequantizer: Dequantizer
    optimizer: optax.GradientTransformation

    @property
    def n_bins(self) -> int | None:
        """Levels of a pixel after the reduction to data.n_bits; None where the data are vectors."""
        return self.dequantizer.n_bins

    @property
    def conditional(self) -> bool:
        """Whether the flow is told the labels."""
        return self.config.model.get("num_classes") is not None


class Trained(NamedTuple):
    """A finished or stopped run: its experiment, and the params of one of its checkpoints.

    experiment: as it is evaluated; its flow is the eval_flow. params: of the flow. noise: of the
    dequantizer.
    """

    experiment: Experiment
    params: Params
    noise: Params
    step: int
    weights: str


def build(config: Config) -> Experiment:
    """The flow, optimizer and data set of a config; no image is read and no parameter made.

    Where the config says the data set's version, as that of a run begun does, the set must still be it.

    Raises:
      ValueError: for what the config asks that cannot be, with the rule and the value.
    """
    check_config(config, whole=False)
    info = data.info(**source_of(config))
    if config.data.version not in (None, info.version):
        raise ValueError(
            f"data.version must be {info.version}, that of the data; got {config.data.version}"
        )
    n_bins, n_bits = info.n_bins, config.data.n_bits
    if n_bits != 8 and n_bins != 256:
        levels = "vectors" if n_bins is None else f"{n_bins} levels"
        raise ValueError(f"data.n_bits must be 8 for {levels}; got {n_bits}")
    _check_classes(config, info)
    flow = _make_flow(config.model.to_dict(), info)
    eval_flow = _make_eval_flow(config, info, flow)
    optimizer = make_optimizer(
        config.optimizer, steps=config.train.steps, batch_size=config.train.batch_size
    )
    n_bins = None if n_bins is None else min(n_bins, 2**n_bits)
    dequantizer = _make_dequantizer(config.dequantization, n_bins)
    return Experiment(config, info, flow, eval_flow, dequantizer, optimizer)


def _check_classes(config: Config, info: Info) -> None:
    classes = config.model.get("num_classes")
    if classes is not None and classes < (info.num_classes or math.inf):
        least = "None" if info.num_classes is None else f"at least {info.num_classes}"
        raise ValueError(
            f"model.num_classes must be {least} for {config.data.name}, which has {info.num_classes} "
            f"classes; got {classes}"
        )


def _make_flow(hyperparameters: dict[str, Any], info: Info) -> Flow:
    name = hyperparameters.pop("name")
    try:
        return models.build(name, info.event_shape, **hyperparameters)
    except ValueError as error:
        raise ValueError(
            f"{error}; change model.* of {name}, or data.* for other examples than {info.event_shape}"
        ) from error


def _make_eval_flow(config: Config, info: Info, flow: Flow) -> Flow:
    changes = config.eval.model.to_dict()
    if not changes:
        return flow
    model = config.model.to_dict()
    eval_flow = _make_flow({**model, **changes}, info)
    labels = model.get("num_classes") is not None
    if _params_shapes(eval_flow, labels) != _params_shapes(flow, labels):
        raise ValueError(f"eval.model must leave the model's params as they are; got {changes}")
    return eval_flow


def _params_shapes(flow: Flow, conditional: bool) -> tuple[Any, list[Any]]:
    x = jax.ShapeDtypeStruct((2, *flow.event_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32) if conditional else None
    params = jax.eval_shape(lambda *batch: init(flow, jax.random.key(0), *batch), x, labels)
    leaves, structure = jax.tree.flatten(params)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _make_dequantizer(config: Config, n_bins: int | None) -> Dequantizer:
    hyperparameters = config.to_dict()
    return models.build_dequantizer(hyperparameters.pop("name"), n_bins, **hyperparameters)


def load_split(experiment: Experiment, name: str, *, training: bool = False) -> Split:
    """The "train", "valid" or "test" examples; images reduced to data.n_bits.

    training: whether they go to `batch_at`, which takes random crops of them where data.random_crop
    asks for it; else they are the middle crops.
    """
    config = experiment.config.data
    options = {k: config[k] for k in ("train_examples", "valid_examples", "download", "memory_gib")}
    source = source_of(experiment.config)
    if training:
        del source["random_crop"]
    split = data.load(split=name, **source, **options)
    check_split(split, None if training else experiment.info.event_shape, experiment.info.n_bins)
    if config.n_bits == 8:
        return split
    reduce = functools.partial(reduce_bits, n_bits=config.n_bits)
    images = split.images
    reduced = images.map(reduce) if isinstance(images, Streamed) else reduce(images)
    return split._replace(examples=reduced)


def train_step(experiment: Experiment) -> TrainStep:
    """The step that the experiment's config describes, for a driver to run."""
    train = experiment.config.train
    return make_train_step(
        experiment.flow,
        experiment.optimizer,
        dequantizer=experiment.dequantizer,
        conditional=experiment.conditional,
        average_decay=train.average_decay,
        accumulate=train.accumulate,
    )


def batch_at(experiment: Experiment, split: Split, step: int) -> dict[str, Any]:
    """What this process has of a step's training batch, augmented: {"example", "label"}."""
    config = experiment.config
    batch = data.batch_at(
        split,
        step,
        batch_size=config.train.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        **_augmentation(config),
    )
    return {name: batch[name] for name in ("example", "label")}


def initial_state(experiment: Experiment, split: Split) -> TrainState:
    """The state before the first step; the params are initialised on train.init_examples examples.

    The examples are augmented, as in training. Every process sees the same, and so makes the same
    params.
    """
    config = experiment.config
    batch = data.batch_at(
        split, 0, batch_size=config.train.init_examples, seed=config.seed, **_augmentation(config)
    )
    return _make_state(experiment, jnp.asarray(batch["example"]), jnp.asarray(batch["label"]))


def _make_state(experiment: Experiment, examples: Any, labels: Any) -> TrainState:
    root = jax.random.key(experiment.config.seed)
    init_key, noise_key, run_key, dequantizer_key = jax.random.split(root, 4)
    noise = experiment.dequantizer.init(dequantizer_key, examples)
    x, _ = jax.jit(experiment.dequantizer.sample)(noise, noise_key, examples)
    cond = labels if experiment.conditional else None
    params = {"flow": init(experiment.flow, init_key, x, cond), "dequantizer": noise}
    return init_state(params, experiment.optimizer, run_key)


def abstract_state(experiment: Experiment) -> TrainState:
    """The shapes and dtypes of the state; nothing is allocated."""
    dtype = jnp.float32 if experiment.n_bins is None else jnp.uint8
    examples = jax.ShapeDtypeStruct((2, *experiment.flow.event_shape), dtype)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    return jax.eval_shape(lambda *batch: _make_state(experiment, *batch), examples, labels)


def load_trained(workdir: str, *, weights: str | None = None) -> Trained:
    """The experiment of a run's folder and the params of its best checkpoint on valid.

    weights: "average" or "raw"; by default what the run's config says.

    Raises:
      FileNotFoundError: where there is no run, or no checkpoint yet.
      CheckpointError: where that checkpoint is not as it was saved.
    """
    check_backend()
    config = read_config(workdir)
    if config is None:
        raise FileNotFoundError(
            f"there is no run in {workdir}: it has no config.json; workdir is what --workdir of "
            "experiments.train was"
        )
    experiment = build(config)
    experiment = experiment._replace(flow=experiment.eval_flow)
    with Checkpoints(Path(workdir) / "checkpoints", create=False) as checkpoints:
        step = checkpoints.best_step
        if step is None:
            raise FileNotFoundError(
                f"the run in {workdir} has no checkpoint yet; experiments.train goes on with it"
            )
        state = checkpoints.restore(step, abstract_state(experiment))
    kind: str = weights or config.eval.weights
    params = params_of(state, kind)
    return Trained(experiment, params["flow"], params["dequantizer"], step, kind)


def params_of(state: TrainState, weights: str) -> dict[str, Params]:
    """The params of a state, {"flow", "dequantizer"}: "raw", or their "average"."""
    if weights not in ("average", "raw"):
        raise ValueError(f"weights must be 'average' or 'raw'; got {weights!r}")
    return averaged_params(state) if weights == "average" else state.params


def config_of(experiment: Experiment) -> Config:
    """The config of a run that has begun, which says the version of its data set."""
    config = experiment.config.copy_and_resolve_references()
    config.data.version = experiment.info.version
    return config


def source_of(config: Config) -> dict[str, Any]:
    """What data.load, data.info and data.attributes are told of the config's data set."""
    images = ("crop", "image_size", "pad", "channels", "random_crop")
    return {k: config.data[k] for k in ("name", "build", "data_dir", "path", *images)}


def _augmentation(config: Config) -> dict[str, Any]:
    return {k: config.data[k] for k in ("flip", "shift", "random_crop")}
