"""Noise of either kind keeps the pixels, and the bound it gives lies below a known log-probability."""

import functools
import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import flowjax_glow as fg
from flowjax_glow.dequantization import MARGIN, Bound
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.testing import perturb

KEY = jax.random.key(0)
LEVELS = 4
SCALE = 1.1
# Every image of two pixels with four levels.
ALL = jnp.asarray(list(itertools.product(range(LEVELS), repeat=2)), jnp.uint8)


def _learned(n_bins):
    net = partial(MLP, width=16, depth=1, cond_channels=2)
    step = fg.chain(
        fg.mixture_coupling(net, components=3), fg.mixture_coupling(net, components=3, flip=True)
    )
    return fg.variational_dequantizer(step, n_bins=n_bins)


@functools.cache
def _toy():
    """A flow on [-0.5, 0.5]^2 whose density is steep within the bins, and log P of every image.

    P is the integral of the density over the bin, in float64: along the second pixel, on which the
    second latent alone depends, by the normal's distribution function; along the first by midpoints.
    """
    net = partial(MLP, width=8, depth=1)
    flow = fg.Flow(
        fg.chain(
            fg.logit(margin=0.05, low=-0.5, high=0.5), fg.scale(), fg.affine_coupling(net, scale="exp")
        ),
        fg.standard_normal(),
        (2,),
    )
    params = list(perturb(fg.init(flow, KEY, jnp.zeros((2, 2))), scale=0.2))
    params[1] = jax.tree.map(lambda p: jnp.full_like(p, math.log(SCALE)), params[1])
    params = tuple(params)
    points = 512
    x1 = (np.arange(LEVELS * points) + 0.5) / (LEVELS * points) - 0.5
    p1 = 0.05 + 0.9 * (x1 + 0.5)
    z1, slope = SCALE * np.log(p1 / (1 - p1)), SCALE * 0.9 / (p1 * (1 - p1))
    ends = np.arange(LEVELS + 1) / LEVELS - 0.5
    grid = np.stack(np.meshgrid(x1, ends, indexing="ij"), -1).reshape(-1, 2)
    z2 = fg.encode(flow, params, jnp.asarray(grid, jnp.float32))[:, 1].reshape(x1.size, -1)
    within = np.diff(stats.norm.cdf(np.asarray(z2, np.float64)), axis=1)
    mass = (stats.norm.pdf(z1) * slope)[:, None] * within / x1.size
    return flow, params, np.log(mass.reshape(LEVELS, points, LEVELS).sum(1)).reshape(-1)


def _bounds(dequantizer, dequantizer_params, samples, repeats=1, seed=1):
    """The bound of every image of the toy, nats, (16,): the mean over repeats and its error."""
    flow, params, _ = _toy()
    images = jnp.repeat(ALL, repeats, axis=0)
    run = jax.jit(
        lambda key: (
            fg.importance_bound(
                flow, params, dequantizer, dequantizer_params, images, key, samples=samples
            ).log_prob
        )
    )
    draws = np.asarray(run(jax.random.key(seed)), np.float64).reshape(len(ALL), repeats)
    bound = draws - 2 * math.log(LEVELS)
    return bound.mean(1), bound.std(1, ddof=1) / math.sqrt(repeats)


@functools.cache
def _trained():
    flow, params, _ = _toy()
    dequantizer = _learned(LEVELS)
    images = jnp.tile(ALL, (8, 1))
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(start):
        def loss(dequantizer_params, key):
            x, log_q = dequantizer.sample(dequantizer_params, key, images)
            return jnp.mean(log_q - fg.log_prob(flow, params, x))

        def step(carry, key):
            p, state = carry
            value, grads = jax.value_and_grad(loss)(p, key)
            updates, state = optimizer.update(grads, state, p)
            return (optax.apply_updates(p, updates), state), value

        keys = jax.random.split(jax.random.key(2), 400)
        return jax.lax.scan(step, (start, optimizer.init(start)), keys)

    (trained, _), values = train(dequantizer.init(KEY, images))
    return dequantizer, trained, values


def test_uniform_noise_is_that_of_dequantize():
    dequantizer = fg.uniform_dequantizer(n_bins=17)
    images = jnp.asarray(np.random.default_rng(0).integers(17, size=(4, 2, 2, 1)), jnp.uint8)
    index = jnp.array([5, 0, 7, 2])
    assert dequantizer.init(KEY, images) == {}
    x, log_q = dequantizer.sample({}, KEY, images, index)
    np.testing.assert_array_equal(x, fg.dequantize(KEY, images, n_bins=17, index=index))
    np.testing.assert_array_equal(log_q, np.zeros(4))


