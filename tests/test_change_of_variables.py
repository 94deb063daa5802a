"""The worked examples of the change of variables, and densities that integrate to one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import perturb

import flowjax_glow as fg
from flowjax_glow.nets.mlp import MLP

KEY = jax.random.key(0)


def _kernel(w):
    return {"kernel": jnp.asarray(w, jnp.float32)}


def test_a_linear_map_of_determinant_two():
    """f(z) = (z1 + z2, 2 z1), |det| = 2: the matrix [[1, 1], [2, 0]], rows by output."""
    params = _kernel([[1, 2], [1, 0]])
    z = jnp.array([[1.0, 2.0], [-3.0, 0.5]])
    y, logdet = fg.invertible_conv().forward(params, z)
    np.testing.assert_allclose(y, [[3.0, 2.0], [-2.5, -6.0]])
    np.testing.assert_allclose(logdet, np.log([2.0, 2.0]), rtol=1e-6)


def test_a_stretched_uniform_has_half_the_density():
    """z ~ U(0, 1), x = 2 z + 1: x has density 1/2 on (1, 3) and 0 elsewhere."""
    uniform = fg.Prior(
        log_prob=lambda z: jnp.where((z > 0) & (z < 1), 0.0, -jnp.inf)[:, 0],
        sample=lambda key, like, _: jax.random.uniform(key, like.shape, like.dtype),
    )
    # actnorm is z = (x + bias) * exp(3 log_scale): (x - 1) / 2.
    params = {"bias": jnp.array([-1.0]), "log_scale": jnp.array([-np.log(2.0) / 3], jnp.float32)}
    flow = fg.Flow(fg.actnorm(), uniform, (1,))
    density = jnp.exp(fg.log_prob(flow, params, jnp.array([[0.9], [1.1], [2.0], [2.9], [3.1]])))
    np.testing.assert_allclose(density, [0, 0.5, 0.5, 0.5, 0], rtol=1e-6)
    x = fg.sample(flow, params, KEY, 1000)
    assert 1 < x.min() < 1.02
    assert 2.98 < x.max() < 3


def test_a_permutation_matrix_as_kernel_permutes_the_channels():
    permutation = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    y, logdet = fg.invertible_conv().forward(_kernel(permutation), jnp.array([[[1.0, 2.0, 3.0]]]))
    np.testing.assert_array_equal(y, [[[3.0, 1.0, 2.0]]])
    np.testing.assert_allclose(logdet, 0, atol=1e-7)


@pytest.mark.parametrize("d", [1, 4])
def test_logdet_of_a_1x1_convolution_counts_every_position(d):
    w = np.random.default_rng(0).normal(size=(3, 3))
    _, logdet = fg.invertible_conv().forward(_kernel(w), jnp.ones((2, d, d, 3)))
    np.testing.assert_allclose(logdet, d * d * np.linalg.slogdet(w)[1], rtol=1e-5)


layer = fg.chain(fg.actnorm(), fg.invertible_conv(), fg.affine_coupling(partial(MLP, width=16)))
FLOWS = {
    "affine couplings": fg.Flow(fg.repeat(layer, 4), fg.standard_normal(), (2,)),
    "neural_spline_flow": fg.neural_spline_flow((2,), depth=2, width=16, blocks=1),
    "maf": fg.maf((2,), depth=3, width=16),
    "planar_flow": fg.planar_flow((2,), depth=4, explicit="density"),
    "residual_flow": fg.residual_flow((2,), depth=3, width=16, logdet="exact"),
    "mixture couplings, logistic prior": fg.Flow(
        fg.chain(
            fg.mixture_coupling(partial(MLP, width=16), components=4),
            fg.mixture_coupling(partial(MLP, width=16), components=4, flip=True),
        ),
        fg.standard_logistic(),
        (2,),
    ),
}


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.usefixtures("optimized")
def test_a_density_in_two_dimensions_integrates_to_one(name):
    flow = FLOWS[name]
    data = jax.random.normal(KEY, (256, 2)) @ jnp.array([[1.0, 0.8], [0.0, 0.5]])
    params = perturb(fg.init(flow, KEY, data), scale=0.05)

    reach = 20 if flow.prior.log_prob(jnp.full((1, 2), 9.0)) < -60 else 40
    side = np.linspace(-reach, reach, 1001, dtype=np.float32)
    grid = jnp.asarray(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2))
    density = np.exp(jax.jit(partial(fg.log_prob, flow))(params, grid))
    assert density.sum(dtype=np.float64) * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=1e-3)
    assert density.max() / density.mean() > 10  # it is no flat density that would sum to anything


def test_samples_follow_the_density():
    """The sample mean of log p is the negative entropy, which for an affine flow is known."""
    flow = fg.Flow(fg.chain(fg.actnorm(), fg.invertible_conv()), fg.standard_normal(), (2,))
    params = perturb(fg.init(flow, KEY, 3.0 * jax.random.normal(KEY, (256, 2))))
    x = fg.sample(flow, params, KEY, 20_000)
    lp = fg.log_prob(flow, params, x)
    logdet = flow.bijector.forward(params, x[:1])[1][0]
    negative_entropy = -(1 + np.log(2 * np.pi)) + logdet
    standard_error = np.std(lp) / np.sqrt(len(lp))
    assert abs(np.mean(lp) - negative_entropy) < 4 * standard_error
