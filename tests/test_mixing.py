"""Bijectors that mix or move numbers and change no volume: Householder reflections, Haar, permute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax_glow as fg

HOUSEHOLDER = fg.invertible_conv(parametrization="householder")


def _reflections(kind, channels):
    rng = np.random.default_rng(0)
    v = rng.normal(size=(channels, channels))
    if kind == "random":
        return v
    if kind == "almost parallel":
        return v[:1] + 1e-7 * v
    return v * 10.0 ** rng.uniform(-100, 100, size=(channels, 1))


@pytest.mark.parametrize("channels", [1, 2, 7, 48])
@pytest.mark.parametrize("kind", ["random", "almost parallel", "of any length"])
@pytest.mark.usefixtures("float64")
def test_householder_is_the_product_of_its_reflections_and_orthogonal(kind, channels):
    v = _reflections(kind, channels)
    prepared = jax.jit(HOUSEHOLDER.prepare)({"reflections": jnp.asarray(v)})
    kernel = np.asarray(prepared["kernel"])
    product = np.eye(channels)
    for row in v / np.linalg.norm(v, axis=1, keepdims=True):
        product = product @ (np.eye(channels) - 2 * np.outer(row, row))
    np.testing.assert_allclose(kernel, product, atol=1e-12)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(channels), atol=1e-12)
    np.testing.assert_array_equal(prepared["inverse"], kernel.T)
    assert prepared["logdet"] == 0


@pytest.mark.usefixtures("float64")
def test_householder_mixes_from_the_start_and_stays_orthogonal_after_a_step():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 6)))
    params = HOUSEHOLDER.init(jax.random.key(0), x)
    prepare = jax.jit(HOUSEHOLDER.prepare)
    assert np.max(np.abs(prepare(params)["kernel"])) < 0.95  # no channel passes through by itself
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(HOUSEHOLDER.forward(p, x)[0]))))(params)
    assert np.all(np.any(np.asarray(gradient["reflections"]) != 0, axis=1))
    kernel = prepare(jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient))["kernel"]
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(6), atol=1e-12)


def test_an_unknown_parametrization_is_named():
    with pytest.raises(ValueError, match=r"parametrization must be one of .*householder.*; got 'qr'"):
        fg.invertible_conv(parametrization="qr")


def test_haar_is_orthonormal_and_the_averages_come_first():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 6, 2)), jnp.float32)
    z, _ = fg.haar().forward({}, x)
    assert z.shape == (3, 2, 3, 8)
    np.testing.assert_allclose(jnp.sum(z**2, axis=(1, 2, 3)), jnp.sum(x**2, axis=(1, 2, 3)), rtol=1e-5)
    averages = np.asarray(x).reshape(3, 2, 2, 3, 2, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(z[..., :2], 2 * averages, atol=1e-6)


@pytest.mark.parametrize(
    ("block", "bands"),
    [
        ([[1, 1], [1, 1]], [2, 0, 0, 0]),
        ([[1, -1], [1, -1]], [0, 2, 0, 0]),
        ([[1, 1], [-1, -1]], [0, 0, 2, 0]),
        ([[1, -1], [-1, 1]], [0, 0, 0, 2]),
    ],
)
def test_each_band_of_haar_answers_to_its_own_pattern(block, bands):
    x = jnp.asarray(block, jnp.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(fg.haar().forward({}, x)[0].ravel(), bands)


def test_permute_is_the_permutation_given():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(fg.permute([2, 0, 1]).forward({}, x)[0], x[:, [2, 0, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fg.permute([0, 2]), r"each of 0, ..., n - 1 once; got \[0, 2\]"),
        (lambda: fg.permute((1, 1, 0)), r"once; got \(1, 1, 0\)"),
        (lambda: fg.permute([1, 0]).forward({}, jnp.zeros((1, 3))), "channels must be 2; got 3"),
        (lambda: fg.haar().forward({}, jnp.zeros((1, 3, 2, 1))), "must be even; got 3x2"),
        (lambda: fg.haar().forward({}, jnp.zeros((1, 4))), r"x must be images.*; got shape \(1, 4\)"),
        (lambda: fg.haar().inverse({}, jnp.zeros((1, 2, 2, 6))), "a multiple of 4; got 6"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
