"""A number depends on the seed and the protocol: not on devices, batches or how samples are taken."""

import functools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import perturb
from jax.sharding import AxisType, Mesh
from scipy import stats

import flowjax_glow as fg
from flowjax_glow import evaluation, models
from flowjax_glow.data.split import Split
from flowjax_glow.evaluation import Likelihood, device_calls, likelihood
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.sharding import AXES, make_mesh

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SHAPE = (4, 4, 2)
IMAGES = Split(RNG.integers(17, size=(31, *SHAPE)).astype(np.uint8), np.zeros(31, np.int32))
VECTORS = Split(RNG.normal(size=(31, 3)).astype(np.float32), np.zeros(31, np.int32))


def on_images(dequantizer):
    flow = fg.glow(SHAPE, levels=1, depth=1, width=4)
    images = jnp.asarray(IMAGES.images)
    noise = perturb(dequantizer.init(KEY, images))
    x, _ = dequantizer.sample(noise, KEY, images)
    params = perturb(fg.init(flow, KEY, x))
    return partial(likelihood, flow, params, IMAGES, KEY, dequantizer=dequantizer, noise=noise)


@functools.cache
def uniform():
    return on_images(fg.uniform_dequantizer(n_bins=17))


@functools.cache
def learned():
    net = partial(MLP, width=4, depth=1, cond_channels=SHAPE[-1])
    return on_images(fg.variational_dequantizer(fg.affine_coupling(net), n_bins=17))


@functools.cache
def estimated():
    """A flow whose log-determinant is an estimate, on vectors."""
    flow = models.residual_flow((3,), depth=1, width=8, terms="geometric")
    params = perturb(fg.init(flow, KEY, jnp.asarray(VECTORS.examples)))
    nothing = fg.uniform_dequantizer(n_bins=None)
    return partial(likelihood, flow, params, VECTORS, KEY, dequantizer=nothing)


def mesh_of(devices):
    grid = np.array(jax.devices()[:devices]).reshape(-1, 1)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto, AxisType.Auto))


PROTOCOLS = [
    (uniform, {"draws": 2}),
    (uniform, {"importance": 3}),
    (learned, {"draws": 2}),
    (learned, {"importance": 3}),
    (estimated, {"draws": 2}),
]


def check_on_1_and_on(devices):
    for make, protocol in PROTOCOLS:
        run = partial(make(), batch_size=8, **protocol)
        one, many = (run(mesh=mesh_of(n)) for n in (1, devices))
        assert np.ptp(one.values) > 0.1
        np.testing.assert_allclose(many.values, one.values, rtol=1e-5, atol=1e-5)
        assert abs(many.mean - one.mean) < 1e-5


@pytest.mark.slow
def test_a_seed_gives_the_same_number_on_1_and_on_8_devices():
    code = "import test_evaluation as t; assert t.jax.device_count() == 8; t.check_on_1_and_on(8)"
    folder = Path(__file__).parent
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": "8",
        "PYTHONPATH": str(folder.parent),
    }
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True, timeout=200)


def test_a_seed_gives_the_same_number_in_batches_of_any_size():
    run = partial(estimated(), draws=2, mesh=make_mesh())
    small, large = run(batch_size=4), run(batch_size=64)
    np.testing.assert_allclose(small.values, large.values, rtol=1e-5, atol=1e-5)
    assert np.ptp(small.values[0] - small.values[1]) > 1e-3  # each example has an estimate of its own


def test_many_samples_are_taken_in_calls_and_are_one_bound(monkeypatch):
    monkeypatch.setattr(evaluation, "_MOST_SAMPLES", 5)
    run, mesh, told = uniform(), make_mesh(), []
    found = run(
        draws=2, importance=12, batch_size=20, mesh=mesh, report=lambda *args: told.append(args)
    )
    flow, params = run.args[:2]
    images = jnp.asarray(IMAGES.images)
    dequantizer = run.keywords["dequantizer"]

    @jax.jit
    def bound(key):
        return fg.importance_bound(flow, params, dequantizer, {}, images, key, samples=4).log_prob

    for draw in range(2):
        key = jax.random.fold_in(KEY, draw)
        bounds = [bound(jax.random.fold_in(key, call)) for call in range(3)]
        mean = jax.nn.logsumexp(jnp.stack(bounds), axis=0) - jnp.log(3.0)
        by_hand = fg.bits_per_dim(mean, SHAPE, n_bins=17)
        np.testing.assert_allclose(found.values[draw], by_hand, rtol=1e-5)

    calls = device_calls(31, draws=2, importance=12, batch_size=20, mesh=mesh)
    assert [done for done, _ in told] == list(range(1, calls + 1)) == list(range(1, 13))
    means = [mean for _, mean in told]
    assert means[:6] == [None] * 6
    assert means[6:] == [pytest.approx(found.values[:, :20].mean())] * 6


def test_memory_does_not_grow_with_the_samples():
    run = uniform()
    flow, params = run.args[:2]
    images = jnp.asarray(IMAGES.images)

    def temporaries(samples):
        def bound(params, images):
            dequantizer = run.keywords["dequantizer"]
            return fg.importance_bound(
                flow, params, dequantizer, {}, images, KEY, samples=samples
            ).log_prob

        memory = jax.jit(bound).lower(params, images).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    # The samples' numbers alone, where one sample of the images takes 4 KB.
    assert temporaries(1000) - temporaries(2) < 10_000


def test_standard_errors_over_examples_and_over_draws():
    values = RNG.normal(3.0, 0.1, size=(4, 50)).astype(np.float32)
    found = Likelihood(values)
    assert found.standard_error == pytest.approx(stats.sem(values.mean(0)))
    assert found.standard_error_of_draws == pytest.approx(stats.sem(values.mean(1)))
    assert Likelihood(values[:1]).standard_error_of_draws is None
    assert Likelihood(values[:, :1]).standard_error is None


@pytest.mark.parametrize(
    ("make", "importance", "message"),
    [
        (uniform, 0, "importance must be at least 1; got 0"),
        (estimated, 2, "importance must be 1 for vectors; got 2"),
    ],
)
def test_samples_that_make_no_bound_are_refused(make, importance, message):
    with pytest.raises(ValueError, match=message):
        make()(importance=importance, mesh=make_mesh())
