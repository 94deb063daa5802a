"""Optimizers take the steps computed by hand, and schedules have the values they promise."""

import importlib
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.configs import default
from flowjax_glow.nets.resnet import RealNVPNet
from flowjax_glow.training.adamax import scale_by_released_adamax
from flowjax_glow.training.optimizers import make_optimizer
from flowjax_glow.training.rmsprop import momentum, scale_by_bounded_rms
from flowjax_glow.training.schedules import learning_rate_schedule


def settings(**fields):
    """config.optimizer with a learning rate of 1 from the first step on, and no clipping."""
    config = default.get_config().optimizer
    config.update(learning_rate=1.0, schedule="constant", warmup_examples=0, clip_norm=math.inf)
    config.update(fields)
    return config


def updates(config, params, gradients):
    """The update of every gradient; params stay what they are."""
    optimizer = make_optimizer(config, steps=100, batch_size=4)
    state, update, found = optimizer.init(params), jax.jit(optimizer.update), []
    for gradient in gradients:
        step, state = update(gradient, state, params)
        found.append(step)
    return found


def rates(config, at, *, steps, batch_size):
    """The learning rates of the steps `at`."""
    schedule = learning_rate_schedule(config, steps=steps, batch_size=batch_size)
    return np.array([schedule(step) for step in at])


BY_HAND = {
    "adam": (
        {"b1": 0.5, "b2": 0.75, "eps": 1.0},
        [1.0, -2.0],
        [-0.5, 1 / (1 + math.sqrt(19 / 7))],
    ),
    # After 3 gradients m is -0.375 and u 1.5; 1 - b2^3 is 37 / 64.
    "adamax": (
        {"b1": 0.5, "b2": 0.75, "eps": 1.0},
        [1.0, -2.0, 0.0],
        [-0.25, 0.25 * math.sqrt(7) / 3, 0.15 * math.sqrt(37) / 7],
    ),
    # 1 / 98 of an epoch a step, on 8 devices; optax.adamax takes a step of 1.
    "adamax, the first step of Glow": (
        {"b1": 0.9, "b2": 1 - 1 / 98, "eps": 1e-8},
        [3.0],
        [-math.sqrt(1 / 98)],
    ),
    # The first and the last gradient are divided by eps, and the second by sqrt(16.75).
    "rmsprop": (
        {"b1": 0.5, "b2": 0.75, "eps": 4.0, "momentum_start": 2},
        [2.0, 8.0, 0.0, 4.0],
        [-0.5, -8 / math.sqrt(16.75), -4 / math.sqrt(16.75), -2 / math.sqrt(16.75) - 1],
    ),
    # The first step is kept with the learning rate it was taken with.
    "rmsprop, learning rate halved every step": (
        {"b1": 0.5, "b2": 0.75, "eps": 4.0, "schedule": "decay", "decay_rate": 0.5},
        [2.0, 0.0],
        [-0.5, -0.25],
    ),
}


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize("case", BY_HAND)
def test_an_optimizer_takes_the_steps_computed_by_hand(case):
    fields, gradients, expected = BY_HAND[case]
    config = settings(name=case.split(",")[0], **fields)
    found = updates(config, jnp.array(7.0), [jnp.array(g) for g in gradients])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.usefixtures("float64")
def test_states_and_steps_have_the_dtypes_of_the_params():
    params = {"a": jnp.ones(2, jnp.float64), "b": jnp.ones(2, jnp.bfloat16), "none": None}
    optimizer = optax.chain(scale_by_released_adamax(), scale_by_bounded_rms(), momentum(0.5, start=1))
    state = jax.jit(optimizer.init)(params)
    steps, after = jax.jit(optimizer.update)(params, state)
    for tree, like in ((steps, params), (after, state)):
        assert jax.tree.structure(tree) == jax.tree.structure(like)
        assert [a.dtype for a in jax.tree.leaves(tree)] == [a.dtype for a in jax.tree.leaves(like)]


@pytest.mark.usefixtures("optax_promotes")
def test_magnitude_l2_is_on_the_magnitudes_and_the_factors_that_the_release_penalises():
    half = jax.ShapeDtypeStruct((2, 4, 2, 2), jnp.float32)
    params = {}
    for mask in ("checkerboard", "channel"):
        net = RealNVPNet(4, mask, width=4, blocks=1)
        shapes = jax.eval_shape(net.init, jax.random.key(0), half)
        params[mask] = jax.tree.map(lambda a: jnp.full(a.shape, 3.0), shapes)
    # Divided by eps = 1, gradients are the steps.
    config = settings(name="rmsprop", b1=0.0, eps=1.0, magnitude_l2=0.1)
    (steps,) = updates(config, params, [jax.tree.map(jnp.zeros_like, params)])
    moved = [(path, a) for path, a in jax.tree_util.tree_leaves_with_path(steps) if np.any(a)]
    # Of two nets, four convolutions each, and the factor of one.
    assert Counter(path[-1].key for path, _ in moved) == {"magnitude": 8, "rescale": 1}
    for _, step in moved:
        np.testing.assert_allclose(step, -2 * 0.1 * 3.0, rtol=1e-6)


