"""Every config trains, in its smoke form; and at full size a paper's is the paper's."""

import re
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from configs import NAMES, ROOT, module, needs_no_download

import flowjax_glow as fg
from flowjax_glow.data.split import Split
from flowjax_glow.likelihood import unit_of
from flowjax_glow.report.flops import count_flops
from flowjax_glow.training.drivers import check_devices
from flowjax_glow.training.experiment import abstract_state, batch_at, build, initial_state
from flowjax_glow.training.optimizers import learning_rate_schedule
from flowjax_glow.training.step import make_train_step

DOWNLOADED = [name for name in NAMES if not needs_no_download(name)]

OORD = {"data.build": "oord2016"}
RAW = {"eval.weights": "raw"}
# As released (openai/glow): optimizer, learning rate, Polyak; warm-up and b2 follow from the epoch.
GLOW = {
    "data.n_bits": 8,
    "model.width": 512,
    "model.coupling": "affine",
    "model.permutation": "conv1x1",
    "model.learn_top": True,
    "model.edge_bias": True,
    "dequantization.name": "uniform",
    "optimizer.name": "adamax",
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.989796,
    "optimizer.eps": 1e-8,
    "optimizer.clip_norm": float("inf"),
    "optimizer.weight_decay": 0.0,
    "train.average_decay": 0.989796,
    **RAW,
}
# Section 4, and exp/nice_*.yaml of laurent-dinh/nice.
NICE = {
    "optimizer.name": "rmsprop",
    "optimizer.b1": 0.5,
    "optimizer.b2": 0.95,
    "optimizer.eps": 0.01,
    "optimizer.clip_norm": float("inf"),
    **RAW,
}
# Section 4. The released decay is not multiplied by the learning rate, and ours is.
JET = {
    "model.patch": 4,
    "model.width": 512,
    "model.heads": 8,
    "model.couplings": 32,
    "model.layers": 2,
    "optimizer.name": "adam",
    "optimizer.b2": 0.95,
    "optimizer.weight_decay": 1e-5 / 3e-4,
    "optimizer.clip_norm": 1.0,
    **RAW,
}
RESIDUAL_FLOW = {
    "model.levels": 3,
    "model.depth": 16,
    "model.width": 512,
    "model.coefficient": 0.98,
    "model.exact_terms": 2,
    "optimizer.name": "adam",
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.99,
    "train.average_decay": 0.999,
    "eval.weights": "average",
    "eval.model.exact_terms": 20,
}
# Section 3: optimizer and batch norm; what is in nats there is so here, by gradient_scale.
REAL_NVP = {
    "model.width": 32,
    "model.blocks": 4,
    "optimizer.name": "adam",
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.magnitude_l2": 5e-5,
    "optimizer.clip_norm": 100.0,
    "optimizer.running_momentum": 0.9,
    **RAW,
}
NATS_OF_CIFAR10 = 2129.348  # in one bit per dimension: 3072 log 2


class Paper(NamedTuple):
    """What the papers and releases say of a config: images, parameters, batch, other fields by name.

    rates: the learning rate by the step. bits: the paper's number; None where it gives none.
    """

    shape: tuple[int, ...]
    parameters: int
    batch_size: int
    rates: dict[int, float]
    bits: float | None
    fields: dict[str, Any]


# A warm-up over 500,000 images of 32x32 is 977 steps of 512.
RATES = {0: 0.0, 1: 1e-3 / 977, 488: 1e-3 * 488 / 977, 977: 1e-3, 176_399: 1e-3}
CONSTANT = {0: 1e-3, 499_999: 1e-3}