def test_one_uniform_sample_is_the_plain_likelihood():
    flow, params, _ = _toy()
    got = fg.importance_bound(
        flow, params, fg.uniform_dequantizer(n_bins=LEVELS), {}, ALL, KEY, samples=1
    )
    x = fg.dequantize(jax.random.fold_in(KEY, 0), ALL, n_bins=LEVELS)
    lp = fg.log_prob(flow, params, x)
    np.testing.assert_allclose(got.log_prob, lp, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        got.bits_per_dim, fg.bits_per_dim(lp, (2,), n_bins=LEVELS), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("n_bins", [2, 17, 256])
def test_learned_noise_gives_the_images_back_however_far_it_is_pushed(n_bins):
    """Pushed to the ends of (0, 1), it stops a margin short of them, and nothing rounds up."""
    dequantizer = fg.variational_dequantizer(fg.entrywise_actnorm(), n_bins=n_bins)
    push = jnp.repeat(jnp.array([-1e4, -12.0, 0.0, 12.0, 1e4]), n_bins)
    params = {"bias": push, "log_scale": jnp.zeros_like(push)}
    images = jnp.asarray(np.tile(np.arange(n_bins, dtype=np.uint8), (8, 5)))
    x, log_q = dequantizer.sample(params, KEY, images)
    assert x.dtype == log_q.dtype == jnp.float32
    np.testing.assert_array_equal(fg.quantize(x, n_bins=n_bins), images)
    assert np.all(np.isfinite(log_q))
    u = (np.asarray(x, np.float64) + 0.5) * n_bins - np.asarray(images)
    assert u.min() > MARGIN / 2
    assert u.max() < 1 - MARGIN / 2


def test_log_q_is_the_density_of_the_noise():
    """E[1/q(u); u in A] is the area of A: of cells off the ends, where the mean would not converge."""
    dequantizer = _learned(LEVELS)
    params = perturb(dequantizer.init(KEY, ALL), scale=0.1)
    images = jnp.repeat(jnp.array([[1, 3]], jnp.uint8), 40_000, axis=0)
    x, log_q = jax.jit(dequantizer.sample)(params, KEY, images)
    u = np.asarray((x + 0.5) * LEVELS - images.astype(jnp.float32))
    for corner in itertools.product([0.2, 0.5], repeat=2):
        inside = np.all((u > corner) & (u < np.add(corner, 0.3)), axis=1)
        weights = np.exp(-np.asarray(log_q, np.float64)) * inside
        error = weights.std() / math.sqrt(weights.size)
        assert error < 0.002
        assert weights.mean() == pytest.approx(0.09, abs=5 * error)


def test_noise_of_an_example_depends_on_its_key_and_number_alone():
    dequantizer = _learned(LEVELS)
    params = perturb(dequantizer.init(KEY, ALL))
    sample = jax.jit(dequantizer.sample)
    x, log_q = sample(params, KEY, ALL)
    order = jnp.array([11, 3, 7])
    again, log_q_again = sample(params, KEY, ALL[order], order)
    np.testing.assert_allclose(again, x[order], atol=1e-6)
    np.testing.assert_allclose(log_q_again, log_q[order], atol=1e-5)
    other, _ = sample(params, jax.random.key(9), ALL)
    assert np.abs(other - x).min() > 0


def test_the_bound_rises_with_the_samples_to_the_exact_log_probability():
    _, _, exact = _toy()
    assert np.exp(exact).sum() < 1  # a margin of the logit is outside
    uniform = fg.uniform_dequantizer(n_bins=LEVELS)
    one, one_error = _bounds(uniform, {}, 1, repeats=4000)
    few, few_error = _bounds(uniform, {}, 8, repeats=1000)
    many, many_error = _bounds(uniform, {}, 4000, repeats=16)
    gaps = [np.mean(exact - bound) for bound in (one, few, many)]
    assert gaps[0] > 1.5 * gaps[1] > 0
    assert np.all(one - 5 * one_error < exact)
    assert np.all(few - 5 * few_error < exact)
    # What 4000 samples still miss is about half their variance, well below the first term.
    assert np.all(np.abs(many - exact) < 0.005 + 5 * many_error)
    assert abs(gaps[2]) < 0.01 < 0.1 * gaps[1]


@pytest.mark.usefixtures("optax_promotes")
def test_training_the_dequantizer_tightens_the_bound():
    _, _, exact = _toy()
    dequantizer, trained, _ = _trained()
    uniform, _ = _bounds(fg.uniform_dequantizer(n_bins=LEVELS), {}, 1, repeats=1000)
    learned, error = _bounds(dequantizer, trained, 1, repeats=1000)
    assert np.all(learned - 5 * error < exact)
    assert np.mean(exact - learned) < 0.1 * np.mean(exact - uniform)


def test_the_sum_over_samples_survives_ratios_of_ten_thousand_nats():
    """A dequantizer that claims a density it does not have shifts the bound, and nothing else."""
    flow, params, _ = _toy()
    uniform = fg.uniform_dequantizer(n_bins=LEVELS)

    def claims(offset):
        def sample(params, key, images, index=None, net_key=None, /):
            x, log_q = uniform.sample(params, key, images, index, net_key)
            return x, log_q + offset

        return uniform._replace(sample=sample)

    def bound(dequantizer):
        return fg.importance_bound(flow, params, dequantizer, {}, ALL, KEY, samples=64).log_prob

    plain = bound(uniform)
    for offset in (-1e4, 1e4):
        np.testing.assert_allclose(bound(claims(offset)) + offset, plain, atol=2e-3)


def test_an_estimate_has_its_standard_error_and_names_its_samples():
    bits = jnp.array([3.0, 4.0, 5.0, 8.0])
    estimate = Bound(-bits, bits, 16)
    assert estimate.mean == 5.0
    assert estimate.standard_error == pytest.approx(stats.sem(bits))
    assert str(estimate) == "5.0000 +- 1.0801 bits/dim with K = 16"
    assert math.isnan(Bound(-bits[:1], bits[:1], 1).standard_error)


def test_mistakes_are_named():
    flow, params, _ = _toy()
    with pytest.raises(ValueError, match="samples must be at least 1; got 0"):
        fg.importance_bound(
            flow, params, fg.uniform_dequantizer(n_bins=LEVELS), {}, ALL, KEY, samples=0
        )
    with pytest.raises(ValueError, match="n_bins must be between 1 and 256; got 1000"):
        fg.variational_dequantizer(fg.actnorm(), n_bins=1000)
