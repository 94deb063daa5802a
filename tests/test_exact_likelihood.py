"""The likelihood is what it claims: against known entropies, closed forms, integrals and samples.

tests/mutants breaks it in ten ways, and shows that these tests notice.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from cases import perturb

import flowjax_glow as fg
from flowjax_glow.nets.mlp import MLP

KEY = jax.random.key(0)
LEVELS, DIM, STAY = 2, 4, 0.9


def markov_chains(seed: int, num: int) -> np.ndarray:
    """(num, DIM) levels: the first is uniform, each next one is the last with probability STAY."""
    rng = np.random.default_rng(seed)
    changes = rng.random((num, DIM)) > STAY
    changes[:, 0] = rng.integers(LEVELS, size=num)
    return np.cumsum(changes, axis=1).astype(np.uint8) % LEVELS


def entropy() -> float:
    """Of the chain in bits a dimension, by summation over every one of its values."""
    values = np.stack(np.meshgrid(*[range(LEVELS)] * DIM), axis=-1).reshape(-1, DIM)
    stays = (np.diff(values, axis=1) == 0).sum(axis=1)
    p = STAY**stays * (1 - STAY) ** (DIM - 1 - stays) / LEVELS
    assert p.sum() == pytest.approx(1)
    return float(-np.sum(p * np.log2(p))) / DIM


def spline_flow() -> fg.Flow:
    """On the cube that dequantized levels fill: at the identity it is uniform there, 1 bit a level."""
    coupling = partial(fg.spline_coupling, partial(MLP, width=32), bins=16, bound=8.0)
    masks = [("checkerboard", False), ("channel", False), ("checkerboard", True), ("channel", True)]
    bijector = fg.chain(
        fg.logit(margin=0.0, low=-0.5, high=0.5), *[coupling(mask=m, flip=f) for m, f in masks]
    )
    return fg.Flow(bijector, fg.standard_logistic(), (DIM,))


def bits(flow: fg.Flow, params, key, images) -> jax.Array:
    x = fg.dequantize(key, images, n_bins=LEVELS)
    return fg.bits_per_dim(fg.log_prob(flow, params, x), flow.event_shape, n_bins=LEVELS)


def trained_bits(images: np.ndarray, test: np.ndarray, steps: int) -> np.ndarray:
    """Bits a dimension of each test image, by a flow trained on images."""
    flow, data = spline_flow(), jnp.asarray(images)
    params = fg.init(flow, KEY, fg.dequantize(KEY, data[:256], n_bins=LEVELS))
    schedule = optax.cosine_decay_schedule(5e-3, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def step(carry, key):
        params, state = carry
        batch_key, noise_key = jax.random.split(key)
        batch = data[jax.random.randint(batch_key, (512,), 0, len(data))]
        gradient = jax.grad(lambda p: jnp.mean(bits(flow, p, noise_key, batch)))(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = params, optimizer.init(params)
    (params, _), _ = jax.jit(partial(jax.lax.scan, step))(carry, jax.random.split(KEY, steps))
    return np.asarray(jax.jit(partial(bits, flow))(params, jax.random.key(9), jnp.asarray(test)))


@pytest.mark.usefixtures("optax_promotes", "optimized")
def test_a_trained_flow_comes_to_the_entropy_of_a_markov_chain_and_never_below():
    test = markov_chains(1, 100_000)
    spent = trained_bits(markov_chains(0, 20_000), test, steps=3_000)
    standard_error = spent.std() / math.sqrt(len(spent))
    assert standard_error < 0.002
    assert -4 * standard_error < spent.mean() - entropy() < 0.02


@pytest.mark.usefixtures("optax_promotes", "optimized")
def test_a_constant_image_never_costs_less_than_nothing():
    constant = np.ones((20_000, DIM), np.uint8)
    spent = trained_bits(constant, constant, steps=1_000)
    standard_error = spent.std() / math.sqrt(len(spent))
    assert -4 * standard_error < spent.mean() < 0.05
    assert standard_error < 0.005


def test_a_glow_with_parameters_set_by_hand_has_the_bits_of_its_closed_form():
    """Conditioners at zero, actnorm and kernels by hand: each level is one affine map of each half."""
    flow = fg.glow((4, 4, 1), levels=2, depth=1, width=4, learn_top=False)
    images = np.random.default_rng(0).integers(0, 256, size=(5, 4, 4, 1))
    x = (images + 0.5) / 256 - 0.5  # key None: the middle of every bin
    bias, log_scale, kernel = (0.1, -0.2), (0.7, 0.4), (1.5, 0.8)

    def by_hand(params):
        """The trained leaves of the two levels' steps; what is not named is a conditioner's."""

        def set_level(level, step):
            actnorm, conv, coupling = step
            channels = conv["kernel"].shape[-1]
            return (
                {
                    "bias": jnp.full_like(actnorm["bias"], bias[level]),
                    "log_scale": jnp.full_like(actnorm["log_scale"], log_scale[level] / 3),
                },
                {"kernel": kernel[level] * jnp.eye(channels)[None]},
                coupling,
            )

        squeeze, first, whiten, (squeeze_again, second) = params
        second = set_level(1, second)
        return (squeeze, set_level(0, first), whiten, (squeeze_again, second))

    params = by_hand(fg.init(flow, KEY, jnp.asarray(x, jnp.float32)))

    blocks = x.reshape(5, 2, 2, 2, 2, 1).transpose(0, 1, 3, 5, 2, 4).reshape(5, 2, 2, 4)
    gate = 1 / (1 + np.exp(-2.0))
    latents, logdet = [], 0.0
    for level in range(2):
        blocks = (blocks + bias[level]) * np.exp(log_scale[level]) * kernel[level]
        kept, changed = np.split(blocks, 2, axis=-1)
        blocks = np.concatenate([kept, changed * gate], axis=-1)
        logdet += blocks[0].size * (log_scale[level] + np.log(kernel[level])) + kept[0].size * np.log(
            gate
        )
        if level == 0:
            blocks, leaves = np.split(blocks, 2, axis=-1)
            latents.append(leaves)
            n, h, w, c = blocks.shape
            blocks = blocks.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
            blocks = blocks.reshape(n, h // 2, w // 2, 4 * c)
    latents.append(blocks)
    z = np.concatenate([latent.reshape(5, -1) for latent in latents], axis=1)
    log_prob = -0.5 * np.sum(z**2 + np.log(2 * np.pi), axis=1) + logdet
    expected = (16 * np.log(256) - log_prob) / (16 * np.log(2))

    levels = jnp.asarray(images)
    lp = jax.jit(partial(fg.log_prob, flow))(params, fg.dequantize(None, levels))
    actual = fg.bits_per_dim(lp, flow.event_shape, n_bins=256)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.01  # the examples differ, and each has its own number


def correlated_flow() -> tuple[fg.Flow, fg.Params]:
    layer = fg.chain(fg.actnorm(), fg.invertible_conv(), fg.affine_coupling(partial(MLP, width=16)))
    flow = fg.Flow(fg.repeat(layer, 4), fg.standard_normal(), (2,))
    data = jax.random.normal(KEY, (256, 2)) @ jnp.array([[1.0, 0.8], [0.0, 0.5]])
    return flow, perturb(fg.init(flow, KEY, data))


@pytest.mark.usefixtures("optimized")
def test_samples_fit_the_density_and_samples_stretched_by_two_percent_do_not():
    """Chi-square over cells of the plane, whose probabilities are integrals of the density."""
    flow, params = correlated_flow()
    samples = np.asarray(jax.jit(partial(fg.sample, flow), static_argnums=2)(params, KEY, 400_000))

    inner = [np.quantile(samples[:, i], np.linspace(0.02, 0.98, 13)) for i in range(2)]
    edges = [np.concatenate([[-12.0], e, [12.0]]) for e in inner]
    assert np.abs(samples).max() < 12
    # Each cell is integrated by Gauss-Legendre: 12 x 12 points, exact for polynomials of degree 23.
    nodes, node_weights = np.polynomial.legendre.leggauss(12)

    def points(e):
        half, middle = np.diff(e) / 2, (e[1:] + e[:-1]) / 2
        return (middle[:, None] + half[:, None] * nodes).ravel(), (half[:, None] * node_weights).ravel()

    (px, wx), (py, wy) = map(points, edges)
    grid = jnp.asarray(
        np.stack(np.meshgrid(px, py, indexing="ij"), axis=-1).reshape(-1, 2), jnp.float32
    )
    density = np.exp(np.asarray(jax.jit(partial(fg.log_prob, flow))(params, grid), np.float64))
    mass = density.reshape(len(px), len(py)) * wx[:, None] * wy
    cells = mass.reshape(14, 12, 14, 12).sum((1, 3)).ravel()
    assert cells.sum() == pytest.approx(1, abs=1e-3)

    def p_value(samples):
        counts = np.histogram2d(*samples.T, bins=edges)[0].ravel()
        enough = cells * len(samples) > 10
        rest = [a[~enough].sum() for a in (counts, cells)]
        observed = np.append(counts[enough], rest[0])
        expected = np.append(cells[enough], rest[1]) / cells.sum() * len(samples)
        statistic = np.sum((observed - expected) ** 2 / np.maximum(expected, 1e-9))
        return scipy.stats.chi2.sf(statistic, enough.sum())

    assert p_value(samples) > 1e-3
    assert p_value(1.02 * samples) < 1e-12
