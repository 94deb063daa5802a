"""Planar, radial and Sylvester maps: published formulas, inverses at their limits, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import perturb

import flowjax_glow as fg
from flowjax_glow.bijectors import planar as planar_file
from flowjax_glow.bijectors import radial as radial_file
from flowjax_glow.bijectors import sylvester as sylvester_file
from flowjax_glow.bijectors.planar import planar
from flowjax_glow.bijectors.radial import radial
from flowjax_glow.bijectors.sylvester import sylvester
from flowjax_glow.models.planar_flow import planar_flow

BIJECTORS = {"planar": planar(), "radial": radial(), "sylvester": sylvester(3)}
DIM = 5


def _made(name, scale, dtype="float64"):
    """A batch, and params far from the identity."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, DIM)), dtype)
    return x, perturb(BIJECTORS[name].init(jax.random.key(0), x), scale=scale)


def _softplus(a):
    return np.log1p(np.exp(a))


def _planar(w, v, b, x):
    wv = w @ v
    u = v + (planar_file.MIN_SLOPE - 1 + _softplus(wv) - wv) * w / (w @ w)
    h = np.tanh(x @ w + b)
    return x + np.outer(h, u), np.log(1 + (1 - h**2) * (w @ u))


def _radial(center, alpha, gamma, x):
    alpha, gamma = (radial_file.MIN_DISTANCE + _softplus(a) for a in (alpha, gamma))
    beta, r = gamma - alpha, np.linalg.norm(x - center, axis=1)
    h, dh = 1 / (alpha + r), -1 / (alpha + r) ** 2
    slopes = (1 + beta * h), (1 + beta * h + beta * dh * r)
    return x + (x - center) * (beta * h)[:, None], (DIM - 1) * np.log(slopes[0]) + np.log(slopes[1])


def _sylvester(reflections, triangles, b, x):
    q = np.eye(DIM)
    for v in reflections:
        q = q @ (np.eye(DIM) - 2 * np.outer(v, v) / (v @ v))
    q = q[:, : len(b)]
    r, s = np.triu(triangles[:, 1:]), np.triu(triangles[:, :-1].T)
    for m in (r, s):
        np.fill_diagonal(m, sylvester_file.MAX_DIAGONAL * np.tanh(np.diag(m)))
    h = np.tanh(x @ q @ s.T + b)
    return x + h @ r.T @ q.T, np.sum(np.log(1 + np.diag(r) * np.diag(s) * (1 - h**2)), axis=1)


@pytest.mark.parametrize("name", BIJECTORS)
@pytest.mark.usefixtures("float64")
def test_forward_is_the_published_formula_and_inverse_its_inverse(name):
    bijector, (x, params) = BIJECTORS[name], _made(name, 2.0)
    z, logdet = jax.jit(bijector.forward)(params, x)
    published = {"planar": _planar, "radial": _radial, "sylvester": _sylvester}[name]
    expected, expected_logdet = published(
        **{k: np.asarray(p) for k, p in params.items()}, x=np.asarray(x)
    )
    assert np.abs(z - x).max() > 0.5
    np.testing.assert_allclose(z, expected, atol=1e-11)
    np.testing.assert_allclose(logdet, expected_logdet, atol=1e-11)
    back, inverse_logdet = jax.jit(bijector.inverse)(params, z)
    np.testing.assert_allclose(back, x, atol=1e-11)
    np.testing.assert_allclose(inverse_logdet, -logdet, atol=1e-10)


@pytest.mark.parametrize("name", BIJECTORS)
@pytest.mark.usefixtures("float64")
def test_the_gradient_of_the_inverse_is_exact(name):
    """inverse(params, forward(params, x)) is x for all params: a derivative that is 0."""
    bijector, (x, params) = BIJECTORS[name], _made(name, 1.0)

    def there_and_back(params):
        z, logdet = bijector.forward(params, x)
        back, inverse_logdet = bijector.inverse(params, z)
        weights = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
        return jnp.sum(weights * back), jnp.sum(weights[:, 0] * (logdet + inverse_logdet))

    def alone(params):
        return jnp.sum(bijector.inverse(params, x)[0] ** 2)

    gradients = jax.jit(jax.jacrev(there_and_back))(params)
    jax.tree.map(lambda g: np.testing.assert_allclose(g, 0, atol=1e-9), gradients)
    assert all(np.any(g) for g in jax.tree.leaves(jax.jit(jax.grad(alone))(params)))