@pytest.mark.usefixtures("optax_promotes")
def test_gradients_are_scaled_penalised_clipped_rescaled_and_decayed_in_this_order():
    config = settings(name="rmsprop", b1=0.0, eps=100.0, gradient_scale=4.0, magnitude_l2=20.0)
    config.update(clip_norm=10.0, weight_decay=0.01)
    params = {"magnitude": jnp.array(1.0), "bias": jnp.array(1.0)}
    (step,) = updates(config, params, [{"magnitude": jnp.array(0.0), "bias": jnp.array(7.5)}])
    # (0, 7.5) -> (0, 30) -> (40, 30), of norm 50 -> (8, 6) -> (0.08, 0.06)
    found = [step["magnitude"], step["bias"]]
    np.testing.assert_allclose(found, [-0.08 - 0.01, -0.06 - 0.01], rtol=1e-6)


WARM = {"learning_rate": 1e-3, "warmup_examples": 37}  # 10 steps of 4
RATES = {
    "constant": ({"schedule": "constant"}, {0: 0, 5: 5e-4, 10: 1e-3, 109: 1e-3}),
    "cosine": ({"schedule": "cosine"}, {0: 0, 5: 5e-4, 10: 1e-3, 60: 5e-4, 110: 0}),
    "cosine, not to 0": (
        {"schedule": "cosine", "final_learning_rate": 1e-4},
        {0: 0, 5: 5e-4, 10: 1e-3, 60: 5.5e-4, 110: 1e-4},
    ),
    "decay": (
        {"schedule": "decay", "decay_rate": 0.5, "decay_steps": 20, "final_learning_rate": 2e-4},
        {0: 0, 5: 5e-4, 10: 1e-3, 29: 1e-3, 30: 5e-4, 49: 5e-4, 50: 2.5e-4, 70: 2e-4, 109: 2e-4},
    ),
}


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize("case", RATES)
def test_schedules_have_the_values_they_promise(case):
    fields, expected = RATES[case]
    found = rates(settings(**WARM, **fields), expected, steps=110, batch_size=4)
    np.testing.assert_allclose(found, list(expected.values()), atol=1e-9)


@pytest.mark.usefixtures("optax_promotes")
def test_the_learning_rates_of_releases():
    # Glow: linear over 500,000 images, in batches of 512.
    config = settings(learning_rate=1e-3, warmup_examples=500_000)
    found = rates(config, (0, 488, 977), steps=100_000, batch_size=512)
    np.testing.assert_allclose(found, [0, 1e-3 * 488 / 977, 1e-3], rtol=1e-6)

    # NICE, MNIST: divided by 1.0005 after every batch, which comes to a tenth in 4,607 of them.
    config = settings(
        schedule="decay", learning_rate=1e-3, decay_rate=1 / 1.0005, final_learning_rate=1e-4
    )
    at = np.array([0, 1, 250, 4606, 4607, 374_999])
    found = rates(config, at, steps=375_000, batch_size=200)
    expected = np.maximum(1e-3 / 1.0005 ** at.astype(float), 1e-4)
    np.testing.assert_allclose(found, expected, rtol=1e-3)  # 1 / 1.0005 in float32, to high powers
    assert found[3] > found[4] == found[5]


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize(
    ("name", "warmup"),
    [
        ("glow_digits", 200),
        ("glow_photos", 500),
        ("moons_spline", 100),
        ("eight_gaussians_maf", 100),
        ("table_spline", 100),
    ],
)
def test_the_warm_up_of_a_config_whose_result_is_published_has_as_many_steps_as_then(name, warmup):
    config = importlib.import_module(f"experiments.configs.{name}").get_config()
    peak, train = config.optimizer.learning_rate, config.train
    at = (0, warmup // 2, warmup - 1, warmup)
    found = rates(config.optimizer, at, steps=train.steps, batch_size=train.batch_size)
    expected = [0, peak / 2, peak * (warmup - 1) / warmup, peak]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "sgd"}, "optimizer.name must be one of .* got 'sgd'"),
        ({"schedule": "step"}, "optimizer.schedule must be one of .* got 'step'"),
        ({"warmup_examples": 400}, r"train.steps = 100 steps of 4; got 400, which take 100"),
        ({"warmup_examples": -1}, r"warmup_examples must be at least 0 .* got -1"),
        ({"learning_rate": 0.0}, "optimizer.learning_rate must be positive; got 0.0"),
        (
            {"final_learning_rate": 2.0},
            r"final_learning_rate must be in \[0, learning_rate = 1.0\]; got 2.0",
        ),
        ({"schedule": "decay"}, r"optimizer.decay_rate must be in \(0, 1\); got 1.0"),
        (
            {"schedule": "decay", "decay_rate": 0.5, "decay_steps": 0},
            "optimizer.decay_steps must be at least 1; got 0",
        ),
        ({"b1": 1.0}, r"optimizer.b1 must be in \[0, 1\); got 1.0"),
        ({"b2": -0.1}, r"optimizer.b2 must be in \[0, 1\); got -0.1"),
        ({"running_momentum": 1.0}, r"optimizer.running_momentum must be in \[0, 1\); got 1.0"),
        ({"eps": 0.0}, "optimizer.eps must be positive; got 0.0"),
        ({"gradient_scale": 0.0}, "optimizer.gradient_scale must be positive; got 0.0"),
        ({"clip_norm": 0.0}, "optimizer.clip_norm must be positive; got 0.0"),
        ({"weight_decay": -1.0}, "optimizer.weight_decay must not be negative; got -1.0"),
        ({"magnitude_l2": -1.0}, "optimizer.magnitude_l2 must not be negative; got -1.0"),
        ({"momentum_start": -1}, "optimizer.momentum_start must not be negative; got -1"),
    ],
)
def test_mistakes_in_the_optimizer_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(settings(**fields), steps=100, batch_size=4)
