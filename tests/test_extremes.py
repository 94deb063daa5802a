"""Gradients stay finite where a network or the data go to extremes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import flowjax_glow as fg
from flowjax_glow.nets.convnet import ConvNet

KEY = jax.random.key(0)


class Extreme(nn.Module):
    """A conditioner whose outputs are +-1e4, or a mix of these and 0, with a bias to differentiate."""

    out_channels: int
    signs: tuple[int, ...] = (1, -1, 0)

    @nn.compact
    def __call__(self, h, cond=None, deterministic=True):
        del cond, deterministic
        bias = self.param("bias", nn.initializers.zeros, (self.out_channels,), h.dtype)
        pattern = jnp.asarray(np.resize(1e4 * np.array(self.signs), self.out_channels), h.dtype)
        out = jnp.broadcast_to(pattern + bias, (*h.shape[:-1], self.out_channels))
        return out + 0.1 * jnp.sum(h, axis=-1, keepdims=True)


COUPLINGS = {
    "additive": fg.additive_coupling,
    "affine, sigmoid": fg.affine_coupling,
    "affine, double_sigmoid": partial(fg.affine_coupling, scale="double_sigmoid"),
    "affine, bounded": partial(fg.affine_coupling, scale="bounded"),
    "affine, exp": partial(fg.affine_coupling, scale="exp"),
    "spline": fg.spline_coupling,
    "mixture": fg.mixture_coupling,
    "learned_prior": fg.learned_prior,
}


def assert_finite_gradients(bijector, params, x):
    """Of log p by params and by x, and the value itself."""
    flow = fg.Flow(bijector, fg.standard_normal(), x.shape[1:])

    @partial(jax.value_and_grad, argnums=(0, 1), allow_int=True)
    def mean_log_prob(params, x):
        return jnp.mean(fg.log_prob(flow, params, x))

    value, gradients = jax.jit(mean_log_prob)(params, x)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(gradients):
        assert leaf.dtype == jax.dtypes.float0 or np.isfinite(leaf).all()


@pytest.mark.parametrize("signs", [(1,), (-1,), (1, -1, 0)], ids=str)
@pytest.mark.parametrize("name", COUPLINGS)
def test_a_coupling_whose_network_returns_ten_thousand(name, signs):
    bijector = COUPLINGS[name](partial(Extreme, signs=signs))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    assert_finite_gradients(bijector, bijector.init(KEY, x), x)


@pytest.mark.parametrize("transform", [fg.affine_autoregressive, fg.spline_autoregressive])
@pytest.mark.parametrize("signs", [(1,), (-1,), (1, -1, 0)], ids=str)
def test_an_autoregressive_bijector_whose_network_returns_ten_thousand(transform, signs):
    class Constant(Extreme):
        def __call__(self, h, cond=None, deterministic=True):  # depends on no entry
            return super().__call__(jnp.zeros_like(h), cond, deterministic)

    bijector = transform(partial(Constant, signs=signs))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    assert_finite_gradients(bijector, bijector.init(KEY, x), x)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
@pytest.mark.parametrize(
    "make",
    [
        lambda: fg.actnorm(),
        lambda: fg.batch_norm(),
        lambda: fg.repeat(fg.chain(fg.actnorm(), fg.affine_coupling(partial(ConvNet, width=4))), 2),
    ],
    ids=["actnorm", "batch_norm", "a step of Glow"],
)
def test_constant_channels(make, value):
    x = jnp.full((4, 4, 4, 2), value).at[..., 1].set(jax.random.normal(KEY, (4, 4, 4)))
    bijector = make()
    assert_finite_gradients(bijector, jax.jit(bijector.init)(KEY, x), x)


@pytest.mark.parametrize("channels", [48, 96])
def test_a_kernel_that_shrinks(channels):
    """The determinant of 0.1 I is 1e-48 or 1e-96: it has to be a logarithm from the start."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, channels)), jnp.float32)
    conv = fg.invertible_conv()
    params = {"kernel": 0.1 * jnp.eye(channels)}
    assert_finite_gradients(conv, params, x)
    logdet = jax.jit(conv.forward)(params, x)[1]
    np.testing.assert_allclose(logdet, channels * np.log(0.1), rtol=1e-5)
    back, _ = jax.jit(conv.inverse)(params, conv.forward(params, x)[0])
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-5)
