"""Combinators do what one would do by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import conv_net, perturb

import flowjax_glow as fg
from flowjax_glow.nets.convnet import ConvNet

X = jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, size=(16, 4, 4, 4)), jnp.float32)
KEY = jax.random.key(0)
step = fg.chain(fg.actnorm(), fg.shuffle(), fg.affine_coupling(conv_net))


def unstacked(params, depth):
    """The params of a repeat as those of a chain."""
    return tuple(jax.tree.map(lambda p, i=i: p[i], params) for i in range(depth))


def test_chain_applies_each_and_adds_logdets():
    bijectors = fg.actnorm(), fg.reverse(), fg.invertible_conv()
    chained = fg.chain(*bijectors)
    params = chained.init(KEY, X)
    z, total = X, 0.0
    for bijector, p in zip(bijectors, params, strict=True):
        z, logdet = bijector.forward(p, z)
        total = total + logdet
    actual_z, actual_logdet = chained.forward(params, X)
    np.testing.assert_array_equal(actual_z, z)
    np.testing.assert_array_equal(actual_logdet, total)


@pytest.mark.parametrize("memory", ["stored", "recompute", "constant"])
def test_every_memory_mode_has_the_gradients_of_the_chain(memory):
    depth = 3
    repeated, chained = fg.repeat(step, depth, memory=memory), fg.chain(*[step] * depth)
    trained, constants = fg.split_trainable(perturb(jax.jit(repeated.init)(KEY, X)))

    def loss(bijector, unstack, trained):
        params = fg.merge_trainable(trained, constants)
        if unstack:
            params = unstacked(params, depth)
        z, logdet = bijector.forward(params, X)
        return jnp.mean(z**2) + jnp.mean(logdet)

    actual = jax.jit(jax.grad(partial(loss, repeated, False)))(trained)
    expected = jax.jit(jax.grad(partial(loss, chained, True)))(trained)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), actual, expected)


def test_every_depth_of_a_repeat_is_initialised_on_the_data_it_sees():
    depth = 3
    params = jax.jit(fg.repeat(step, depth).init)(KEY, X)
    x = X
    for i, key in enumerate(jax.random.split(KEY, depth)):
        by_hand = jax.jit(step.init)(key, x)
        at_depth = jax.tree.map(lambda p, i=i: p[i], params)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), at_depth, by_hand)
        x, _ = jax.jit(step.forward)(by_hand, x)


def test_after_init_every_channel_has_mean_0_and_variance_1():
    bijector = fg.chain(fg.squeeze(), fg.actnorm())
    z, _ = bijector.forward(bijector.init(KEY, X), X)
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(z.std((0, 1, 2)), 1, atol=1e-4)


def test_actnorm_of_a_constant_channel_stays_finite():
    params = fg.actnorm().init(KEY, jnp.full((8, 4), 3.0))
    z, logdet = fg.actnorm().forward(params, jnp.full((8, 4), 3.0))
    assert np.isfinite(z).all()
    assert np.isfinite(logdet).all()


def test_invert_swaps_the_directions():
    inverted = fg.invert(step)
    params = step.init(KEY, X)
    np.testing.assert_array_equal(inverted.forward(params, X)[0], step.inverse(params, X)[0])
    np.testing.assert_array_equal(inverted.inverse(params, X)[0], step.forward(params, X)[0])


def test_factor_out_lets_the_second_half_leave_and_keeps_every_latent():
    bijector = fg.factor_out(fg.chain(fg.squeeze(), fg.factor_out(fg.chain())))
    params = bijector.init(KEY, X)
    z, logdet = bijector.forward(params, X)
    assert [a.shape for a in z] == [(16, 4, 4, 2), (16, 2, 2, 4), (16, 2, 2, 4)]
    np.testing.assert_array_equal(z[0], X[..., 2:])
    np.testing.assert_array_equal(logdet, 0)
    np.testing.assert_array_equal(bijector.inverse(params, z)[0], X)


def test_the_same_key_gives_the_same_dropout_in_both_directions():
    net = partial(ConvNet, width=8, dropout=0.5)
    bijector = fg.repeat(fg.chain(fg.actnorm(), fg.affine_coupling(net), fg.reverse()), 3)
    params = perturb(jax.jit(bijector.init)(KEY, X), scale=0.03)
    forward, inverse = jax.jit(bijector.forward), jax.jit(bijector.inverse)
    z, _ = forward(params, X, None, jax.random.key(1))
    back, _ = inverse(params, z, None, jax.random.key(1))
    np.testing.assert_allclose(back, X, atol=1e-4)
    for other in (None, jax.random.key(2)):
        assert np.abs(forward(params, X, None, other)[0] - z).max() > 0.01


def test_split_trainable_sends_integers_to_the_constants_and_merges_back():
    params = jax.jit(fg.chain(fg.shuffle(), fg.invertible_conv(parametrization="plu")).init)(KEY, X)
    trained, constants = fg.split_trainable(params)
    assert all(jnp.issubdtype(p.dtype, jnp.floating) for p in jax.tree.leaves(trained))
    assert all(jnp.issubdtype(p.dtype, jnp.integer) for p in jax.tree.leaves(constants))
    assert len(jax.tree.leaves(constants)) == 3
    assert fg.count_parameters(params) == 16
    jax.tree.map(np.testing.assert_array_equal, fg.merge_trainable(trained, constants), params)


@pytest.mark.parametrize(
    ("make", "x", "message"),
    [
        (lambda: fg.repeat(fg.actnorm(), 0), X, "depth must be at least 1; got 0"),
        (lambda: fg.repeat(fg.actnorm(), 2, memory="none"), X, "memory must be .* got 'none'"),
        (lambda: fg.repeat(fg.squeeze(), 2), X, "keeps the shape"),
        (lambda: fg.squeeze(), X[:, :3], "height and width must be even; got 3x4"),
        (lambda: fg.squeeze(), X[0], "batch, height, width, channels"),
        (lambda: fg.factor_out(fg.actnorm()), X[..., :3], "channels must be even; got 3"),
        (lambda: fg.additive_coupling(conv_net), X[..., :3], "channels must be even; got 3"),
        (lambda: fg.affine_coupling(conv_net, scale="relu"), X, "scale must be .* got 'relu'"),
        (lambda: fg.invertible_conv(parametrization="qr"), X, "parametrization must be .* got 'qr'"),
    ],
)
def test_mistakes_are_named(make, x, message):
    def use():
        bijector = make()
        bijector.forward(bijector.init(KEY, x), x)

    with pytest.raises(ValueError, match=message):
        use()
