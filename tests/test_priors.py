"""Priors are the densities that they are named after, and sample them."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import flowjax_glow as fg
from flowjax_glow.nets.table import Table

KEY = jax.random.key(0)
MEANS = np.array([[-2.0, 0.0], [1.0, 1.0], [3.0, -1.0]])
SCALES, WEIGHTS = np.array([0.5, 1.0, 0.3]), np.array([1.0, 2.0, 1.0])
MIXTURE = fg.normal_mixture(MEANS, SCALES, WEIGHTS)


def _like(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(
    ("prior", "reference"),
    [
        (fg.standard_normal(), scipy.stats.norm()),
        (fg.standard_logistic(), scipy.stats.logistic()),
    ],
    ids=["normal", "logistic"],
)
def test_independent_priors(prior, reference):
    a, b = (np.random.default_rng(i).normal(scale=4, size=(3, 2, 5)) for i in range(2))
    got = prior.log_prob((jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)))
    np.testing.assert_allclose(
        got, np.sum(reference.logpdf(a) + reference.logpdf(b), (1, 2)), rtol=1e-5
    )
    # Two leaves, different draws; the temperature scales the deviation.
    draws = prior.sample(KEY, (_like(20_000), _like(20_000)), 0.5)
    for draw in draws:
        assert np.mean(draw) == pytest.approx(0, abs=0.03)
        assert np.std(draw) == pytest.approx(0.5 * reference.std(), rel=0.03)
        assert scipy.stats.kstest(np.asarray(draw) / 0.5, reference.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(*draws)[0, 1]) < 0.03


def test_the_logistic_is_finite_far_out_and_its_gradient_is_the_slope_of_its_tails():
    z = jnp.asarray([[-1e4], [0.0], [1e4]])
    log_prob = fg.standard_logistic().log_prob
    np.testing.assert_allclose(log_prob(z), [-1e4, -2 * math.log(2), -1e4], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda z: jnp.sum(log_prob(z)))(z), [[1.0], [0.0], [-1.0]])


def test_the_mixture_is_the_sum_of_its_components_far_out_too():
    z = np.concatenate([np.random.default_rng(0).normal(scale=3, size=(20, 2)), [[1e3, -1e3]]])
    logs = [
        math.log(w / 4) + scipy.stats.norm.logpdf(z, m, s).sum(axis=1)
        for m, s, w in zip(MEANS, SCALES, WEIGHTS, strict=True)
    ]
    expected = scipy.special.logsumexp(logs, axis=0)
    np.testing.assert_allclose(MIXTURE.log_prob(jnp.asarray(z, jnp.float32)), expected, rtol=1e-5)
    far = jnp.full((1, 2), 1e4)
    assert np.isfinite(jax.grad(lambda z: jnp.sum(MIXTURE.log_prob(z)))(far)).all()


def test_the_mixture_integrates_to_one():
    line = jnp.arange(-8.0, 8.0, 0.05)
    grid = jnp.stack(jnp.meshgrid(line, line), axis=-1).reshape(-1, 2)
    assert float(jnp.sum(jnp.exp(MIXTURE.log_prob(grid))) * 0.05**2) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_samples_of_the_mixture_have_its_moments(temperature):
    z = np.asarray(MIXTURE.sample(KEY, _like(40_000, 2), temperature))
    shares = WEIGHTS / WEIGHTS.sum()
    mean = shares @ MEANS
    within = shares @ (temperature * SCALES) ** 2
    covariance = (MEANS - mean).T @ np.diag(shares) @ (MEANS - mean) + within * np.eye(2)
    np.testing.assert_allclose(z.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(z.T), covariance, rtol=0.04, atol=0.03)


def test_a_flow_to_a_mixture_samples_vectors():
    flow = fg.Flow(fg.actnorm(), MIXTURE, (2,))
    params = fg.init(flow, KEY, jax.random.normal(KEY, (8, 2)))
    x = fg.sample(flow, params, KEY, 5)
    assert x.shape == (5, 2)
    assert fg.log_prob(flow, params, x).shape == (5,)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"got \(3, 2\), \(2,\) and \(3,\)"):
        fg.normal_mixture(MEANS, SCALES[:2], WEIGHTS)
    with pytest.raises(ValueError, match=r"got \(3, 2\), \(3,\) and \(1,\)"):
        fg.normal_mixture(MEANS, SCALES, [1.0])
    with pytest.raises(ValueError, match="must be positive"):
        fg.normal_mixture(MEANS, -SCALES)
    with pytest.raises(ValueError, match=r"\(batch, 2\); got z of shape \(4, 3\)"):
        MIXTURE.log_prob(jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"\(batch, 2\); got z of shape None"):
        MIXTURE.sample(KEY, (_like(4, 2), _like(4, 2)), 1.0)


def test_a_learned_diagonal_normal_is_a_table_of_one_row():
    bijector = fg.learned_prior(Table)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    params = bijector.init(KEY, x)
    mean, sd = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 3.0])
    assert params["rows"].shape == (1, 6)
    np.testing.assert_array_equal(bijector.forward(params, x)[0], x)
    params = {"rows": jnp.asarray([[*-mean, *-np.log(sd)]], jnp.float32)}
    flow = fg.Flow(bijector, fg.standard_normal(), (3,))
    expected = scipy.stats.norm.logpdf(x, mean, sd).sum(axis=1)
    np.testing.assert_allclose(fg.log_prob(flow, params, x), expected, rtol=1e-5)


def test_a_table_has_a_normal_for_each_class_and_wants_labels():
    bijector = fg.learned_prior(partial(Table, num_classes=3))
    flow = fg.Flow(bijector, fg.standard_normal(), (2,))
    params = {"rows": jnp.asarray([[*-m, 0.0, 0.0] for m in MEANS], jnp.float32)}
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)), jnp.float32)
    labels = np.array([2, 0, 2])
    assert jax.tree.map(jnp.shape, fg.init(flow, KEY, x, jnp.asarray(labels))) == {"rows": (3, 4)}
    expected = scipy.stats.norm.logpdf(x, MEANS[labels], 1.0).sum(axis=1)
    np.testing.assert_allclose(fg.log_prob(flow, params, x, jnp.asarray(labels)), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="3 classes needs cond, labels; got None"):
        fg.log_prob(flow, params, x)