# Parameters that no paper states are sums over the layer shapes that it has.
PAPERS = {
    "flow_plus_plus_cifar10": Paper(
        (32, 32, 3),
        31_443_440,
        64,
        {0: 0.0, 1000: 1.5e-4, 2000: 3e-4, 300_000: 3e-4},
        3.08,
        {
            "model.blocks": 10,
            "model.width": 96,
            "model.components": 32,
            "model.dropout": 0.2,
            "dequantization.name": "variational",
            "optimizer.name": "adam",
            "optimizer.gradient_scale": NATS_OF_CIFAR10,
            "optimizer.clip_norm": 1.0,
            "train.average_decay": 0.999,
            "eval.importance": 4096,
            "eval.weights": "average",
        },
    ),
    "glow_celebahq256": Paper(
        (256, 256, 3),
        175_099_620,
        40,
        {0: 0.0, 98: 5e-4, 196: 1e-3},
        1.03,
        {
            **GLOW,
            "data.n_bits": 5,
            "model.levels": 6,
            "model.depth": 32,
            "model.coupling": "additive",
            "optimizer.b2": 0.95,
            "train.average_decay": 0.95,
            "train.init_examples": 4,
        },
    ),
    "glow_cifar10": Paper(
        (32, 32, 3),
        44_603_604,
        512,
        RATES,
        3.35,
        {
            **GLOW,
            "model.levels": 3,
            "model.depth": 32,
            "data.shift": 0.1,
            "data.flip": False,
            "train.init_examples": 256,
        },
    ),
    "glow_cifar10_additive": Paper(
        (32, 32, 3),
        38_395_668,
        512,
        RATES,
        None,
        {**GLOW, "model.levels": 3, "model.depth": 32, "model.coupling": "additive"},
    ),
    "glow_cifar10_conditional": Paper(
        (32, 32, 3),
        38_396_820,
        512,
        RATES,
        None,
        {
            **GLOW,
            "data.n_bits": 5,
            "model.levels": 3,
            "model.depth": 32,
            "model.coupling": "additive",
            "model.num_classes": 10,
        },
    ),
    "glow_imagenet32": Paper(
        (32, 32, 3),
        66_861_588,
        512,
        RATES,
        4.09,
        {**GLOW, **OORD, "model.levels": 3, "model.depth": 48, "data.shift": 0.0},
    ),
    "glow_imagenet64": Paper(
        (64, 64, 3),
        112_377_540,
        128,
        RATES,
        3.81,
        {**GLOW, **OORD, "model.levels": 4, "model.depth": 48, "train.init_examples": 64},
    ),
    "glow_lsun64": Paper(
        (64, 64, 3),
        66_861_588,
        128,
        RATES,
        2.38,
        {**GLOW, "model.levels": 3, "model.depth": 48, "data.random_crop": 64},
    ),
    "glow_mnist": Paper(
        (28, 28, 1), 19_867_556, 512, RATES, 1.05, {**GLOW, "model.levels": 2, "model.depth": 32}
    ),
    "glow_mnist_tiled": Paper(
        (32, 32, 3), 44_603_604, 512, RATES, None, {**GLOW, "model.levels": 3, "model.depth": 32}
    ),
    "jet_cifar10": Paper(
        (32, 32, 3),
        207_177_216 - 32 * 192 * 512,  # a transformer knows 192 places fewer than in 64x64
        1024,
        {0: 0.0, 977: 3e-4},
        3.02,
        {**JET, "data.flip": True},
    ),
    "jet_imagenet64": Paper(
        (64, 64, 3),
        207_177_216,
        1024,
        {0: 0.0, 25_023: 3e-4, 25_023 + 112_600: 1.5e-4},
        3.72,
        {**JET, **OORD, "train.steps": 200 * 1_281_149 // 1024},
    ),
    "nice_cifar10": Paper(
        (32, 32, 3),
        93_591_360,
        200,
        {0: 2e-4, 1: 2e-4 / 1.0005, 1000: 2e-4 / 1.0005**1000, 6000: 1e-5, 299_999: 1e-5},
        4.4773,
        {
            **NICE,
            "model.depths": (1, 1, 3, 3, 2, 2, 1, 1),
            "model.width": 2400,
            "model.prior": "normal",
            "optimizer.gradient_scale": NATS_OF_CIFAR10,
            "optimizer.momentum_start": 1_000,
            "data.valid_examples": 10_000,
            "train.steps": 300_000,
        },
    ),
    "nice_mnist": Paper(
        (28, 28, 1),
        19_158_352,
        200,
        {0: 1e-3, 1: 1e-3 / 1.0005, 1000: 1e-3 / 1.0005**1000, 4700: 1e-4, 374_999: 1e-4},
        4.3555,
        {
            **NICE,
            "model.depths": (5, 5, 5, 5),
            "model.width": 1000,
            "model.prior": "logistic",
            "optimizer.gradient_scale": 543.427,
            "optimizer.momentum_start": 1_250,
            "data.valid_examples": 10_000,
            "train.steps": 375_000,
        },
    ),
    "nice_svhn": Paper(
        (32, 32, 3),
        56_609_216,
        200,
        {0: 1e-3, 1: 1e-3 / 1.0005, 4700: 1e-4},
        2.6009,
        {
            **NICE,
            "model.depths": (3, 3, 3, 3),
            "model.width": 2000,
            "model.prior": "normal",
            "optimizer.gradient_scale": NATS_OF_CIFAR10,
        },
    ),
    "real_nvp_celeba64": Paper(
        (64, 64, 3),
        185_898_341,
        64,
        CONSTANT,
        3.02,
        {
            **REAL_NVP,
            "model.scales": 5,
            "optimizer.gradient_scale": 4 * NATS_OF_CIFAR10,
            "data.crop": 148,
            "data.flip": True,
        },
    ),
    "real_nvp_cifar10": Paper(
        (32, 32, 3),
        19_609_545,
        64,
        CONSTANT,
        3.49,
        {
            **REAL_NVP,
            "model.scales": 2,
            "model.width": 64,
            "model.blocks": 8,
            "optimizer.gradient_scale": NATS_OF_CIFAR10,
            "data.flip": True,
        },
    ),
    "real_nvp_imagenet32": Paper(
        (32, 32, 3),
        46_220_359,
        64,
        CONSTANT,
        4.28,
        {
            **REAL_NVP,
            **OORD,
            "model.scales": 4,
            "optimizer.gradient_scale": NATS_OF_CIFAR10,
            "data.flip": False,
        },
    ),
    "real_nvp_imagenet64": Paper(
        (64, 64, 3),
        185_898_341,
        64,
        CONSTANT,
        3.98,
        {**REAL_NVP, **OORD, "model.scales": 5, "optimizer.gradient_scale": 4 * NATS_OF_CIFAR10},
    ),
    "real_nvp_lsun64": Paper(
        (64, 64, 3),
        185_898_341,
        64,
        CONSTANT,
        2.72,
        {
            **REAL_NVP,
            "model.scales": 5,
            "optimizer.gradient_scale": 4 * NATS_OF_CIFAR10,
            "data.random_crop": 64,
            "data.flip": True,
        },
    ),
    "residual_flow_cifar10": Paper(
        (32, 32, 3),
        25_174_233 - 104,  # what the release counts and does not train: models/residual_flow.py
        64,
        {0: 0.0, 500: 5e-4, 1000: 1e-3, 700_000: 1e-3},
        3.28,
        {**RESIDUAL_FLOW, "model.margin": 0.05, "data.flip": True},
    ),
    "residual_flow_mnist": Paper(
        (28, 28, 1),
        16_608_589,  # as built; there is no figure
        64,
        {0: 0.0, 500: 5e-4, 1000: 1e-3, 700_000: 1e-3},
        0.97,
        {**RESIDUAL_FLOW, "model.margin": 1e-6, "data.flip": False},
    ),
    "tarflow_imagenet64": Paper(
        (64, 64, 3),
        460_142_784,
        256,
        {0: 0.0, 5_004: 1e-4, 5_004 + 247_698: (1e-4 + 1e-6) / 2},
        2.99,
        {
            **OORD,
            **RAW,
            "model.patch": 2,
            "model.width": 768,
            "model.blocks": 8,
            "model.layers": 8,
            "optimizer.name": "adam",
            "optimizer.b1": 0.9,
            "optimizer.b2": 0.95,
            "optimizer.weight_decay": 1e-4,
            "data.flip": True,
            "train.steps": 500_400,
        },
    ),
}
# In the record of an evaluation, and in config.paper: the field that decides it.
PROTOCOL = {
    "build": "data.build",
    "n_bits": "data.n_bits",
    "dequantization": "dequantization.name",
    "importance_samples": "eval.importance",
    "weights": "eval.weights",
}


def _field(config, name):
    for part in name.split("."):
        config = config[part]
    return config


def _experiment(config, folder):
    config.data.data_dir = str(folder)
    return build(config)


def _generated(experiment):
    """32 images of random numbers, as the data set's are before a random crop."""
    rng, data, info = np.random.default_rng(0), experiment.config.data, experiment.info
    height, width, channels = info.event_shape
    if data.random_crop:
        height = width = data.image_size
    images = rng.integers(experiment.n_bins, size=(32, height, width, channels), dtype=np.uint8)
    return Split(images, rng.integers(info.num_classes or 1, size=32, dtype=np.int32))


# The others are trained by their command, in test_commands.py.
@pytest.mark.slow  # all together
@pytest.mark.parametrize("name", DOWNLOADED)
@pytest.mark.usefixtures("optax_promotes")
def test_two_steps_of_the_smoke_form(name, tmp_path):
    experiment = _experiment(module(name).get_config("smoke"), tmp_path)
    config, split = experiment.config, _generated(experiment)
    state = jax.jit(lambda: initial_state(experiment, split))()  # half the time of piece by piece
    train_step = make_train_step(
        experiment.flow,
        experiment.optimizer,
        dequantizer=experiment.dequantizer,
        conditional=experiment.conditional,
        average_decay=config.train.average_decay,
        accumulate=config.train.accumulate,
    )

    @jax.jit
    def step(state, batch):
        key = jax.random.fold_in(state.key, state.step)
        return train_step.update(state, *train_step.gradients(state.params, key, batch))

    after = state
    for i in range(2):
        after, metrics = step(after, batch_at(experiment, split, i))
        assert np.isfinite(metrics[unit_of(experiment.n_bins).field])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
    pairs = zip(jax.tree.leaves(state.params), jax.tree.leaves(after.params), strict=True)
    assert any(np.any(before != now) for before, now in pairs)


@cache
def _full_size(name):
    return module(name).get_config()


@pytest.mark.parametrize("name", NAMES)
def test_the_devices_can_do_what_the_full_size_asks(name):
    check_devices(_full_size(name))


_counted: dict[Any, int] = {}


def _parameters(experiment):
    """Counted once for each model and shape: tracing a RealNVP's initialisation takes seconds."""
    config = experiment.config
    key = (config.model.to_json(), config.dequantization.to_json(), experiment.info.event_shape)
    if key not in _counted:
        _counted[key] = fg.count_parameters(abstract_state(experiment).params)
    return _counted[key]


@pytest.mark.parametrize("name", PAPERS)
def test_the_full_size_is_the_papers(name, tmp_path):
    paper, config = PAPERS[name], _full_size(name).copy_and_resolve_references()
    experiment = _experiment(config, tmp_path)
    assert experiment.flow.event_shape == paper.shape
    assert _parameters(experiment) == paper.parameters
    assert config.train.batch_size == paper.batch_size
    rate = learning_rate_schedule(
        config.optimizer, steps=config.train.steps, batch_size=config.train.batch_size
    )
    assert {t: np.asarray(rate(t)).item() for t in paper.rates} == pytest.approx(paper.rates, rel=1e-4)
    assert config.paper.get("bits_per_dim") == paper.bits
    for field, value in paper.fields.items():
        expected = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        assert _field(config, field) == expected, field


@pytest.mark.parametrize("name", DOWNLOADED)
def test_every_papers_config_is_in_the_table_and_evaluated_by_its_protocol(name):
    config = _full_size(name)
    assert name in PAPERS
    if "bits_per_dim" in config.paper:
        assert config.paper.source
    for key in PROTOCOL.keys() & config.paper.keys():
        assert config.paper[key] == _field(config, PROTOCOL[key]), key


@pytest.mark.parametrize(("name", "bits"), [("glow_lsun64", 2.46), ("real_nvp_lsun64", 2.81)])
def test_a_category_of_lsun_brings_its_number(name, bits):
    config = module(name).get_config("tower")
    assert (config.data.name, config.paper.bits_per_dim) == ("lsun/tower", bits)
    assert config.train.steps == _full_size(name).train.steps
    with pytest.raises(ValueError, match="must be 'smoke' or nothing; got 'kitchen'"):
        module(name).get_config("kitchen")


def test_a_forward_pass_of_glow_cifar10_is_8_13_gflop(tmp_path):
    """As the released graph has it; a multiplication and an addition are two."""
    experiment = _experiment(_full_size("glow_cifar10").copy_and_resolve_references(), tmp_path)
    params = abstract_state(experiment).params["flow"]
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    flops = count_flops(partial(fg.log_prob, experiment.flow), params, image)
    assert flops == pytest.approx(8.13e9, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_begins_with_what_it_is_and_has_commands_that_work(name):
    text = (module(name).__doc__ or "").replace("\\\n", " ")
    commands = re.findall(r"^python -m experiments\.(\w+)(.*)$", text, re.MULTILINE)
    own = [flags for _, flags in commands if f"--config=experiments/configs/{name}.py" in flags]
    assert own
    assert all("--workdir=runs/" in flags for flags in own)
    assert all((ROOT / f"experiments/{command}.py").exists() for command, _ in commands)
    assert set(re.findall(r"--config=experiments/configs/(\w+)", text)) == {name}
    for field in re.findall(r"--config\.([\w.]+)=", text):
        _field(_full_size(name), field)
