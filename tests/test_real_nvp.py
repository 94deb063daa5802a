"""The model is the released one: its size, its squeeze, its function; and all of it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax_glow as fg
from flowjax_glow.base import is_running

KEY = jax.random.key(0)
SHAPE = (4, 4, 2)
X = jnp.asarray(np.random.default_rng(0).uniform(-0.49, 0.49, size=(6, *SHAPE)), jnp.float32)
FLOW = fg.real_nvp(SHAPE, scales=2, width=4, blocks=2, cond_channels=3)
COND = jnp.asarray(np.random.default_rng(1).normal(size=(6, 3)), jnp.float32)


@pytest.fixture(scope="module")
def params():
    """Away from log_scale = 0, and with running statistics that are not the batch's."""

    def moved(path, leaf):
        noise = jnp.cos(1.0 + jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        return leaf * (1 + 0.2 * noise) if is_running(path) else leaf + 0.1 * noise

    return jax.tree_util.tree_map_with_path(moved, fg.init(FLOW, KEY, X, COND))


@pytest.mark.parametrize(
    ("kwargs", "parameters"),
    [({}, 46_220_359), ({"scales": 2, "width": 64, "blocks": 8}, 19_609_545)],
    ids=["ImageNet32", "CIFAR-10"],
)
def test_trained_parameters(kwargs, parameters):
    flow = fg.real_nvp((32, 32, 3), **kwargs)
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    assert fg.count_parameters(jax.eval_shape(flow.bijector.init, KEY, x, None)) == parameters


def test_the_diagonal_squeeze_has_the_pixels_in_the_released_order_channels_side_by_side():
    x = jnp.arange(24.0).reshape(1, 2, 4, 3)
    z, _ = fg.squeeze(order="diagonal").forward({}, x)
    for column in range(2):
        block = x[0, :, 2 * column : 2 * column + 2]
        expected = jnp.concatenate([block[0, 0], block[1, 1], block[0, 1], block[1, 0]])
        np.testing.assert_array_equal(z[0, 0, column], expected)
    with pytest.raises(ValueError, match=r"order must be one of .* got 'ordered'"):
        fg.squeeze(order="ordered")


class Released:
    """The same function on whole images with masks, by NumPy and XLA's convolution, in float64."""

    def __init__(self, train: bool):
        self.train = train

    def moments(self, running, x):
        mean, variance = running["mean"], running["variance"]
        if self.train:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return mean, variance + 1e-4

    def norm(self, p, x):
        mean, variance = self.moments(p["running"], x)
        return (x - mean) / np.sqrt(variance) + p["bias"]

    def conv(self, p, x):
        kernel = p["kernel"] if p["kernel"].ndim == 4 else p["kernel"][None, None]
        kernel = kernel / np.sqrt((kernel**2).sum((0, 1, 2))) * p.get("magnitude", 1.0)
        layout = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
        return np.asarray(y) + p.get("bias", 0.0)

    def resnet(self, p, x):
        x = self.conv(p["conv_in"], x)
        total = self.conv(p["skip_in"], x)
        for i in range(2):
            block = jax.tree.map(lambda a, i=i: a[i], p["blocks"])
            y = self.conv(block["conv_in"], np.maximum(self.norm(block["norm_in"], x), 0))
            x = x + self.conv(block["conv_out"], np.maximum(self.norm(block["norm_out"], y), 0))
            total = total + self.conv(block["skip"], x)
        return self.conv(p["conv_out"], np.maximum(self.norm(p["norm_out"], total), 0))

    def shift_and_log_scale(self, p, *read):
        cond = np.broadcast_to(COND[:, None, None], (*read[0].shape[:3], 3))
        out = self.resnet(p["resnet"], np.concatenate([*(np.maximum(r, 0) for r in read), cond], -1))
        shift, h = np.split(out, 2, axis=-1)
        return shift, p["rescale" if "rescale" in p else "scale"] * np.tanh(h)

    def checkerboard(self, params, x, first):
        net, out = params
        rows, columns = np.indices(x.shape[1:3])
        mask = ((first + rows + columns) % 2)[None, :, :, None].astype(x.dtype)
        mask = np.broadcast_to(mask, (*x.shape[:3], 1))
        y = 2 * self.norm(net["norm_in"], x * mask)
        shift, log_scale = self.shift_and_log_scale(net, y, -y, mask)
        y = (x + shift * (1 - mask)) * np.exp(log_scale * (1 - mask))
        mean, variance = self.moments(out["running"], y * (1 - mask))
        z = (y - mean * (1 - mask)) * variance ** (-0.5 * (1 - mask))
        logdet = (log_scale - 0.5 * np.log(variance)) * (1 - mask)
        return z, logdet.sum((1, 2, 3))

    def channel(self, params, x, flip):
        net, out = params
        kept, changed = np.split(x, 2, axis=-1)[:: -1 if flip else 1]
        y = self.norm(net["norm_in"], kept)
        shift, log_scale = self.shift_and_log_scale(net, y, -y)
        y = (changed + shift) * np.exp(log_scale)
        mean, variance = self.moments(out["running"], y)
        halves = [kept, (y - mean) / np.sqrt(variance)][:: -1 if flip else 1]
        return np.concatenate(halves, -1), (log_scale - 0.5 * np.log(variance)).sum((1, 2, 3))

    def __call__(self, params, x):
        (_, (first, _, channels, _, _, last)) = params
        p = 0.05 + 0.9 * (x + 0.5)
        x, logdet = np.log(p) - np.log1p(-p), np.log(0.9 / p / (1 - p)).sum((1, 2, 3))
        for i, coupling in enumerate(first):
            x, ld = self.checkerboard(coupling, x, (1, 0, 1)[i])
            logdet = logdet + ld
        x = fg.squeeze().forward({}, x)[0]
        for i, coupling in enumerate(channels):
            x, ld = self.channel(coupling, np.asarray(x), i == 1)
            logdet = logdet + ld
        x = np.asarray(fg.squeeze().inverse({}, x)[0])
        x, leaves = np.split(np.asarray(fg.squeeze(order="diagonal").forward({}, x)[0]), 2, axis=-1)
        for i, coupling in enumerate(last):
            x, ld = self.checkerboard(coupling, x, (1, 0, 1, 0)[i])
            logdet = logdet + ld
        return (leaves, x), logdet


@pytest.mark.parametrize("key", [None, KEY], ids=["running", "batch"])
def test_the_function_is_the_released_one(params, key):
    z, logdet = jax.jit(FLOW.bijector.forward)(params, X, COND, key)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, X))
        expected = Released(train=key is not None)(*exact)
    assert [a.shape for a in z] == [(6, 2, 2, 4), (6, 2, 2, 4)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), z, expected[0])
    np.testing.assert_allclose(logdet, expected[1], atol=2e-3)


