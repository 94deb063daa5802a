"""Residual bijectors contract for certain, invert to a tolerance or say so, and estimate unbiased."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import flowjax_glow as fg
from flowjax_glow.nets.lipschitz import LipschitzNet, conv_norm_bound, norm_bound

KEY = jax.random.key(0)
mlp = partial(LipschitzNet, width=8, kernels=(1, 1))


def _normal(*shape, seed=0, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), jnp.result_type(float))


def _grown(bijector, x, factor, cond=None):
    """Params whose kernels have grown, as by training, so that every layer is at its largest norm."""
    params = jax.jit(bijector.init)(KEY, x, cond)
    return jax.tree.map(lambda p: factor * p if p.ndim > 1 else p, params)


def _conv_norm(kernel, height, width):
    """The norm of the zero-padded convolution as a matrix, one pixel of the input after the other."""
    channels, features = kernel.shape[2:]
    out = np.zeros((height, width, channels, height + 2, width + 2, features))
    for i, j in np.ndindex(height, width):
        out[i, j, :, i : i + 3, j : j + 3] = np.flip(kernel, (0, 1)).transpose(2, 0, 1, 3)
    matrix = out[..., 1:-1, 1:-1, :].reshape(height * width * channels, -1)
    return np.linalg.norm(matrix, 2)


def _torus_norm(kernel, height, width):
    symbols = np.fft.fft2(kernel, (height, width), axes=(0, 1))
    return np.linalg.norm(symbols, 2, axis=(2, 3)).max()


@pytest.mark.parametrize("spectrum", ["random", "flat", "one direction"])
@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (32, 32)])
def test_the_bound_of_a_matrix_is_above_its_norm_and_near(shape, spectrum):
    w = np.random.default_rng(0).normal(size=shape)
    if spectrum == "flat":
        u, _, v = np.linalg.svd(w, full_matrices=False)
        w = u @ v
    elif spectrum == "one direction":
        w = 1e-3 * w + 1e3 * np.ones(shape)
    norm = np.linalg.norm(w, 2)
    bound = norm_bound(jnp.asarray(w, jnp.float32))
    assert norm * (1 - 1e-6) <= bound <= norm * min(shape) ** (1 / 256) * (1 + 1e-6)


@pytest.mark.parametrize(("channels", "features"), [(2, 7), (7, 2)])
@pytest.mark.parametrize("size", [(5, 4), (6, 7)])
@pytest.mark.parametrize("blur", [False, True])
def test_the_bound_of_a_convolution_is_above_its_norm_and_near(channels, features, size, blur):
    kernel = np.random.default_rng(0).normal(size=(3, 3, channels, features))
    if blur:
        kernel = 0.1 * kernel + np.ones_like(kernel)
    norm, torus = _conv_norm(kernel, *size), _torus_norm(kernel, size[0] + 1, size[1] + 1)
    bound = conv_norm_bound(jnp.asarray(kernel, jnp.float32), *size)
    assert max(norm, torus) * (1 - 1e-6) <= bound <= torus * 2 ** (1 / 256) * (1 + 1e-6)
    # Of a kernel of ones the torus has 9, and 5x4 has (1 + 2 cos(pi / 6)) (1 + 2 cos(pi / 5)) = 7.15.
    assert bound <= 1.3 * norm


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", [(4, 6), (3, 3, 2, 5)])
def test_the_bound_has_the_gradient_of_its_own_value(shape):
    bound = norm_bound if len(shape) == 2 else partial(conv_norm_bound, height=4, width=5)
    w, direction = _normal(*shape), _normal(*shape, seed=1)
    bound, gradient = jax.jit(bound), jax.jit(jax.grad(bound))
    slope = jnp.sum(gradient(w) * direction)
    step = 1e-6
    difference = (bound(w + step * direction) - bound(w - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)
    assert np.all(np.isfinite(gradient(jnp.zeros(shape))))


@pytest.mark.parametrize(
    ("kernels", "event_shape", "coefficient"),
    [((1, 1, 1), (6,), 0.98), ((3, 1, 3), (5, 6, 2), 0.9), ((3, 3), (4, 4, 3), 0.7)],
)
def test_the_net_contracts_whatever_its_weights(kernels, event_shape, coefficient):
    net = LipschitzNet(event_shape[-1], width=8, kernels=kernels, coefficient=coefficient)
    x = jnp.abs(_normal(8, *event_shape, scale=10.0))
    params = jax.jit(net.init)(KEY, x)["params"]
    # Positive weights all stretch one direction the most, so that the layers' norms multiply, and the
    # activation's slope is 1 / 1.1 at most of what comes.
    params = jax.tree.map(lambda p: 50 * jnp.abs(p) if p.ndim > 1 else p, params)

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    @partial(jax.jacfwd, argnums=1)
    def jacobian(params, x):
        weights = net.contract(params, event_shape)
        return net.apply({"params": weights}, x[None])[0].ravel()

    jacobians = np.asarray(jacobian(params, x)).reshape(len(x), x[0].size, x[0].size)
    largest = np.linalg.norm(jacobians, 2, axis=(1, 2)).max()
    assert 0.3 * coefficient ** len(kernels) < largest <= coefficient ** len(kernels)


def test_small_weights_stay_as_they_are():
    net = mlp(4)
    params = jax.tree.map(lambda p: 0.1 * p, net.init(KEY, jnp.zeros((1, 4)))["params"])
    contracted = jax.jit(net.contract, static_argnums=1)(params, (4,))
    assert all(map(np.array_equal, jax.tree.leaves(params), jax.tree.leaves(contracted)))


def test_gradients_are_finite_at_extreme_inputs():
    bijector = fg.residual(mlp)
    x = jnp.asarray([[1e4, -1e4, 0.0], [1e-30, -1e-30, 1.0]])
    params = _grown(bijector, x, 20.0)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def gradient(params, x):
        z, logdet = bijector.forward(params, x)
        return jnp.sum(z) + jnp.sum(logdet)

    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient(params, x)))


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_the_inverse_is_as_near_as_the_tolerance_says(tolerance):
    """At coefficient 0.7 and two layers, the error of x is at most 1 / (1 - 0.49) times that of z."""
    bijector = fg.residual(partial(mlp, coefficient=0.7), tolerance=tolerance)
    z = _normal(16, 6, scale=5.0)
    params = _grown(bijector, z, 20.0)
    x, _ = jax.jit(bijector.inverse)(params, z)
    again, _ = jax.jit(bijector.forward)(params, x)
    scale = np.maximum(1, np.abs(z).max(1))
    error = np.abs(again - z).max(1) / scale
    assert tolerance / 100 < error.max() <= tolerance + 1e-6
    exact, _ = jax.jit(fg.residual(partial(mlp, coefficient=0.7), tolerance=1e-6).inverse)(params, z)
    assert np.linalg.norm(x - exact, axis=1).max() <= 6**0.5 * tolerance * scale.max() / (1 - 0.49)


def test_an_example_that_does_not_converge_is_nan_and_the_others_are_not():
    x = jnp.concatenate([jnp.zeros((1, 6)), _normal(2, 6, scale=5.0), jnp.full((1, 6), jnp.nan)])
    params = _grown(fg.residual(mlp), x[:3], 20.0)
    # A bias that is zero at the input makes 0 its own image, found at the first look.
    params = jax.tree.map(lambda p: p if p.ndim > 1 else 0 * p, params)

    def nans(max_iterations):
        inverse = jax.jit(fg.residual(mlp, max_iterations=max_iterations).inverse)
        return np.isnan(inverse(params, x)[0]).any(1)

    np.testing.assert_array_equal(nans(2), [0, 1, 1, 1])
    np.testing.assert_array_equal(nans(500), [0, 0, 0, 1])


class _Triple(nn.Module):
    """No contraction."""

    out_channels: int

    @nn.compact
    def __call__(self, h, cond=None, deterministic=True):
        del cond, deterministic
        return 3 * h + self.param("bias", nn.initializers.ones, (1, self.out_channels), h.dtype)

    @nn.nowrap
    def contract(self, params, event_shape):
        del event_shape
        return params


def test_what_is_no_contraction_gives_nan():
    bijector = fg.residual(_Triple)
    x = _normal(2, 3)
    params = bijector.init(KEY, x)
    assert np.all(np.isnan(jax.jit(bijector.inverse)(params, 4 * x + 1)[0]))


@pytest.mark.usefixtures("float64")
def test_the_inverse_has_the_gradient_of_the_implicit_function():
    bijector = fg.residual(partial(mlp, cond_channels=2), tolerance=1e-13)
    z, cond = _normal(3, 4), _normal(3, 2, seed=1)
    params = _grown(bijector, z, 3.0, cond)
    direction = jax.tree.map(lambda p: _normal(*p.shape, seed=2), (params, cond))

    @jax.jit
    def inverse(step):
        moved = jax.tree.map(lambda p, d: p + step * d, (params, cond), direction)
        x, logdet = bijector.inverse(moved[0], z, moved[1])
        return jnp.sum(jnp.sin(x)) + jnp.sum(logdet)

    step = 1e-5
    difference = (inverse(step) - inverse(-step)) / (2 * step)
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(mode(inverse)(0.0), difference, rtol=1e-7)


@pytest.mark.parametrize(("terms", "exact_terms"), [("geometric", 0), ("poisson", 2)])
def test_the_estimate_and_its_gradient_are_unbiased(terms, exact_terms):
    """Within 4 standard errors of the exact ones, every entry of the gradient of params, x and cond.

    At coefficient 0.7 and two layers: the geometric terms' variance is finite where the Lipschitz
    constant is below 0.7.
    """
    kwargs = {"logdet": "estimate", "terms": terms, "exact_terms": exact_terms}
    bijector = fg.residual(partial(mlp, width=4, coefficient=0.7, cond_channels=1), **kwargs)
    x, cond = _normal(2, 3), _normal(2, 1, seed=1)
    params = _grown(bijector, x, 5.0, cond)

    def logdet(params, x, cond, key):
        return jnp.sum(bijector.forward(params, x, cond, key)[1])

    both = jax.value_and_grad(logdet, argnums=(0, 1, 2))
    exact = jax.jit(both)(params, x, cond, None)
    keys = jax.random.split(KEY, 4000)
    draws = jax.jit(lambda keys: jax.lax.map(lambda k: both(params, x, cond, k), keys, batch_size=500))
    for truth, drawn in zip(jax.tree.leaves(exact), jax.tree.leaves(draws(keys)), strict=True):
        standard_error = np.std(drawn, 0) / len(keys) ** 0.5
        assert np.max(standard_error) < 0.1
        error = np.abs(np.mean(drawn, 0) - truth)
        np.testing.assert_array_less(error, 4 * standard_error + 1e-5)


def test_estimate_log_prob_has_the_error_it_says():
    flow = fg.residual_flow((3,), depth=2, width=6, coefficient=0.7)
    x = _normal(5, 3)
    params = _grown(flow.bijector, x, 3.0)
    exact = jax.jit(partial(fg.log_prob, flow))(params, x)
    estimate = jax.jit(partial(fg.estimate_log_prob, flow, draws=1000))(params, x, KEY)
    assert np.all(estimate.standard_error > 1e-4)
    np.testing.assert_array_less(np.abs(estimate.mean - exact), 4 * estimate.standard_error)
    exactly = fg.residual_flow((3,), depth=2, width=6, coefficient=0.7, logdet="exact")
    same = jax.jit(partial(fg.estimate_log_prob, exactly, draws=2))(params, x, KEY)
    np.testing.assert_allclose(same.mean, exact, rtol=1e-6)
    assert not np.any(same.standard_error)
    with pytest.raises(ValueError, match="draws must be at least 2; got 1"):
        fg.estimate_log_prob(flow, params, x, KEY, 1)


def test_constant_memory_has_the_gradients_of_stored():
    x = _normal(4, 3)

    def gradient(memory):
        bijector = fg.repeat(fg.residual(mlp), 3, memory=memory)
        params = _grown(bijector, x, 2.0)

        def loss(params):
            z, logdet = bijector.forward(params, x)
            return jnp.mean(z**2) - jnp.mean(logdet)

        return jax.jit(jax.grad(loss))(params)

    stored, constant = map(jax.tree.leaves, (gradient("stored"), gradient("constant")))
    for a, b in zip(stored, constant, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * max(1, np.abs(a).max()))


def test_trained_parameters_of_the_cifar10_model():
    flow = fg.residual_flow((32, 32, 3))
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(flow.bijector.init, KEY, x, None)
    # Two parameters a block, of the distributions of the number of terms, are numbers here.
    assert fg.count_parameters(params) + 2 * (3 * 16 + 4) == 25_174_233


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.residual(mlp, logdet="trace"), "logdet must be .* got 'trace'"),
        (lambda: fg.residual(mlp, terms="uniform"), "terms must be .* got 'uniform'"),
        (lambda: fg.residual(mlp, exact_terms=-1), "exact_terms must be at least 0; got -1"),
        (lambda: fg.residual(mlp, max_iterations=0), "max_iterations must be at least 1; got 0"),
        (lambda: fg.residual(mlp, tolerance=0.0), "tolerance must be positive; got 0.0"),
        (lambda: _init(kernels=(5,)), r"kernels must be of size 1 or 3; got \(5,\)"),
        (lambda: _init(kernels=(3, 1)), r"kernel of size 3 needs .* got shape \(2, 3\)"),
        (lambda: _init(coefficient=1.0), r"coefficient must be in \(0, 1\); got 1.0"),
        (lambda: _init(cond_channels=2), "needs cond; got None"),
        (lambda: fg.residual_flow((6, 6, 1)), r"divisible by 2\^\(levels - 1\) = 4; got \(6, 6, 1\)"),
        (lambda: fg.residual_flow((6, 6)), r"event_shape must be .* got \(6, 6\)"),
        (lambda: fg.residual_flow((6,), depth=0), "depth must be at least 1; got 0"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _init(**kwargs):
    fg.residual(partial(LipschitzNet, **{"kernels": (1,), **kwargs})).init(KEY, jnp.zeros((2, 3)))
