"""The transformer and its flows: TarFlow and Jet are the released ones in size and in what they see."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import perturb

import flowjax_glow as fg
from flowjax_glow.nets.transformer import Transformer

KEY = jax.random.key(0)
net = partial(Transformer, width=8, heads=2, layers=2, causal=True)


def _normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize(
    ("model", "hyperparameters", "parameters"),
    [
        (fg.tarflow, {}, 460_142_784),
        (fg.tarflow, {"num_classes": 10}, 460_142_784 + 8 * 10 * 768),
        (fg.jet, {}, 207_177_216),
        (fg.jet, {"couplings": 64, "layers": 5}, 64 * (169_520 + 5 * 3_152_384)),
        (fg.jet, {"couplings": 3}, 3 * (169_520 + 2 * 3_152_384)),
    ],
)
def test_trained_parameters_of_the_64_pixel_models(model, hyperparameters, parameters):
    flow = model((64, 64, 3), **hyperparameters)
    x = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    assert fg.count_parameters(jax.eval_shape(flow.bijector.init, KEY, x, labels)) == parameters


@pytest.mark.usefixtures("float64")
def test_a_token_of_the_causal_map_depends_on_those_before_it():
    bijector = fg.causal_affine(net)
    x = _normal(1, 2, 2, 3)
    params = perturb(jax.jit(bijector.init)(KEY, x), scale=0.3)

    @jax.jit
    @jax.jacobian
    def jacobian(x):
        return bijector.forward(params, x)[0].reshape(4, 3)

    blocks = np.asarray(jacobian(x)).reshape(4, 3, 4, 3).transpose(0, 2, 1, 3)
    for t in range(4):
        for s in range(4):
            if s < t:
                assert np.abs(blocks[t, s]).min() > 0
            elif s > t:
                np.testing.assert_array_equal(blocks[t, s], 0)
            else:
                np.testing.assert_array_equal(blocks[t, s], np.diag(np.diag(blocks[t, s])))
    np.testing.assert_array_equal(blocks[0, 0], np.eye(3))


@pytest.mark.usefixtures("float64")
def test_without_causality_every_token_sees_every_other():
    module = net(3, causal=False)
    x = _normal(1, 4, 2)
    params = perturb(jax.jit(module.init)(KEY, x), scale=0.3)
    jacobian = jax.jit(jax.jacobian(lambda x: module.apply(params, x)))(x)
    assert np.abs(jacobian).min() > 0


@pytest.mark.usefixtures("float64")
def test_the_inverse_with_a_cache_is_the_definition_without():
    bijector = fg.causal_affine(partial(net, num_classes=3))
    z, labels = _normal(2, 5, 3), jnp.array([2, -1])
    params = perturb(jax.jit(bijector.init)(KEY, z, labels), scale=0.3)
    module = net(6, num_classes=3)
    outputs = jax.jit(partial(module.apply, {"params": params}))

    x, logdet = z, np.zeros(2)
    for t in range(1, 5):  # a full pass of the net for each token
        shift, h = np.split(outputs(x, labels)[:, t - 1], 2, axis=-1)
        alpha = -10 * np.tanh(h / 10)
        x = x.at[:, t].set(z[:, t] * np.exp(alpha) - shift)
        logdet += alpha.sum(-1)
    cached, cached_logdet = jax.jit(bijector.inverse)(params, z, labels)
    np.testing.assert_allclose(cached, x, atol=1e-12)
    np.testing.assert_allclose(cached_logdet, logdet, atol=1e-12)
    assert np.abs(logdet).min() > 0.1


@pytest.mark.usefixtures("float64")
def test_the_transformer_is_attention_and_mlp_with_norms_before_them():
    module = Transformer(2, width=6, heads=3, layers=1, causal=True, final_norm=True)
    x = _normal(1, 4, 5)
    variables = perturb(jax.jit(module.init)(KEY, x), scale=0.3)
    params = jax.tree.map(np.asarray, variables)["params"]

    def dense(name, x, of=params):
        return x @ of[name]["kernel"] + of[name]["bias"]

    def norm(x, p):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    layer = params["_Layer_0"]
    y = dense("in", np.asarray(x[0])) + params["position"]
    q, k, v = np.split(dense("qkv", norm(y, layer["norm_attention"]), layer), 3, axis=-1)
    attended = np.zeros((4, 6))
    for t in range(4):
        for head in range(3):
            of = slice(2 * head, 2 * head + 2)
            weights = np.exp(k[: t + 1, of] @ q[t, of] / np.sqrt(2))
            attended[t, of] = weights / weights.sum() @ v[: t + 1, of]
    y = y + dense("proj", attended, layer)
    mlp = np.asarray(jax.nn.gelu(dense("up", norm(y, layer["norm_mlp"]), layer)))
    y = y + dense("down", mlp, layer)
    expected = dense("out", norm(y, params["norm"]))
    np.testing.assert_allclose(jax.jit(module.apply)(variables, x)[0], expected, atol=1e-12)


def test_patches_are_tokens_row_by_row_and_a_colour_becomes_half_of_the_channels():
    x = jnp.arange(2 * 4 * 8 * 3.0).reshape(2, 4, 8, 3)
    tokens, _ = fg.patchify(2).forward({}, x)
    np.testing.assert_array_equal(tokens[1, 1, 2], x[1, 2:4, 4:6].reshape(12))
    halves, _ = fg.checkerboard_to_channels().forward({}, tokens)
    assert halves.shape == tokens.shape
    np.testing.assert_array_equal(halves[0, 0, 0:2, :6].reshape(12), tokens[0, 0, 0])
    np.testing.assert_array_equal(halves[0, 1, 2:4, :6].reshape(12), tokens[0, 1, 3])
    np.testing.assert_array_equal(halves[0, 1, 2:4, 6:].reshape(12), tokens[0, 1, 2])


@pytest.mark.usefixtures("float64")
def test_each_coupling_of_jet_changes_half_and_the_colours_take_turns():
    flow = fg.jet((4, 4, 1), patch=2, width=4, heads=1, couplings=10, layers=1)
    x = jnp.zeros((1, 4, 4, 1))
    _, steps, _ = params = fg.init(flow, KEY, x)
    channel, spatial, _ = steps
    encode = jax.jit(partial(fg.encode, flow))
    other = _normal(1, 4, 4, 1, seed=1)
    np.testing.assert_array_equal(encode(params, other), other)  # all permutations are undone

    def shifted(kind, group):
        """What a shift of 1 in the group's couplings of one kind adds to zeros, as patches."""
        bias = kind["inner"]["out"]["bias"]
        moved = bias.at[group, ..., :2].set(1.0)
        kind = {**kind, "inner": {**kind["inner"], "out": {**kind["inner"]["out"], "bias": moved}}}
        parts = (kind, spatial, {}) if kind["outer"] else (channel, kind, {})
        z = encode((params[0], parts, params[2]), x)
        return np.asarray(fg.patchify(2).forward({}, z)[0][0]).sum(-1)

    first, second = shifted(spatial, 0), shifted(spatial, 1)
    np.testing.assert_array_equal(first, [[0, 4], [4, 0]])
    np.testing.assert_array_equal(second, [[4, 0], [0, 4]])
    np.testing.assert_array_equal(shifted(channel, 0), np.full((2, 2), 4 * 2))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "model",
    [partial(fg.tarflow, blocks=2), partial(fg.jet, patch=2, couplings=6)],
    ids=["tarflow", "jet"],
)
def test_constant_memory_has_the_stored_gradients(model):
    model = partial(model, (4, 4, 1), width=4, heads=2, layers=1, num_classes=2)
    x, labels = _normal(2, 4, 4, 1), jnp.array([0, 1])
    params = perturb(jax.jit(model().bijector.init)(KEY, x, labels), scale=0.2)
    trained, constants = fg.split_trainable(params)

    def gradient(memory):
        flow = model(memory=memory)

        @jax.jit
        @jax.grad
        def of(trained):
            return jnp.mean(fg.log_prob(flow, fg.merge_trainable(trained, constants), x, labels))

        return jax.tree.leaves(of(trained))

    for stored, constant in zip(gradient("stored"), gradient("constant"), strict=True):
        assert np.any(stored)
        np.testing.assert_allclose(constant, stored, atol=1e-9 * max(1, np.abs(stored).max()))


