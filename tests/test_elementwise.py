"""Element-wise bijectors at the ends of their domains, where the formulas alone would not hold."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax_glow as fg

PIXELS = fg.logit(low=-0.5, high=0.5)  # of what dequantize returns


def _forward(bijector, x):
    return bijector.forward({}, x)


def _inverse(bijector, z):
    return bijector.inverse({}, z)


@pytest.mark.usefixtures("float64")
def test_logit_is_the_formula_of_real_nvp():
    x = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 0.5, size=(4, 3, 2)))
    z, logdet = _forward(PIXELS, x)
    p = 0.05 + 0.9 * (np.asarray(x) + 0.5)
    np.testing.assert_allclose(z, np.log(p) - np.log(1 - p), rtol=1e-12)
    np.testing.assert_allclose(logdet, np.sum(np.log(0.9 / (p * (1 - p))), axis=(1, 2)), rtol=1e-12)


def test_logit_is_finite_at_the_ends_and_a_rounding_beyond_them_with_finite_gradients():
    ends = jnp.asarray([[-0.5, 0.5, -0.500001, 0.500001]])
    z, logdet = _forward(PIXELS, ends)
    np.testing.assert_allclose(z, [[-2.9444, 2.9444, -2.9444, 2.9444]], rtol=1e-4)
    assert np.isfinite(logdet).all()
    np.testing.assert_allclose(_inverse(PIXELS, z)[0], ends, atol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(_forward(PIXELS, x)[0]) + jnp.sum(_forward(PIXELS, x)[1]))
    assert np.isfinite(gradient(ends)).all()


def test_logit_without_margin_goes_to_infinity_and_keeps_what_lies_next_to_the_ends():
    bijector = fg.logit(margin=0.0)
    z, logdet = _forward(bijector, jnp.asarray([[0.0], [1.0]]))
    np.testing.assert_array_equal(z, [[-np.inf], [np.inf]])
    np.testing.assert_array_equal(logdet, [np.inf, np.inf])
    near = jnp.asarray([[1e-30, 1 - 2**-24, 2**-24]])
    np.testing.assert_allclose(_inverse(bijector, _forward(bijector, near)[0])[0], near, rtol=1e-5)


def test_sigmoid_is_the_inverse_of_logit():
    x = jnp.linspace(-20.0, 20.0, 9)[None]
    z, logdet = _forward(fg.invert(fg.logit(margin=0.0)), x)
    np.testing.assert_allclose(z, jax.nn.sigmoid(x), rtol=1e-5)
    expected = jnp.sum(jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x), axis=1)
    np.testing.assert_allclose(logdet, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("bijector", "x"),
    [
        (fg.softplus(), [-80.0, -20.0, 0.0, 20.0, 1e4]),
        (fg.leaky_relu(), [-1e4, -1e-4, 0.0, 1.0, 1e4]),
        (fg.leaky_tanh(), [-1e4, -3.0, -2.9, 0.0, 3.0, 1e4]),
    ],
    ids=["softplus", "leaky_relu", "leaky_tanh"],
)
def test_extreme_numbers_come_back_in_float32_with_finite_gradients(bijector, x):
    x = jnp.asarray([x])
    z, logdet = _forward(bijector, x)
    back, inverse_logdet = _inverse(bijector, z)
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inverse_logdet, -logdet, rtol=1e-5)
    for fn, value in ((_forward, x), (_inverse, z)):
        gradient = jax.grad(lambda v, fn=fn: sum(jnp.sum(out) for out in fn(bijector, v)))(value)
        assert np.isfinite(gradient).all()


def test_leaky_tanh_is_tanh_inside_and_its_tangents_outside():
    x = jnp.asarray([[-5.0, -1.0, 0.5, 2.0, 5.0]])
    z, _ = _forward(fg.leaky_tanh(bound=2.0), x)
    slope = 1 - np.tanh(2.0) ** 2
    expected = [-np.tanh(2.0) - 3 * slope, np.tanh(-1.0), np.tanh(0.5), np.tanh(2.0)]
    np.testing.assert_allclose(z, [[*expected, np.tanh(2.0) + 3 * slope]], rtol=1e-6)


def test_scale_starts_at_one_and_has_a_factor_for_each_number():
    x = jnp.ones((2, 3, 4))
    params = fg.scale().init(jax.random.key(0), x)
    assert params["log_scale"].shape == (3, 4)
    np.testing.assert_array_equal(fg.scale().forward(params, x)[0], x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(fg.logit, margin=0.5), r"margin must be in \[0, 0.5\); got 0.5"),
        (partial(fg.logit, low=1.0), "low must be below high; got 1.0 and 1.0"),
        (partial(fg.leaky_relu, slope=0.0), "slope must be positive; got 0.0"),
        (partial(fg.leaky_tanh, bound=-1.0), "bound must be positive; got -1.0"),
        (partial(fg.reshape, (2, 3), (5,)), r"the same size; got \(2, 3\) and \(5,\)"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_reshape_names_an_event_of_another_shape():
    with pytest.raises(ValueError, match=r"expected \(batch, \*\(2, 3\)\); got shape \(4, 3, 2\)"):
        _forward(fg.reshape((2, 3), (6,)), jnp.zeros((4, 3, 2)))
