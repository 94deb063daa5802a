"""Every bijector is what it claims: invertible, with the log-determinant of its own Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BATCH, CASES, flat, make

# One worker runs all tests of a case, and compiles it once.
names = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in CASES]
)


def _log_abs_det(fn, value, cond):
    """log |det| of the autodiff Jacobian of fn at each example, each alone in its batch."""

    def one(v, c):
        def flattened(v):
            return flat(fn(jax.tree.map(lambda a: a[None], v), None if c is None else c[None]))[0]

        jacobian = jax.jacrev(flattened)(v)
        rows = flattened(v).size
        return flat(jax.tree.map(lambda j: j.reshape(rows, -1), jacobian))

    jacobians = jax.jit(jax.vmap(one))(value, cond)
    return np.linalg.slogdet(np.asarray(jacobians))[1]


@names
@pytest.mark.usefixtures("float64")
def test_logdet_is_that_of_the_jacobian(name):
    case = make(name, "float64")
    z, logdet = case.forward(case.params, case.x, case.cond)
    back, inverse_logdet = case.inverse(case.params, z, case.cond)
    assert logdet.shape == inverse_logdet.shape == (BATCH,)
    for fn, value, actual in (
        (case.forward, case.x, logdet),
        (case.inverse, z, inverse_logdet),
    ):
        expected = _log_abs_det(lambda v, c, fn=fn: fn(case.params, v, c)[0], value, case.cond)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(inverse_logdet, -logdet, rtol=0, atol=1e-9)

    np.testing.assert_allclose(back, case.x, rtol=0, atol=1e-9)
    there, _ = case.forward(case.params, back, case.cond)
    np.testing.assert_allclose(flat(there), flat(z), rtol=0, atol=1e-9)


@names
def test_float32_is_near_float64(name):
    case = make(name, "float32")
    z, logdet = case.forward(case.params, case.x, case.cond)
    back, _ = case.inverse(case.params, z, case.cond)
    assert logdet.dtype == back.dtype == jnp.float32
    with jax.enable_x64(True):
        params, x = jax.tree.map(_to_float64, (case.params, case.x))
        z64, logdet64 = case.forward(params, x, case.cond)
    # A few roundings of numbers up to about 10, each 2^-24 of its size, at every step of the chain.
    np.testing.assert_allclose(flat(z), flat(z64), rtol=0, atol=5e-5)
    np.testing.assert_allclose(back, case.x, rtol=0, atol=5e-5)
    np.testing.assert_allclose(logdet, logdet64, rtol=0, atol=1e-5 * x[0].size)


def _to_float64(leaf):
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


@names
def test_jit_is_eager_and_vmap_is_the_batch(name):
    bijector, case = CASES[name].bijector, make(name, "float32")
    z, logdet = case.forward(case.params, case.x, case.cond)
    one_each = jax.tree.map(lambda a: a[:, None], (case.x, case.cond))
    mapped = jax.jit(jax.vmap(lambda v, c: bijector.forward(case.params, v, c)))(*one_each)
    for other_z, other_logdet in (
        bijector.forward(case.params, case.x, case.cond),
        jax.tree.map(lambda a: a[:, 0], mapped),
    ):
        np.testing.assert_allclose(flat(other_z), flat(z), rtol=0, atol=5e-5)
        np.testing.assert_allclose(other_logdet, logdet, rtol=1e-5, atol=1e-4)


@names
def test_prepared_params_give_the_same_and_preparing_twice_changes_nothing(name):
    bijector, case = CASES[name].bijector, make(name, "float32")
    prepared = jax.jit(bijector.prepare)(case.params)
    jax.tree.map(np.testing.assert_array_equal, bijector.prepare(prepared), prepared)
    z, logdet = case.forward(prepared, case.x, case.cond)
    raw_z, raw_logdet = case.forward(case.params, case.x, case.cond)
    np.testing.assert_allclose(flat(z), flat(raw_z), rtol=0, atol=5e-5)
    np.testing.assert_allclose(logdet, raw_logdet, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(case.inverse(prepared, z, case.cond)[0], case.x, rtol=0, atol=5e-5)
