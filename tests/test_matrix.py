"""Inverses and determinants without LAPACK, against LAPACK's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax_glow.bijectors.matrix import inverse_and_logdet, inverse_triangular


def _matrices(n):
    rng = np.random.default_rng(n)
    rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return {
        "rotation": rotation,
        "normal": rng.normal(size=(n, n)),
        "needs pivots": np.eye(n)[rng.permutation(n)] * rng.uniform(0.5, 2.0, size=(n, 1)),
        "small": 0.1 * rotation,
        "graded": np.diag(np.logspace(-3, 3, n)) @ rotation,
    }


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("n", [1, 2, 7, 48])
@pytest.mark.parametrize("kind", _matrices(1))
def test_inverse_and_logdet_are_lapacks(n, kind):
    w = _matrices(n)[kind]
    inverse, logdet = jax.jit(inverse_and_logdet)(jnp.asarray(w))
    scale = np.abs(np.linalg.inv(w)).max()
    np.testing.assert_allclose(inverse, np.linalg.inv(w), rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(logdet, np.linalg.slogdet(w)[1], rtol=0, atol=1e-11)


def test_float32_inverse_is_accurate_to_float32():
    w = jnp.asarray(_matrices(48)["rotation"], jnp.float32)
    inverse, logdet = jax.jit(inverse_and_logdet)(w)
    exact = np.linalg.inv(np.asarray(w, np.float64))
    # Products of 48 terms, each rounded to 2^-24 of its size.
    np.testing.assert_allclose(inverse, exact, rtol=0, atol=2e-6)
    np.testing.assert_allclose(logdet, np.linalg.slogdet(w)[1], rtol=0, atol=5e-6)


@pytest.mark.usefixtures("float64")
def test_derivatives_are_those_of_lapacks_functions():
    w = jnp.asarray(_matrices(5)["normal"])
    weights = jnp.asarray(_matrices(5)["rotation"])

    def ours(w):
        inverse, logdet = inverse_and_logdet(w)
        return jnp.sum(weights * inverse**2) + logdet**2

    def lapacks(w):
        return jnp.sum(weights * jnp.linalg.inv(w) ** 2) + jnp.linalg.slogdet(w)[1] ** 2

    np.testing.assert_allclose(jax.grad(ours)(w), jax.grad(lapacks)(w), rtol=1e-9)
    np.testing.assert_allclose(jax.hessian(ours)(w), jax.hessian(lapacks)(w), rtol=1e-7, atol=1e-7)


def test_a_singular_matrix_is_not_silently_inverted():
    inverse, logdet = inverse_and_logdet(jnp.ones((3, 3)))
    assert not np.isfinite(inverse).all()
    assert not np.isfinite(logdet)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("n", [1, 2, 3, 24])
def test_triangular_inverse(n):
    m = np.tril(np.random.default_rng(n).normal(size=(n, n)), -1) / np.sqrt(n) + np.eye(n)
    np.testing.assert_allclose(inverse_triangular(jnp.asarray(m)), np.linalg.inv(m), atol=1e-12)