@pytest.mark.parametrize("name", BIJECTORS)
def test_at_extremes_all_is_finite_and_the_inverse_is_there(name):
    bijector = BIJECTORS[name]
    x, params = _made(name, 1.0, "float32")
    x = x.at[0].set(params.get("center", x[0]))  # the radius there has no derivative

    @jax.jit
    def round_trip(params, x):
        z, logdet = bijector.forward(params, x)
        back, inverse_logdet = bijector.inverse(params, z)
        return jnp.sum(z**2) + jnp.sum(logdet) + jnp.sum(back**2) + jnp.sum(inverse_logdet)

    for size in (1.0, 1e2, 1e4, -1e4):
        scaled = jax.tree.map(lambda p, size=size: p * size, params)
        value, gradient = jax.value_and_grad(round_trip, argnums=(0, 1))(scaled, x)
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))


@pytest.mark.usefixtures("float64")
def test_the_steepest_squeeze_is_undone():
    """w.v far below 0: the slope is the least one, on the hyperplane itself."""
    params = {"w": jnp.array([3.0, 4.0]), "v": jnp.array([-30.0, -40.0]), "b": jnp.array(0.0)}
    x = jnp.linspace(-1, 1, 201)[:, None] * jnp.array([[3.0, 4.0]]) / 5
    z, logdet = planar().forward(params, x)
    np.testing.assert_allclose(np.exp(logdet[100]), planar_file.MIN_SLOPE, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(planar().inverse)(params, z)[0], x, atol=1e-12)


def test_every_map_starts_at_or_near_the_identity():
    for name, bijector in BIJECTORS.items():
        x, params = _made(name, 0.0, "float32")
        np.testing.assert_allclose(bijector.forward(params, x)[0], x, atol=0.1)


@pytest.mark.parametrize("explicit", ["sample", "density"])
def test_the_explicit_direction_of_a_planar_flow(explicit):
    flow = planar_flow((3,), depth=2, explicit=explicit)
    x = jnp.ones((4, 3))
    params = jax.eval_shape(flow.bijector.init, jax.random.key(0), x)
    assert fg.count_parameters(params) == 2 * 7
    maps = {"density": flow.bijector.forward, "sample": flow.bijector.inverse}
    solves = {name: "while" in str(jax.make_jaxpr(fn)(params, x)) for name, fn in maps.items()}
    assert solves == {name: name != explicit for name in maps}


@pytest.mark.parametrize(
    ("bijector", "shape", "message"),
    [
        (planar, (2, 3, 4), r"\(batch, dim\); got shape \(2, 3, 4\)"),
        (radial, (2, 3, 4), r"\(batch, dim\); got shape \(2, 3, 4\)"),
        (lambda: sylvester(2), (4,), r"\(batch, dim\); got shape \(4,\)"),
        (lambda: sylvester(4), (2, 3), "columns must be at most dim; got 4 columns, dim 3"),
        (lambda: sylvester(0), (2, 3), "columns must be at least 1; got 0"),
        (lambda: planar_flow((3, 3)).bijector, (2, 3, 3), r"must be \(dim,\); got \(3, 3\)"),
        (lambda: planar_flow((3,), explicit="both").bijector, (2, 3), "explicit must be .* got 'both'"),
        (lambda: planar_flow((3,), depth=0).bijector, (2, 3), "depth must be at least 1; got 0"),
    ],
)
def test_mistakes_are_named(bijector, shape, message):
    with pytest.raises(ValueError, match=message):
        bijector().init(jax.random.key(0), jnp.ones(shape))
