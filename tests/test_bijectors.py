"""Every bijector and every model keeps the contract: the library's checker, over the whole table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, batch, function
from test_combine import unstacked

import flowjax_glow as fg
from flowjax_glow.models import MODELS
from flowjax_glow.testing import check_bijector, flat, perturb

KEY = jax.random.key(0)


def constructors() -> set[str]:
    """The names of all public functions that make a bijector or a model."""
    public = filter(callable, (getattr(fg, name) for name in fg.__all__))
    rooms = ("flowjax_glow.bijectors.", "flowjax_glow.combine")
    made = {f.__name__ for f in public if f.__module__.startswith(rooms)}
    return {*made, *MODELS}


def test_every_bijector_and_every_model_is_in_the_table():
    assert constructors() <= {function(name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_it_keeps_its_promises(name):
    case = CASES[name]
    x, cond = batch(case, "float32")
    check_bijector(case.bijector, x, cond, tolerance=case.tolerance, float32_value=case.float32)


def _keeps_shape(case):
    x, cond = batch(case, "float32")
    params = jax.eval_shape(case.bijector.init, KEY, x, cond)
    z, _ = jax.eval_shape(case.bijector.forward, params, x, cond)
    return jax.tree.map(jnp.shape, z) == x.shape and case.draw is None


# Models are made of repeats, and repeat has itself in the table.
@pytest.mark.parametrize(
    "name", [n for n in CASES if function(n) not in MODELS and _keeps_shape(CASES[n])]
)
def test_repeat_is_a_chain_with_the_params_unstacked(name):
    case = CASES[name]
    x, cond = batch(case, "float32")
    repeated, chained = fg.repeat(case.bijector, 2), fg.chain(case.bijector, case.bijector)
    params = perturb(jax.jit(repeated.init)(KEY, x, cond))
    z, logdet = jax.jit(repeated.forward)(params, x, cond)
    expected, expected_logdet = jax.jit(chained.forward)(unstacked(params, 2), x, cond)
    np.testing.assert_allclose(flat(z), flat(expected), rtol=0, atol=2 * case.float32)
    np.testing.assert_allclose(logdet, expected_logdet, rtol=0, atol=1e-5 * x[0].size)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.cond is not None])
def test_a_missing_cond_is_named_before_anything_compiles(name):
    case = CASES[name]
    x, cond = batch(case, "float32")
    params = jax.eval_shape(case.bijector.init, KEY, x, cond)
    for fn, first in ((case.bijector.init, KEY), (case.bijector.forward, params)):
        with pytest.raises(ValueError, match=r"cond|labels"):
            jax.eval_shape(fn, first, x)


@pytest.mark.parametrize("name", ["flow_plus_plus", "glow", "jet", "real_nvp", "tarflow"])
def test_a_model_of_images_refuses_vectors(name):
    with pytest.raises(
        ValueError, match=r"event_shape must be \(height, width, channels\); got \(6,\)"
    ):
        MODELS[name]((6,))


X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
_actnorm = fg.actnorm()


def _with_logdet(change):
    """actnorm with its logdet changed in both directions alike, so that they agree with each other."""

    def mapped(fn, sign):
        def run(params, x, cond=None, key=None):
            value, logdet = fn(params, x, cond, key)
            return value, sign * change(sign * logdet)

        return run

    return _actnorm._replace(
        forward=mapped(_actnorm.forward, 1.0), inverse=mapped(_actnorm.inverse, -1.0)
    )


def _impure_init():
    count = iter(range(100))

    def init(key, x, cond=None):
        params = _actnorm.init(key, x, cond)
        return jax.pure_callback(
            lambda p: jax.tree.map(lambda a: np.asarray(a + next(count), a.dtype), p), params, params
        )

    return _actnorm._replace(init=init)


def _leaks_between_examples():
    def forward(params, x, cond=None, key=None):
        del params, cond, key
        return x + jax.lax.stop_gradient(jnp.mean(x, 0, keepdims=True)), jnp.zeros(len(x), x.dtype)

    def inverse(params, z, cond=None, key=None):
        del params, cond, key
        return z - jax.lax.stop_gradient(jnp.mean(z, 0, keepdims=True)) / 2, jnp.zeros(len(z), z.dtype)

    return fg.Bijector(lambda *_: {}, forward, inverse)


@pytest.mark.parametrize(
    ("bijector", "message"),
    [
        (_with_logdet(lambda ld: ld + 1e-6), "logdet of forward against its Jacobian's: off by 1e-06"),
        (_with_logdet(lambda ld: -ld), "logdet of forward against its Jacobian's"),
        (_with_logdet(lambda ld: jnp.sum(ld)), r"one number an example: shape \(\), expected \(3,\)"),
        (_with_logdet(lambda ld: jnp.full_like(ld, jnp.nan)), "one number an example: off by nan"),
        (_actnorm._replace(inverse=_actnorm.forward), r"inverse\(forward\(x\)\) against x: off by"),
        (_actnorm._replace(stochastic=True), "depends on the key"),
        (
            _actnorm._replace(prepare=lambda p: jax.tree.map(jnp.exp, p)),
            "prepare, which adds nothing, but changes params",
        ),
        (_impure_init(), "init called twice"),
        (_leaks_between_examples(), "forward of each example alone, by vmap, against the batch"),
        (
            _actnorm._replace(
                inverse_and_vjp=lambda p, z, c, k, zb, lb: (  # noqa: ARG005
                    _actnorm.inverse(p, z)[0],
                    zb,
                    jax.tree.map(jnp.zeros_like, p),
                    None,
                )
            ),
            "inverse_and_vjp, the cotangent of x",
        ),
    ],
)
def test_the_checker_notices(bijector, message):
    with pytest.raises(AssertionError, match=message):
        check_bijector(bijector, X)


def test_the_checker_reports_and_wants_two_examples():
    report = check_bijector(fg.actnorm(), X)
    assert 0 < report.round_trip_error < 1e-9
    assert report.standard_error == 0
    with pytest.raises(ValueError, match="at least 2 examples; got 1"):
        check_bijector(fg.actnorm(), X[:1])
