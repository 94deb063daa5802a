"""The ELBO is a bound that can be reached, log Z is the integral, errors are what they say."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import perturb
from PIL import Image

import flowjax_glow as fg
from flowjax_glow.energies import ENERGIES, log_partition_on_grid
from flowjax_glow.models.planar_flow import planar_flow
from flowjax_glow.variational import elbo, fit, log_partition, sample_and_log_prob

KEY = jax.random.key(0)
FLOW = planar_flow((2,), depth=8)
GAUSSIAN = fg.Flow(fg.chain(fg.actnorm(), fg.invertible_conv()), fg.standard_normal(), (2,))


def _start(flow, scale=0.3):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(16, 2)), jnp.float32)
    return perturb(fg.init(flow, KEY, x), scale=scale)


def _gaussian(x):
    """3 times a normal density with correlated entries: log Z = log 3."""
    a, b = (x[:, 0] - 1) / 2, (x[:, 1] + 0.5 * x[:, 0]) / 0.7
    return jnp.log(3.0) - 0.5 * (a**2 + b**2) - jnp.log(2 * jnp.pi * 2 * 0.7)


@functools.cache
def _fitted(name, steps=1000):
    """A rough fit: its gap, its errors and its weights are far from zero."""
    flow, target = (GAUSSIAN, _gaussian) if name == "gaussian" else (FLOW, ENERGIES[name])
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integer counts with floats
        params, bounds = fit(
            flow,
            _start(flow),
            target,
            KEY,
            steps=steps,
            optimizer=optax.adam(optax.cosine_decay_schedule(0.03, steps)),
            warm_up=steps // 2,
        )
    return flow, target, params, bounds


def test_a_gaussian_target_is_reached():
    flow, target, params, bounds = _fitted("gaussian")
    assert bounds.shape == (1000,)
    bound = elbo(flow, params, target, KEY, 1000)
    estimate = log_partition(flow, params, target, KEY, 1000)
    np.testing.assert_allclose(bound.mean, np.log(3), atol=2e-3)
    np.testing.assert_allclose(estimate.log_z, np.log(3), atol=2e-3)
    assert estimate.effective_samples > 999
    assert 0 < bound.standard_error < 1e-3  # where q is the target every draw has the same weight


@pytest.mark.parametrize("name", ENERGIES)
def test_the_elbo_is_below_log_z_and_log_z_is_the_integral(name):
    flow, target, params, bounds = _fitted(name)
    true = float(log_partition_on_grid(target, points=400))
    bound, estimate = jax.jit(
        lambda params: [
            estimator(flow, params, target, KEY, 20_000) for estimator in (elbo, log_partition)
        ]
    )(params)
    assert true - 1.0 < bound.mean < true + 4 * bound.standard_error
    assert bound.mean > np.mean(bounds[:10]) + 0.5
    assert abs(estimate.log_z - true) < 4 * estimate.standard_error + 1e-3
    assert 1 < estimate.effective_samples < 20_000


def test_standard_errors_are_the_deviation_of_repeated_estimates():
    flow, target, params, _ = _fitted("gaussian")
    keys = jax.random.split(KEY, 400)
    for estimator in (elbo, log_partition):
        # Narrower than the flow: the weights are bounded.
        run = jax.vmap(lambda k, f=estimator: f(flow, params, lambda x: 2 * target(x), k, 300)[:2])
        values, errors = (np.asarray(a, np.float64) for a in jax.jit(run)(keys))
        assert np.std(values) == pytest.approx(np.mean(errors), rel=0.15)  # 4 errors of it are 0.14


@pytest.mark.usefixtures("float64")
def test_draws_come_with_their_density_and_no_equation_is_solved_for_it():
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), _fitted("U2")[2])
    draw = functools.partial(sample_and_log_prob, FLOW, params, KEY, 5)
    x, log_prob = draw()
    np.testing.assert_allclose(fg.log_prob(FLOW, params, x), log_prob, atol=1e-9)
    assert "while" in str(jax.make_jaxpr(lambda: fg.log_prob(FLOW, params, x))())
    assert "while" not in str(jax.make_jaxpr(draw)())


@pytest.mark.parametrize(
    ("name", "integral"), [("U1", 6.5372), ("U2", 8.5239), ("U3", 14.9168), ("U4", 15.9822)]
)
@pytest.mark.usefixtures("float64")
def test_the_energies_are_those_of_table_1(name, integral):
    """Against the printed formulas inside the walls; the integral as first computed."""
    x = np.random.default_rng(0).uniform(-4, 4, size=(50, 2))
    z1, z2 = x.T

    def squared(value, scale):
        return 0.5 * (value / scale) ** 2

    w1, w2 = np.sin(2 * np.pi * z1 / 4), 3 * np.exp(-squared(z1 - 1, 0.6))
    w3 = 3 / (1 + np.exp(-(z1 - 1) / 0.3))
    energies = {
        "U1": squared(np.hypot(z1, z2) - 2, 0.4)
        - np.log(np.exp(-squared(z1 - 2, 0.6)) + np.exp(-squared(z1 + 2, 0.6))),
        "U2": squared(z2 - w1, 0.4),
        "U3": -np.log(np.exp(-squared(z2 - w1, 0.35)) + np.exp(-squared(z2 - w1 + w2, 0.35))),
        "U4": -np.log(np.exp(-squared(z2 - w1, 0.4)) + np.exp(-squared(z2 - w1 + w3, 0.35))),
    }
    log_density = jax.jit(ENERGIES[name])
    np.testing.assert_allclose(log_density(jnp.asarray(x)), -energies[name], rtol=1e-9)
    np.testing.assert_allclose(np.exp(log_partition_on_grid(log_density)), integral, rtol=1e-4)
    assert np.all(log_density(jnp.asarray([[8.0, 0.0], [-8.0, 0.0]])) < -80)


def test_the_command_draws_the_picture(tmp_path):
    out = tmp_path / "energies.png"
    done = subprocess.run(
        [sys.executable, "-m", "experiments.energies", "--steps=3", "--depth=2", f"--out={out}"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ELBO") == 4
    picture = np.asarray(Image.open(out).convert("L"))
    assert picture.shape[1] > picture.shape[0] > 100
    assert picture.std() > 10
