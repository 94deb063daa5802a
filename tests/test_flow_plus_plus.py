"""Flow++ is the released one: its size, its start, and its likelihood with learned noise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax_glow as fg

KEY = jax.random.key(0)
SMALL: dict[str, Any] = {"blocks": 1, "width": 4, "heads": 2, "components": 2}


def _images(count):
    return jnp.asarray(np.random.default_rng(0).integers(256, size=(count, 4, 4, 1)), jnp.uint8)


def test_trained_parameters_of_the_cifar10_model():
    """The released 31,443,440 are those of the flow and of the dequantization flow."""
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    flow, noise = fg.flow_plus_plus((32, 32, 3)).bijector, fg.dequantization_flow()
    of_flow = fg.count_parameters(jax.eval_shape(flow.init, KEY, x, None))
    of_noise = fg.count_parameters(jax.eval_shape(noise.init, KEY, x, x))
    assert (of_flow, of_noise) == (27_976_464, 3_466_976)
    assert of_flow + of_noise == 31_443_440


def test_halves_of_the_channels_are_the_rows_of_a_block():
    """As the released code's space_to_depth orders them: pixel by pixel."""
    rows, columns, channels = 2, 4, 3
    x = jnp.arange(rows * columns * channels, dtype=jnp.float32).reshape(1, rows, columns, channels)
    order = [4 * channel + pixel for pixel in range(4) for channel in range(channels)]
    z, _ = fg.chain(fg.squeeze(), fg.permute(order)).forward(((), ()), x)
    upper, lower = jnp.split(z[0, 0, 0], 2)
    np.testing.assert_array_equal(upper, x[0, 0, :2].reshape(-1))
    np.testing.assert_array_equal(lower, x[0, 1, :2].reshape(-1))


def _noisy(init, *args):
    """Params in the shapes that init would give them, normal with deviation 0.3: init takes longest."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(init, KEY, *args)
    return jax.tree.map(lambda s: jnp.asarray(0.3 * rng.normal(size=s.shape), s.dtype), shapes)


def test_the_loss_of_flow_and_dequantizer_moves_every_trained_leaf_of_both():
    flow = fg.flow_plus_plus((4, 4, 1), depths=(1, 1, 1), **SMALL)
    dequantizer = fg.variational_dequantizer(fg.dequantization_flow(depth=1, features=3, **SMALL))
    images = _images(4)
    x = fg.dequantize(KEY, images)
    params = {
        "flow": _noisy(flow.bijector.init, x),
        "dequantizer": _noisy(dequantizer.init, images),
    }

    @jax.jit
    @jax.value_and_grad
    def loss(params, key):
        noise_key, net_key, flow_key = jax.random.split(key, 3)
        x, log_q = dequantizer.sample(params["dequantizer"], noise_key, images, None, net_key)
        return -jnp.mean(fg.log_prob(flow, params["flow"], x, None, flow_key) - log_q)

    value, gradient = loss(params, KEY)
    assert np.isfinite(value)
    still = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.any(g) or not np.all(np.isfinite(g))
    ]
    assert still == []


def test_constant_memory_gives_the_same_gradients_of_params_noise_and_image():
    eps, image = (fg.dequantize(jax.random.key(k), _images(4)) for k in (1, 2))

    def gradients(memory):
        noise = fg.dequantization_flow(depth=2, features=3, memory=memory, **SMALL)
        params = _noisy(noise.init, eps, image)

        def loss(params, eps, image):
            logits, logdet = noise.forward(params, eps, image, KEY)
            return jnp.sum(jnp.tanh(logits)) + jnp.sum(logdet)

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, eps, image)

    stored, constant = gradients("stored"), gradients("constant")
    for a, b in zip(jax.tree.leaves(stored), jax.tree.leaves(constant), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * max(1.0, float(np.abs(a).max())))


def test_initialised_on_a_batch_every_entry_is_nearly_normal():
    """Each coupling normalises first, and its net starts small."""
    noise = fg.dequantization_flow(depth=2, features=3, **SMALL)
    eps, image = 5 * fg.dequantize(KEY, _images(256)) + 3, fg.dequantize(None, _images(256))
    params = jax.jit(noise.init)(KEY, eps, image)
    z, _ = jax.jit(noise.forward)(params, eps, image)
    assert z.shape == (256, 4, 4, 1)
    np.testing.assert_allclose(np.mean(z, 0), 0.0, atol=0.3)
    np.testing.assert_allclose(np.std(z, 0), 1.0, atol=0.3)


@pytest.mark.parametrize("event_shape", [(3, 4, 1), (4, 6, 1)])
def test_mistakes_are_named(event_shape):
    with pytest.raises(ValueError, match="height must be even and width a multiple of 4; got"):
        fg.flow_plus_plus(event_shape)
    with pytest.raises(ValueError, match=r"depths must be three numbers; got \[4, 2\]"):
        fg.flow_plus_plus((4, 4, 1), depths=[4, 2])
    with pytest.raises(ValueError, match="depth must be at least 1; got 0"):
        fg.dequantization_flow(depth=0)