def test_at_initialisation_a_key_changes_nothing_and_images_come_back(params):
    """init sets every running statistic to that of the batch it will see."""
    forward, inverse = jax.jit(FLOW.bijector.forward), jax.jit(FLOW.bijector.inverse)
    fresh = fg.init(FLOW, KEY, X, COND)
    by_running, by_batch = forward(fresh, X, COND, None), forward(fresh, X, COND, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), by_running, by_batch)
    z, logdet = forward(params, X, COND, None)
    x, inverse_logdet = inverse(params, z, COND)
    np.testing.assert_allclose(x, X, atol=1e-4)
    np.testing.assert_allclose(inverse_logdet, -logdet, atol=1e-3)


def test_all_of_it_learns_in_training_and_gradients_are_finite_at_extremes(params):
    @jax.jit
    def gradient(params, x):
        return jax.grad(lambda p: jnp.mean(fg.log_prob(FLOW, p, x, COND, KEY)))(params)

    still = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(gradient(params, X))
        if not np.any(g)
    ]
    assert still == []
    loud = jax.tree_util.tree_map_with_path(
        lambda path, a: 1e4 * a if path[-1].key in ("magnitude", "bias") else a, params
    )
    for p, x in ((params, jnp.zeros_like(X)), (params, jnp.full_like(X, 0.5)), (loud, X)):
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient(p, x)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"event_shape": (8, 12, 3), "scales": 3},
            r"2\^scales.* got \(8, 12, 3\) and scales = 3",
        ),
        ({"event_shape": (6, 8, 3), "scales": 3}, r"height must be divisible by 2\^\(scales - 1\)"),
        ({"scales": 0}, "scales at least 1"),
        ({"blocks": 0}, "width and blocks must be at least 1; got 32 and 0"),
        ({"logit_margin": 0.5}, r"margin must be in \[0, 0.5\); got 0.5"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fg.real_nvp(**{"event_shape": (8, 8, 3), "scales": 2, **kwargs})


def test_a_net_that_needs_cond_says_so(params):
    with pytest.raises(ValueError, match="needs cond; got None"):
        fg.log_prob(FLOW, params, X)
