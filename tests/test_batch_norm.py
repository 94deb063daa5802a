"""Batch norm: the batch's statistics in training, and running ones that follow them as params do."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from configs import tiny
from jax.sharding import AxisType, Mesh, PartitionSpec

import flowjax_glow as fg
from flowjax_glow.bijectors.batch_norm import follow
from flowjax_glow.sharding import AXES
from flowjax_glow.training.drivers import make_driver
from flowjax_glow.training.optimizers import make_optimizer
from flowjax_glow.training.state import init_state
from flowjax_glow.training.step import make_train_step

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal([1.0, -3.0], [2.0, 0.5], size=(8, 4, 4, 2)), jnp.float32)
RUNNING = {"mean": jnp.array([0.5, 0.5]), "variance": jnp.array([2.0, 2.0])}


def mean_and_variance(x):
    flat = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    return flat.mean(0), flat.var(0)


def assert_close(actual, expected, tolerance=1e-5):
    close = partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    jax.tree.map(close, actual, expected)


def test_with_a_key_the_batch_is_normalised_and_without_one_the_running_statistics_are_used():
    norm, params = fg.batch_norm(), {"running": RUNNING}
    mean, variance = mean_and_variance(X)
    z, logdet = norm.forward(params, X, None, KEY)
    assert_close(mean_and_variance(z), (np.zeros(2), variance / (variance + 1e-4)))
    assert_close(logdet, np.full(8, -0.5 * 16 * np.log(variance + 1e-4).sum()))

    z, logdet = norm.forward(params, X)
    assert_close(z, (np.asarray(X) - 0.5) / np.sqrt(2.0001))
    assert_close(logdet, np.full(8, -16 * np.log(2.0001)))

    assert_close(norm.init(KEY, X), {"running": {"mean": mean, "variance": variance}})


def test_half_of_a_checkerboard_is_normalised_by_statistics_that_count_the_other_as_zeros():
    norm = fg.batch_norm(mask="checkerboard")
    even = (np.add.outer(np.arange(4), np.arange(4)) % 2 == 0)[None, :, :, None]
    masked = np.where(even, 0.0, X)  # the even pixels condition
    mean, variance = mean_and_variance(masked)
    z, logdet = norm.forward({"running": RUNNING}, X, None, KEY)
    assert_close(z, np.where(even, X, (np.asarray(X) - mean) / np.sqrt(variance + 1e-4)))
    assert_close(logdet, np.full(8, -0.5 * 8 * np.log(variance + 1e-4).sum()))


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_the_gradient_of_a_running_statistic_is_its_difference_whatever_the_loss(scale):
    def loss(running, x, key):
        z, logdet = fg.batch_norm().forward({"running": running}, x, None, key)
        return scale * jnp.sum(jnp.sin(z)) + jnp.mean(logdet)

    def by_hand(x):
        mean, variance = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True) + 1e-4
        z = (x - mean) / jnp.sqrt(variance)
        return scale * jnp.sum(jnp.sin(z)) - 8 * jnp.sum(jnp.log(variance))

    of_running, of_x = jax.jit(jax.grad(loss, (0, 1)))(RUNNING, X, KEY)
    mean, variance = mean_and_variance(X)
    assert_close(of_running, {"mean": 0.5 - mean, "variance": 2.0 - variance})
    assert_close(of_x, jax.jit(jax.grad(by_hand))(X), 1e-5 * scale)

    of_running = jax.jit(jax.grad(loss))(RUNNING, X, None)
    assert_close(of_running, {"mean": np.zeros(2), "variance": np.zeros(2)}, 0.0)


@pytest.mark.parametrize("memory", ["stored", "recompute"])
def test_inside_repeat_every_depth_follows_its_own_batch(memory):
    flow = fg.repeat(fg.chain(fg.batch_norm(), fg.actnorm()), 3, memory=memory)
    params = jax.jit(flow.init)(KEY, X)
    params = (params[0], {"bias": jnp.ones((3, 2)), "log_scale": jnp.full((3, 2), 0.1)})
    gradient = jax.grad(lambda p: jnp.sum(flow.forward(p, X, None, KEY)[0]))
    found = jax.jit(gradient)(params)[0]["running"]
    # Into the second and the third goes what the actnorm before makes of a normalised batch.
    mean, variance = mean_and_variance(X)
    of_batch = np.exp(0.3), np.exp(0.6)
    expected = {
        "mean": params[0]["running"]["mean"] - np.array([mean, *2 * [2 * [of_batch[0]]]]),
        "variance": params[0]["running"]["variance"] - np.array([variance, *2 * [2 * [of_batch[1]]]]),
    }
    assert_close(found, expected, 1e-3)  # eps takes 4e-4 of a variance of 0.25


def test_a_leaf_follows_the_mean_over_devices():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jnp.arange(8.0)

    def local(x):
        gradient = jax.grad(lambda running: 3.0 * follow(running, jnp.mean(x) ** 2))
        return jax.lax.pmean(gradient(1.0), "data")

    run = jax.shard_map(
        local, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec(), check_vma=False
    )
    assert_close(jax.jit(run)(x), 1.0 - (1.5**2 + 5.5**2) / 2)


def test_there_is_no_inverse_by_the_statistics_of_a_batch():
    norm = fg.batch_norm()
    with pytest.raises(ValueError, match="inverse must be called without a key"):
        norm.inverse({"running": RUNNING}, X, None, KEY)
    repeated = fg.repeat(norm, 2, memory="constant")
    params = jax.jit(repeated.init)(KEY, X)
    gradient = jax.grad(lambda p, key: repeated.forward(p, X, None, key)[1].sum())
    with pytest.raises(ValueError, match="repeat around it needs memory='stored' or 'recompute'"):
        gradient(params, KEY)
    assert np.all(gradient(params, None)["running"]["mean"] == 0)
    with pytest.raises(ValueError, match=r"mask must be one of .* got 'rows'"):
        fg.batch_norm(mask="rows")


def test_a_constant_channel_has_finite_gradients():
    def loss(x):
        z, logdet = fg.batch_norm().forward({"running": RUNNING}, x, None, KEY)
        return jnp.sum(z**2) + jnp.sum(logdet)

    for x in (jnp.full((4, 2, 2, 2), 7.0), X * 1e6):
        assert np.isfinite(jax.grad(loss)(x)).all()


@pytest.mark.usefixtures("optax_promotes")
def test_running_statistics_are_no_part_of_clipping_adam_and_decay(tmp_path):
    config = tiny(tmp_path).optimizer
    config.clip_norm, config.weight_decay, config.running_momentum = 1.0, 0.1, 0.8
    config.schedule, config.warmup_examples = "constant", 0
    optimizer = make_optimizer(config, steps=10, batch_size=8)
    learned = {"kernel": jnp.ones(3), "bias": jnp.ones(1)}
    params = learned | {"running": {"mean": jnp.ones(1)}}
    grads = learned | {"running": {"mean": jnp.array([1e6])}}
    updates: Any = optimizer.update(grads, optimizer.init(params), params)[0]
    alone: Any = optimizer.update(learned, optimizer.init(learned), learned)[0]
    assert_close(updates, {**alone, "running": {"mean": np.array([-0.2e6])}}, 1e-6)


UNIFORM = fg.uniform_dequantizer(n_bins=17)
IMAGES = RNG.integers(17, size=(4, 16, 4, 4, 2)).astype(np.uint8)


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize(
    ("driver", "shape"),
    [("shard_map", (1, 1)), ("shard_map", (1, 2)), ("jit", (2, 1))],
)
def test_in_training_running_statistics_become_those_of_the_data(tmp_path, driver, shape):
    config = tiny(tmp_path).optimizer
    optimizer = make_optimizer(config, steps=100, batch_size=16)
    flow = fg.Flow(fg.chain(fg.batch_norm(), fg.actnorm()), fg.standard_normal(), (4, 4, 2))
    params = fg.init(flow, KEY, X)  # of other statistics than the images
    step = make_train_step(flow, optimizer, dequantizer=UNIFORM, accumulate=2)
    devices = np.array(jax.devices()[: math.prod(shape)]).reshape(shape)
    run = make_driver(driver, step, Mesh(devices, AXES, axis_types=(AxisType.Auto, AxisType.Auto)))
    state = run.put_state(init_state({"flow": params, "dequantizer": {}}, optimizer, KEY))
    for t in range(80):
        batch = {"example": IMAGES[t % 4], "label": np.zeros(16, np.int32)}
        state, _ = run.steps(state, run.put_batches([batch]))
    # With the noise of dequantization, and to what the batches differ from the data as a whole.
    mean, variance = mean_and_variance(IMAGES.astype(np.float64) / 17 - 0.5 + 0.5 / 17)
    expected = {"mean": mean, "variance": variance + 1 / (12 * 17**2)}
    found = state.params["flow"][0]["running"]
    jax.tree.map(partial(np.testing.assert_allclose, atol=0.005), found, expected)


@pytest.mark.usefixtures("optax_promotes")
def test_the_norm_of_the_gradient_is_that_of_what_is_learned():
    flow = fg.Flow(fg.batch_norm(), fg.standard_normal(), (4, 4, 2))
    optimizer = optax.sgd(0.1)
    step = make_train_step(flow, optimizer, dequantizer=UNIFORM)
    state = init_state({"flow": fg.init(flow, KEY, X), "dequantizer": {}}, optimizer, KEY)
    batch = {"example": jnp.asarray(IMAGES[0]), "label": np.zeros(16, np.int32)}
    loss, grads = step.gradients(state.params, KEY, batch)
    assert optax.tree.norm(grads) > 1
    assert step.update(state, loss, grads)[1]["grad_norm"] == 0
