"""Masked nets, the autoregressive bijectors on them, MAF and IAF: what the table does not say."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import made, perturb
from flax import linen as nn

import flowjax_glow as fg
from flowjax_glow.nets.masked import MADE

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
LAYERS = {
    "bounded": fg.affine_autoregressive(made),
    "exp": fg.affine_autoregressive(made, scale="exp"),
    "spline": fg.spline_autoregressive(made, bins=4),
}


def _normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("dim", "width", "kwargs"),
    [
        (1, 3, {}),
        (2, 1, {}),
        (5, 4, {}),
        (5, 11, {"depth": 3}),
        (6, 5, {"residual": True}),
        (1, 2, {"cond_channels": 2}),
        (5, 5, {"cond_channels": 3, "depth": 1}),
        (4, 9, {"cond_channels": 1, "residual": True}),
    ],
)
def test_an_output_depends_on_all_inputs_before_it_and_on_no_other(dim, width, kwargs):
    size, channels = 3, kwargs.get("cond_channels", 0)
    net: Any = MADE(size * dim, width, **kwargs)
    h, cond = jnp.ones((1, dim)), jnp.ones((1, channels)) if channels else None
    # Nothing cancels and every relu is open, so that a derivative is 0 only where there is no way.
    params = jax.tree.map(lambda p: jnp.abs(p) + 0.1, jax.jit(net.init)(KEY, h, cond)["params"])

    def outputs(h, cond):
        return net.apply({"params": params}, h[None], cond).reshape(dim, size)

    by_h, by_cond = jax.jit(jax.jacrev(outputs, argnums=(0, 1)))(h[0], cond)
    before = np.broadcast_to(np.tri(dim, k=-1, dtype=bool)[:, None, :], by_h.shape)
    np.testing.assert_array_equal(by_h > 0, before)
    np.testing.assert_array_equal(by_h[~before], 0)
    assert cond is None or np.all(np.asarray(by_cond) > 0)


def test_a_narrow_net_is_strictly_triangular_and_starts_at_zero_with_units_of_one_size():
    net, h = MADE(2 * 9, width=4), _normal(400, 9)
    variables: Any = jax.jit(net.init)(KEY, h)
    np.testing.assert_array_equal(net.apply(variables, h), 0)
    params = perturb(variables["params"], scale=1.0)

    def outputs(h):
        out: Any = net.apply({"params": params}, h[None])
        return out.reshape(9, 2).sum(1)

    jacobian = jax.jit(jax.jacrev(outputs))(h[0])
    np.testing.assert_array_equal(np.triu(jacobian), 0)

    first = MADE(2 * 50, width=490).init(KEY, _normal(2, 50))["params"]["MaskedDense_0"]
    kernel, seen = np.asarray(first["kernel"]), 1 + np.arange(490) * 49 // 490
    # A unit that sees 2 inputs starts as large as one that sees 49.
    for some in (seen <= 5, seen >= 45):
        visible = np.where(np.arange(50)[:, None] < seen, kernel, 0)[:, some]
        assert np.mean(np.sum(visible**2, 0)) == pytest.approx(1.0, rel=0.35)


def test_the_affine_layer_is_the_papers_and_its_inverse_the_loop_by_hand(float64):
    del float64
    x = jnp.asarray(RNG.normal(size=(5, 6)))
    layer = LAYERS["exp"]
    params = perturb(jax.jit(layer.init)(KEY, x), scale=0.4)

    def mu_and_alpha(x):
        out: Any = made(12).apply({"params": params}, jnp.asarray(x))
        h = np.asarray(out).reshape(5, 6, 2)
        return -h[..., 0], -h[..., 1]

    z, logdet = jax.jit(layer.forward)(params, x)
    mu, alpha = mu_and_alpha(x)
    np.testing.assert_allclose(z, (x - mu) * np.exp(-alpha), atol=1e-12)
    np.testing.assert_allclose(logdet, -alpha.sum(1), atol=1e-12)

    by_hand = np.zeros((5, 6))
    for i in range(6):
        mu, alpha = mu_and_alpha(by_hand)
        by_hand[:, i] = z[:, i] * np.exp(alpha[:, i]) + mu[:, i]
    back, _ = jax.jit(layer.inverse)(params, z)
    np.testing.assert_allclose(back, by_hand, atol=1e-12)
    np.testing.assert_allclose(back, x, atol=1e-12)


def test_the_inverse_is_as_long_a_program_for_any_number_of_entries():
    def program(dim):
        z = jnp.zeros((2, dim))
        params = jax.eval_shape(LAYERS["bounded"].init, KEY, z)
        return len(jax.make_jaxpr(LAYERS["bounded"].inverse)(params, z).jaxpr.eqns)

    assert program(40) == program(4)


def test_dropout_is_the_same_in_every_pass():
    layer = fg.affine_autoregressive(partial(made, dropout=0.5))
    x = _normal(8, 4)
    params = perturb(jax.jit(layer.init)(KEY, x), scale=0.4)
    z, logdet = jax.jit(layer.forward)(params, x, None, KEY)
    back, inverse_logdet = jax.jit(layer.inverse)(params, z, None, KEY)
    np.testing.assert_allclose(back, x, atol=1e-5)
    np.testing.assert_allclose(inverse_logdet, -logdet, atol=1e-5)
    assert np.abs(z - jax.jit(layer.forward)(params, x)[0]).max() > 1e-2


@pytest.mark.parametrize("name", ["bounded", "spline"])
def test_gradients_are_finite_where_the_net_gives_1e4(name):
    layer, x = LAYERS[name], _normal(4, 6)
    params: Any = perturb(jax.jit(layer.init)(KEY, x), scale=0.4)
    out = params["out"]
    signs = jnp.asarray(RNG.choice([-1.0, 1.0], out["bias"].shape), jnp.float32)
    params = {**params, "out": {**out, "bias": 1e4 * signs}}

    def loss(params, x):
        (z, logdet), (back, _) = layer.forward(params, x), layer.inverse(params, x)
        return jnp.sum(jnp.sin(z)) + jnp.sum(jnp.sin(back)) + jnp.sum(logdet)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_entries_not_yet_known_do_not_reach_the_gradient_of_the_inverse():
    class Steep(nn.Module):
        """exp(log_scale) overflows where the first entry is still 0, and is 1 where it is known."""

        out_channels: int

        @nn.compact
        def __call__(self, h, cond=None, deterministic=True):
            del cond, deterministic
            weight = self.param("weight", lambda _: jnp.full((), 200.0))
            second = weight * (h[:, 0] - 1)
            return jnp.stack([0 * second, 0 * second, 0 * second, second], axis=1)

    layer, z = fg.affine_autoregressive(Steep, scale="exp"), jnp.array([[1.0, 0.5]])
    params = layer.init(KEY, z)
    gradient = jax.grad(lambda p, z: jnp.sum(layer.inverse(p, z)[0]), argnums=(0, 1))(params, z)
    np.testing.assert_allclose(gradient[0]["weight"], 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient[1], [[1 - 200 * 0.5, 1.0]], rtol=1e-5)


def _size(flow):
    x = jax.ShapeDtypeStruct((2, *flow.event_shape), jnp.float32)
    return fg.count_parameters(jax.eval_shape(flow.bijector.init, KEY, x, None))


@pytest.mark.parametrize(
    ("flow", "parameters"),
    [
        # A layer of the released code has dim * width + width, width^2 + width, 2 (width * dim + dim)
        # and 2 dim parameters; the last are the normalisation's.
        (fg.maf((21,)), 1_477_540),  # HEPMASS
        (fg.maf((28, 28, 1), width=1024), 17_311_040),  # MNIST
        (fg.maf((28, 28, 1), width=1024, normalize=None), 17_303_200),
        (fg.iaf((21,)), 1_477_540),
    ],
)
def test_parameters(flow, parameters):
    assert _size(flow) == parameters


@pytest.mark.parametrize(
    "model", [fg.maf, partial(fg.maf, normalize="batch_norm"), fg.iaf], ids=["maf", "batch", "iaf"]
)
def test_a_model_starts_by_standardising_its_data(model):
    flow = model((3,), depth=2, width=4)
    x = _normal(200, 3) * jnp.array([[0.01, 1.0, 30.0]]) + 5.0
    z = np.asarray(jax.jit(partial(fg.encode, flow))(fg.init(flow, KEY, x), x))
    np.testing.assert_allclose(z.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-2)


@pytest.mark.parametrize("model", [fg.maf, fg.iaf])
def test_constant_memory_has_the_gradients_of_stored(model, float64):
    del float64
    x, gradients = jnp.asarray(RNG.normal(size=(6, 3))), []
    for memory in ("stored", "constant"):
        flow = model((3,), depth=2, width=5, hidden_layers=1, memory=memory)
        params = perturb(fg.init(flow, KEY, x), scale=0.2)

        def loss(params, x, flow=flow):
            return jnp.mean(fg.log_prob(flow, params, x))

        gradients.append(jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), *gradients)


@pytest.mark.usefixtures("optax_promotes")
def test_maf_learns_conditionals_of_a_curved_mean_and_a_varying_scale():
    def draw(key, n):
        e = jax.random.normal(key, (n, 2))
        return jnp.stack([e[:, 0], e[:, 0] ** 2 + jnp.exp(e[:, 0] / 2) * e[:, 1]], axis=1)

    flow = fg.maf((2,), depth=2, width=32, hidden_layers=1)
    params = fg.init(flow, KEY, draw(KEY, 500))
    optimizer = optax.adam(5e-3)

    def step(carry, key):
        params, state = carry
        x = draw(key, 256)
        gradient = jax.grad(lambda p: -jnp.mean(fg.log_prob(flow, p, x)))(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    train = jax.jit(lambda c: jax.lax.scan(step, c, jax.random.split(KEY, 400))[0])
    params, _ = train((params, optimizer.init(params)))
    nats = -jnp.mean(fg.log_prob(flow, params, draw(jax.random.key(1), 20_000)))
    entropy = np.log(2 * np.pi * np.e)  # the scale's mean log is 0
    assert nats == pytest.approx(entropy, abs=0.08)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LAYERS["exp"].init(KEY, jnp.ones((2, 4, 4, 1))),
            r"must be vectors, \(batch, dim\); .*4, 4, 1",
        ),
        (
            lambda: LAYERS["exp"].inverse({}, jnp.ones((2, 3, 1))),
            r"must be vectors, \(batch, dim\); .*2, 3, 1",
        ),
        (lambda: fg.affine_autoregressive(made, scale="cubic"), "scale must be .* got 'cubic'"),
        (lambda: fg.spline_autoregressive(made, bins=1), "bins must be .* got 1"),
        (lambda: MADE(7).init(KEY, jnp.ones((2, 3))), "multiple of dim = 3; got 7"),
        (lambda: MADE(6, depth=0).init(KEY, jnp.ones((2, 3))), "depth must be at least 1; got 0"),
        (lambda: MADE(6, cond_channels=2).init(KEY, jnp.ones((2, 3))), "needs cond; got None"),
        (
            lambda: MADE(6, cond_channels=2).init(KEY, jnp.ones((2, 3)), jnp.ones((2, 1))),
            r"cond must be \(2, 2\) .* got \(2, 1\)",
        ),
        (lambda: fg.maf((3,), transform="cubic"), "transform must be .* got 'cubic'"),
        (lambda: fg.maf((3,), normalize="layer"), "normalize must be .* got 'layer'"),
        (lambda: fg.iaf((3,), depth=0), "depth must be at least 1; got 0"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
