"""The scalar solver converges to the dtype's resolution, and its derivatives are the implicit ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax_glow.bijectors.solve import solve_increasing

# Each with its slope, and an interval to draw x from: gentle, steep, flat somewhere, saturating.
FUNCTIONS = {
    "linear": (lambda x: 3 * x - 1, 50.0),
    "cubic": (lambda x: x**3 + 1e-3 * x, 20.0),
    "exp": (jnp.exp, 12.0),
    "steps": (lambda x: x + 0.999 * jnp.sin(x), 100.0),
    "cliff": (lambda x: jnp.tanh(300 * (x - 0.3)) + 0.01 * x, 10.0),
    "logistic": (jax.nn.sigmoid, 6.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bracket", [False, True])
def test_it_converges_to_the_resolution_of_the_dtype(name, dtype, bracket):
    fn, reach = FUNCTIONS[name]
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).uniform(-reach, reach, size=(7, 11)), dtype)
        y, slope = jax.jvp(fn, (x,), (jnp.ones_like(x),))
        ends = (-reach, reach) if bracket else ()
        found = jax.jit(lambda y: solve_increasing(fn, y, *ends))(y)
    assert found.dtype == dtype
    x, y, slope, found = (np.asarray(a, np.float64) for a in (x, y, slope, found))
    # x is as sure as fn's value is: some roundings of it and of its terms, divided by the slope.
    eps = np.finfo(dtype).eps
    size = np.maximum(np.maximum(np.abs(y), np.abs(x)), 1) * np.maximum(slope, 1)
    allowed = eps * (4 * size / slope + 2 * np.abs(x) + 2)
    np.testing.assert_array_less(np.abs(found - x), allowed)


def _cubic(a, x):
    return a * x + x**3


def _find(a, y):
    return solve_increasing(lambda x: _cubic(a, x), y)


@pytest.mark.usefixtures("float64")
def test_derivatives_in_both_modes_and_twice():
    rng = np.random.default_rng(0)
    a, y = jnp.asarray(rng.uniform(0.5, 2, size=5)), jnp.asarray(rng.normal(size=5))
    x = _find(a, y)
    slope = a + 3 * x**2
    for mode in (jax.jacfwd, jax.jacrev):
        by_a, by_y = jax.jit(mode(_find, argnums=(0, 1)))(a, y)
        np.testing.assert_allclose(by_y, np.diag(1 / slope), atol=1e-12)
        np.testing.assert_allclose(by_a, np.diag(-x / slope), atol=1e-12)

    second = jax.jit(jax.vmap(jax.grad(jax.grad(_find, argnums=1), argnums=1)))(a, y)
    np.testing.assert_allclose(second, -6 * x / slope**3, rtol=1e-9)


def test_vmap_is_the_batch_and_examples_do_not_wait_on_each_other():
    a, y = jnp.linspace(0.5, 2.0, 6), jnp.linspace(-1e4, 1e4, 6)
    alone = jnp.stack([_find(a[i], y[i]) for i in range(6)])
    np.testing.assert_allclose(jax.vmap(_find)(a, y), alone, rtol=1e-6)
    np.testing.assert_allclose(_find(a, y), alone, rtol=1e-6)


def test_newton_needs_few_evaluations():
    evaluations = []

    def fn(x):
        jax.debug.callback(lambda: evaluations.append(1))
        return x + 0.9 * jnp.tanh(x)

    y = jnp.linspace(-5, 5, 101)
    jax.block_until_ready(solve_increasing(fn, y, y - 1, y + 1))
    jax.effects_barrier()
    assert 3 <= len(evaluations) <= 12  # bisection alone takes 24


def test_where_there_is_no_root():
    y = jnp.asarray([-2.0, 0.5, 2.0, jnp.nan])
    np.testing.assert_allclose(
        solve_increasing(jnp.tanh, y), [np.nan, np.arctanh(0.5), np.nan, np.nan], rtol=1e-6
    )
    np.testing.assert_allclose(
        solve_increasing(jnp.tanh, y[:3], -3.0, 3.0), [-3.0, np.arctanh(0.5), 3.0], rtol=1e-5
    )