def test_gradients_are_finite_where_the_net_puts_out_ten_thousand():
    bijector = fg.causal_affine(partial(net, layers=1))
    x = _normal(2, 4, 2).astype(jnp.float32)
    params = jax.jit(bijector.init)(KEY, x)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1), has_aux=True)
    def gradient(params, x):
        z, logdet = bijector.forward(params, x)
        back, _ = bijector.inverse(params, z)
        return jnp.sum(z**2) - jnp.sum(logdet), (z, logdet, back)

    for sign in (1, -1):
        params["out"]["bias"] = jnp.full(4, sign * 1e4)
        gradients, (z, logdet, back) = gradient(params, x)
        np.testing.assert_allclose(logdet, sign * 3 * 2 * 10.0, rtol=1e-6)
        for leaf in jax.tree.leaves((gradients, z, back)):
            assert np.all(np.isfinite(leaf))


def test_classes_change_the_density_and_a_label_below_0_is_none():
    flow = fg.tarflow((4, 4, 1), width=4, heads=1, blocks=1, layers=1, num_classes=3)
    x = _normal(6, 4, 4, 1).astype(jnp.float32)
    labels = jnp.array([0, 1, 2, -1, -2, 1])
    params = perturb(fg.init(flow, KEY, x, labels), scale=0.3)
    log_prob = jax.jit(partial(fg.log_prob, flow))
    by_label = [log_prob(params, x, jnp.full(6, c)) for c in (0, 1, 2, -1)]
    mixed = log_prob(params, x, labels)
    np.testing.assert_allclose(mixed, np.choose([0, 1, 2, 3, 3, 1], by_label), rtol=1e-5)
    assert min(np.abs(a - b).max() for a, b in itertools.pairwise(by_label)) > 1e-3
    classes = params[1][0]["classes"]
    mean = jnp.mean(classes, axis=1, keepdims=True)
    params[1][0]["classes"] = jnp.broadcast_to(mean, classes.shape)
    np.testing.assert_allclose(log_prob(params, x, labels), by_label[3], rtol=1e-5)
    with pytest.raises(ValueError, match="3 classes needs labels as cond; got None"):
        fg.log_prob(flow, params, x)


