"""The mixture coupling against scipy's logistic, its inverse at either precision, and its extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import flowjax_glow as fg
from flowjax_glow.nets.gated_attention import GatedAttentionNet
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.nets.table import Table

K = 4
RNG = np.random.default_rng(0)


def _coupling(h):
    """The coupling of (batch, 2) that changes the second entry alike for all x, and its params."""
    coupling = fg.mixture_coupling(Table, components=K)
    params = coupling.init(jax.random.key(0), jnp.zeros((2, 2), h.dtype))
    (old,) = jax.tree.leaves(params)
    return coupling, jax.tree.map(lambda _: jnp.asarray(h).reshape(old.shape), params)


def _x(values, dtype):
    values = jnp.asarray(values, dtype)
    return jnp.stack([jnp.zeros_like(values), values], axis=1)


@pytest.mark.usefixtures("float64")
def test_forward_is_the_logit_of_scipys_mixture_scaled_and_shifted():
    s, t = 0.7, -0.4
    logits, mean, log_width = RNG.normal(size=(3, K))
    coupling, params = _coupling(np.concatenate([[s, t], logits, mean, log_width]))
    x = np.linspace(-4, 4, 41)
    z, logdet = coupling.forward(params, _x(x, jnp.float64))

    at, width, weight = x[:, None], np.exp(log_width), special.softmax(logits)
    cdf = stats.logistic.cdf(at, mean, width) @ weight
    pdf = stats.logistic.pdf(at, mean, width) @ weight
    np.testing.assert_allclose(z[:, 1], special.logit(cdf) * np.exp(np.tanh(s)) + t, rtol=1e-10)
    slope = pdf / (cdf * (1 - cdf)) * np.exp(np.tanh(s))
    np.testing.assert_allclose(logdet, np.log(slope), rtol=1e-9, atol=1e-12)
    assert not np.any(z[:, 0])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
def test_inverse_finds_x_far_out_and_between_narrow_components(dtype, tolerance):
    """Errors are those of one rounding of x, taken to z and back; so they are measured in z."""
    with jax.enable_x64(dtype == "float64"):
        mean, log_width = np.array([-3.0, -0.5, 0.2, 3.0]), np.array([-2.5, -9.0, 0.0, -2.5])
        h = np.concatenate([[0.3, 5.0], np.zeros(K), mean, log_width]).astype(dtype)
        coupling, params = _coupling(h)
        x = _x(np.concatenate([np.linspace(-6, 6, 97), [-1e4, -100.0, 100.0, 1e4]]), dtype)
        z, logdet = jax.jit(coupling.forward)(params, x)
        back, inverse_logdet = jax.jit(coupling.inverse)(params, z)
        size = 1 + np.abs(x[:, 1])
        again, _ = coupling.forward(params, back)
        assert np.max(np.abs(back - x)[:, 1] / size) < 10 * tolerance
        assert np.max(np.abs(again - z)[:, 1] / (1 + np.abs(z[:, 1]))) < tolerance
        np.testing.assert_allclose(inverse_logdet, -logdet, atol=100 * tolerance)


def test_zeros_are_the_identity():
    coupling, params = _coupling(np.zeros(2 + 3 * K, np.float32))
    x = _x([-30.0, -1.0, 0.0, 2.0, 1e3], jnp.float32)
    z, logdet = coupling.forward(params, x)
    np.testing.assert_allclose(z, x, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(logdet, 0.0, atol=1e-6)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_values_and_gradients_are_finite_whatever_the_net_returns(size):
    coupling, params = _coupling(np.zeros(2 + 3 * K, np.float32))
    h = jnp.asarray(size * RNG.choice([-1.0, 1.0], size=(32, 2 + 3 * K)), jnp.float32)
    x = _x([-1e4, -1.0, 0.0, 1.0, 1e4], jnp.float32)

    @jax.jit
    @jax.vmap
    def value_and_gradient(h):
        def loss(h, x):
            p = jax.tree.map(lambda a: h.reshape(a.shape), params)
            z, logdet = coupling.forward(p, x)
            return jnp.sum(jnp.tanh(z)) + jnp.sum(logdet), (z, coupling.inverse(p, z)[0])

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(h, x)

    for leaf in jax.tree.leaves(value_and_gradient(h)):
        assert np.all(np.isfinite(leaf))


@pytest.mark.usefixtures("float64")
def test_gradients_of_the_inverse_are_those_of_the_implicit_function():
    h = RNG.normal(size=2 + 3 * K)
    coupling, params = _coupling(h)
    z = _x([-2.0, 0.5, 3.0], jnp.float64)

    @jax.jit
    def inverse(h, z):
        return coupling.inverse(jax.tree.map(lambda a: h.reshape(a.shape), params), z)

    h, dh, dz = jnp.asarray(h), jnp.asarray(RNG.normal(size=h.shape)), _x(RNG.normal(size=3), "float64")
    step = 1e-5
    ahead, behind = inverse(h + step * dh, z + step * dz), inverse(h - step * dh, z - step * dz)
    _, tangents = jax.jvp(inverse, (h, z), (dh, dz))
    for a, b, tangent in zip(ahead, behind, tangents, strict=True):
        np.testing.assert_allclose((a - b) / (2 * step), tangent, rtol=1e-6, atol=1e-8)


def test_the_couplings_net_starts_small_and_its_dropout_follows_the_key():
    x = jnp.asarray(RNG.normal(size=(32, 4, 4, 2)), jnp.float32)
    net = GatedAttentionNet(5, width=8, blocks=2, heads=2, dropout=0.5)
    params = jax.jit(net.init)(jax.random.key(0), x)

    @jax.jit
    def out(key):
        rngs = {"dropout": key}
        return jnp.asarray(net.apply(params, x, None, deterministic=False, rngs=rngs))

    still = jnp.asarray(jax.jit(net.apply)(params, x))
    np.testing.assert_allclose(np.mean(still, (0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.std(still, (0, 1, 2)), 0.1, rtol=1e-4)
    one, same, other = (out(jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.max(np.abs(one - other)) > 0.01


def test_attention_sees_every_position_and_cond():
    x = jnp.asarray(RNG.normal(size=(4, 9, 2, 1)), jnp.float32)
    cond = jnp.asarray(RNG.normal(size=(4, 9, 2, 3)), jnp.float32)
    net = GatedAttentionNet(1, width=4, blocks=1, heads=2, cond_channels=3)
    params = jax.jit(net.init)(jax.random.key(0), x, cond)

    def corner(x, cond):
        return jnp.asarray(net.apply(params, x, cond))[0, 0, 0, 0]

    of_x, of_cond = jax.jit(jax.grad(corner, argnums=(0, 1)))(x, cond)
    assert np.all(of_x[0])
    assert np.all(np.any(of_cond[0], axis=-1))
    assert not np.any(of_x[1:])
    assert not np.any(of_cond[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.mixture_coupling(MLP, components=0), "components must be at least 1; got 0"),
        (lambda: fg.mixture_coupling(MLP, mask="rows"), "mask must be one of .* got 'rows'"),
        (lambda: fg.halves(fg.actnorm(), mask="rows"), "mask must be one of .* got 'rows'"),
        (lambda: fg.swap_halves(mask="rows"), "mask must be one of .* got 'rows'"),
        (
            lambda: GatedAttentionNet(1, width=6).init(jax.random.key(0), jnp.zeros((1, 2, 2, 1))),
            "heads must divide width; got 4 and 6",
        ),
        (
            lambda: GatedAttentionNet(1, width=4).init(jax.random.key(0), jnp.zeros((1, 2))),
            r"images \(batch, height, width, channels\); got shape \(1, 2\)",
        ),
        (
            lambda: GatedAttentionNet(1, width=4, cond_channels=3).init(
                jax.random.key(0), jnp.zeros((1, 2, 2, 1))
            ),
            r"needs cond of shape \(1, 2, 2, 3\); got None",
        ),
        (
            lambda: fg.condition(MLP(2), fg.actnorm()).init(jax.random.key(0), jnp.zeros((2, 2))),
            "condition needs cond.* got None",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
