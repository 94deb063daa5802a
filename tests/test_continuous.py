"""The continuous flow solves its equation: values, log-determinants and gradients that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import flowjax_glow as fg

KEY = jax.random.key(0)


class Growth(nn.Module):
    """f(x, t) = 2 t a x, for an a of each channel: z = exp(a) x, logdet = sum(a)."""

    out_channels: int

    @nn.compact
    def __call__(self, h, cond=None, deterministic=True):
        del cond, deterministic
        x, t = h[..., :-1], h[..., -1:]
        a = self.param("a", nn.initializers.normal(), (self.out_channels,), h.dtype)
        return 2 * t * x * a.reshape((1,) * (x.ndim - 1) + a.shape)


class Linear(nn.Module):
    """f(x, t) = x A, with an A that does not commute with its transpose."""

    out_channels: int

    @nn.compact
    def __call__(self, h, cond=None, deterministic=True):
        del cond, deterministic
        return nn.Dense(self.out_channels, use_bias=False, param_dtype=h.dtype)(h[..., :-1])


def _x(*shape, dtype="float64"):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)


@pytest.mark.parametrize("event", [(3,), (2, 2, 3)])
@pytest.mark.usefixtures("float64")
def test_a_known_solution_with_its_log_determinant_and_gradient(event):
    bijector = fg.continuous(Growth, rtol=1e-9, atol=1e-9)
    x, params = _x(4, *event), {"a": jnp.array([0.5, -1.0, 0.2])}
    positions = np.prod(event) / 3

    def both(params):
        z, logdet = bijector.forward(params, x)
        return jnp.sum(logdet) + jnp.sum(z), (z, logdet)

    gradient, (z, logdet) = jax.jit(jax.grad(both, has_aux=True))(params)
    expected = np.exp(np.asarray(params["a"])) * np.asarray(x)
    np.testing.assert_allclose(z, expected, atol=1e-7)
    np.testing.assert_allclose(logdet, np.full(4, positions * np.sum(params["a"])), atol=1e-7)
    by_a = 4 * positions + np.sum(expected, axis=tuple(range(x.ndim - 1)))
    np.testing.assert_allclose(gradient["a"], by_a, rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_the_estimate_is_one_quadratic_form_for_the_whole_solve():
    bijector = fg.continuous(Linear, trace="estimate", rtol=1e-9, atol=1e-9)
    x = _x(64, 2)
    params = bijector.init(KEY, x)
    a = np.asarray(params["Dense_0"]["kernel"])
    logdet = np.asarray(jax.jit(bijector.forward)(params, x, None, KEY)[1])
    # e^T A e of two signs: the trace, plus or minus what is beside the diagonal.
    off = a[0, 1] + a[1, 0]
    sides = [np.isclose(logdet, np.trace(a) + sign * off, atol=1e-7) for sign in (1, -1)]
    assert np.all(sides[0] | sides[1])
    assert 16 < np.sum(sides[0]) < 48  # examples have signs of their own


def test_a_solve_without_end_is_nan():
    bijector = fg.continuous(Growth)
    x = _x(2, 1, dtype="float32")
    z, logdet = jax.jit(bijector.forward)({"a": jnp.array([-1e6])}, x)
    assert np.all(np.isnan(z))
    assert np.all(np.isnan(logdet))


def test_ffjord_starts_at_the_identity_with_the_parameters_of_its_layers():
    flow = fg.ffjord((2,))
    x = _x(2, 2, dtype="float32")
    params = fg.init(flow, KEY, x)
    # A layer has a kernel, and four numbers an output: bias, gate's kernel and bias, shift.
    layers = [(2, 64), (64, 64), (64, 64), (64, 2)]
    assert fg.count_parameters(params) == sum(i * o + 4 * o for i, o in layers) == 9224
    np.testing.assert_allclose(jax.jit(flow.bijector.forward)(params, x)[0], x, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.continuous(Growth, trace="guess"), "trace must be one of .* got 'guess'"),
        (lambda: fg.continuous(Growth, rtol=0.0), "must be positive; got 0.0 and 1e-05"),
        (lambda: fg.ffjord((2, 2, 1)), r"event_shape must be \(dim,\); got \(2, 2, 1\)"),
        (lambda: fg.ffjord((2,), depth=0), "depth must be at least 1; got 0"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_missing_cond_is_named():
    flow = fg.ffjord((2,), cond_channels=3)
    with pytest.raises(ValueError, match="needs cond; got None"):
        fg.init(flow, KEY, _x(2, 2, dtype="float32"))