def test_bfloat16_is_inside_the_transformers_alone():
    exact, rounded = (
        fg.tarflow((4, 4, 1), width=8, heads=2, blocks=1, layers=1, dtype=dtype)
        for dtype in (None, jnp.bfloat16)
    )
    x = _normal(3, 4, 4, 1).astype(jnp.float32)
    params = perturb(fg.init(rounded, KEY, x))
    assert {a.dtype.name for a in jax.tree.leaves(params)} == {"float32"}
    z, z_rounded = (jax.jit(partial(fg.encode, flow))(params, x) for flow in (exact, rounded))
    assert z_rounded.dtype == jnp.float32
    assert 1e-5 < np.abs(z_rounded - z).max() < 0.02
    back = jax.eval_shape(partial(fg.decode, rounded), params, z)
    assert back.dtype == jnp.float32


@pytest.mark.parametrize(
    ("bijector", "shape", "message"),
    [
        (lambda: fg.patchify(3), (4, 6, 1), "divisible by the patch's 3; got 4x6"),
        (lambda: fg.patchify(2), (4,), "x must be images.* got shape \\(2, 4\\)"),
        (lambda: fg.invert(fg.patchify(2)), (2, 2, 6), "multiple of the patch's 2x2; got 6"),
        (lambda: fg.patchify(0), (4, 4, 1), "size must be at least 1; got 0"),
        (lambda: fg.mirror(0), (4,), "without the batch's 0; got \\(0,\\)"),
        (lambda: fg.mirror(2), (4,), "of the event; got \\(2,\\) for shape \\(2, 4\\)"),
        (fg.checkerboard_to_channels, (2, 3, 2), "width and channels even; got \\(2, 2, 3, 2\\)"),
        (lambda: fg.causal_affine(net, bound=0.0), (2, 2), "bound must be positive; got 0.0"),
        (lambda: fg.causal_affine(net), (4,), "rank 3 at least; got \\(2, 4\\)"),
        (lambda: fg.causal_affine(partial(net, heads=3)), (2, 2), "heads = 3; got 8"),
        (lambda: fg.causal_affine(partial(net, layers=0)), (2, 2), "layers must be .* 1; got 0"),
        (lambda: fg.jet((4, 4, 1), couplings=0).bijector, (4, 4, 1), "couplings .* at least 1; got 0"),
        (lambda: fg.jet((6, 6, 1)).bijector, (6, 6, 1), "divisible by the patch's 4; got 6x6"),
        (lambda: fg.tarflow((4, 4, 1), blocks=0).bijector, (4, 4, 1), "at least 1; got 0"),
    ],
)
def test_mistakes_are_named(bijector, shape, message):
    with pytest.raises(ValueError, match=message):
        _run(bijector, jnp.zeros((2, *shape)))


def _run(make, x):
    bijector = make()
    return bijector.forward(bijector.init(KEY, x), x)
