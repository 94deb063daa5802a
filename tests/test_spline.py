"""What the table of bijectors does not say of the spline coupling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import mlp

import flowjax_glow as fg
from flowjax_glow.bijectors.spline import _bin, _evaluate

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def test_it_starts_as_the_identity():
    spline, x = fg.spline_coupling(mlp), jnp.asarray(RNG.normal(0, 3, (64, 6)), jnp.float32)
    z, logdet = spline.forward(spline.init(KEY, x), x)
    np.testing.assert_allclose(z, x, atol=2e-6)
    np.testing.assert_allclose(logdet, 0, atol=1e-5)


def test_it_is_the_identity_outside_its_bound_and_meets_it_with_slope_1():
    bound, bins = 2.0, 5
    h = jnp.asarray(RNG.normal(size=(3 * bins - 1,)), jnp.float32)
    x = jnp.array([-bound, bound])
    z, log_slope = _evaluate(b := _bin(jnp.stack([h, h]), x, bins, bound, of="x"), (x - b.x) / b.width)
    np.testing.assert_allclose(z, x, atol=1e-5)
    np.testing.assert_allclose(log_slope, 0, atol=1e-5)

    spline = fg.spline_coupling(mlp, bins=bins, bound=bound)
    far = jnp.asarray(bound + 10 * RNG.random((4, 6)), jnp.float32)
    params = jax.tree.map(lambda p: p + 0.5, spline.init(KEY, far))
    z, logdet = spline.forward(params, far)
    np.testing.assert_array_equal(z, far)
    np.testing.assert_array_equal(logdet, 0)


def test_the_curve_rises_through_its_knots():
    bins, bound = 6, 3.0
    h = jnp.asarray(RNG.normal(0, 2, (1, 3 * bins - 1)), jnp.float32)
    x = jnp.linspace(-bound, bound, 500)
    h = jnp.broadcast_to(h, (500, h.shape[1]))

    def curve(x):
        b = _bin(h, x, bins, bound, of="x")
        return _evaluate(b, (x - b.x) / b.width)

    (z, log_slope), (slope, _) = jax.jvp(curve, (x,), (jnp.ones_like(x),))
    assert np.all(np.diff(z) > 0)
    np.testing.assert_allclose(log_slope, np.log(slope), atol=1e-3)
    b = _bin(h, x, bins, bound, of="x")
    for t, corner in ((0.0, b.y), (1.0, b.y + b.height)):
        np.testing.assert_allclose(_evaluate(b, jnp.full_like(x, t))[0], corner, atol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"bins": 1}, "bins must be at least 2 .* got 1"),
        ({"bound": 0.0}, "bound must be positive; got 0"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fg.spline_coupling(mlp, **kwargs)
