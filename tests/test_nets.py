"""The conditioners compute what the released code's layers compute, in a form of their own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax_glow.bijectors.actnorm import actnorm
from flowjax_glow.nets.conv import Conv, conv3x3
from flowjax_glow.nets.convnet import ConvNet, PriorNet, ZeroConv

RNG = np.random.default_rng(0)


def _normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def _init(net, x) -> Any:
    return net.init(jax.random.key(0), x)["params"]


def _apply(net, params, x) -> Any:
    return net.apply({"params": params}, x)


def _xla_conv(x, kernel, padding="SAME"):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(("channels", "features"), [(2, 5), (5, 2), (3, 3)])
@pytest.mark.parametrize("size", [(1, 1), (4, 6)])
def test_conv3x3_is_xlas_convolution_with_its_gradients(channels, features, size):
    x, kernel = _normal(2, *size, channels), _normal(3, 3, channels, features)
    weights = _normal(2, *size, features)
    for fn in (conv3x3, _xla_conv):
        assert fn(x, kernel).shape == (2, *size, features)
    np.testing.assert_allclose(conv3x3(x, kernel), _xla_conv(x, kernel), rtol=1e-5, atol=1e-5)
    ours, xlas = (
        jax.grad(lambda x, k, fn=fn: jnp.sum(weights * fn(x, k)), argnums=(0, 1))(x, kernel)
        for fn in (conv3x3, _xla_conv)
    )
    for a, b in zip(ours, xlas, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_edge_bias_is_a_channel_of_ones_on_the_padding():
    layer = Conv(features=4, edge_bias=True, param_dtype=jnp.float32)
    x = _normal(2, 3, 5, 2)
    params = _init(layer, x)
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    edge = jnp.pad(jnp.zeros((2, 3, 5, 1)), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
    kernel = jnp.concatenate([params["kernel"], params["edge"][:, :, None]], axis=2)
    expected = _xla_conv(jnp.concatenate([padded, edge], axis=-1), kernel, "VALID")
    np.testing.assert_allclose(_apply(layer, params, x), expected, rtol=1e-5, atol=1e-6)


def test_a_zero_layer_starts_at_zero_and_scales_by_exp_3_log_scale():
    layer = ZeroConv(features=2, edge_bias=False, param_dtype=jnp.float32)
    x = _normal(2, 4, 4, 3)
    params = _init(layer, x)
    np.testing.assert_array_equal(_apply(layer, params, x), 0)
    params = {**params, "bias": jnp.array([1.0, 2.0]), "log_scale": jnp.array([0.0, 0.5])}
    y = _apply(layer, params, x)
    np.testing.assert_allclose(y[0, 0, 0], [1.0, 2.0 * np.exp(1.5)], rtol=1e-6)


def test_convnet_is_its_layers_in_order_and_is_initialised_on_its_batch():
    net, x = ConvNet(out_channels=4, width=8), _normal(6, 4, 4, 3)
    p = _init(net, x)
    p = {
        **p,
        "conv_out": {
            **p["conv_out"],
            "conv": {"kernel": _normal(3, 3, 8, 4), "edge": _normal(3, 3, 4)},
        },
    }

    def edge_conv(layer, x) -> Any:
        return Conv(layer["kernel"].shape[-1], True, jnp.float32).apply({"params": layer}, x)

    h = actnorm().forward(p["actnorm_in"], edge_conv(p["conv_in"], x))[0]
    np.testing.assert_allclose(h.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(h.std((0, 1, 2)), 1, atol=1e-4)
    h = actnorm().forward(p["actnorm_mix"], jax.nn.relu(h) @ p["mix"])[0]
    np.testing.assert_allclose(h.std((0, 1, 2)), 1, atol=1e-4)
    expected: Any = edge_conv(p["conv_out"]["conv"], jax.nn.relu(h))
    np.testing.assert_allclose(_apply(net, p, x), expected, rtol=1e-4, atol=1e-4)


def test_weights_have_the_released_deviation():
    p = _init(ConvNet(out_channels=4, width=64), _normal(4, 4, 4, 3))
    assert np.std(p["mix"]) == pytest.approx(0.05, rel=0.05)
    assert np.std(p["conv_in"]["kernel"]) == pytest.approx(0.05, rel=0.05)


def test_bfloat16_nets_keep_float32_params_and_stay_near():
    x = _normal(4, 4, 4, 3)
    single, half = (ConvNet(out_channels=4, width=16, dtype=t) for t in (None, jnp.bfloat16))
    p = _init(half, x)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(p))
    p["conv_out"]["conv"]["kernel"] = 0.1 * _normal(3, 3, 16, 4)
    a, b = _apply(single, p, x), _apply(half, p, x)
    assert b.dtype == jnp.bfloat16
    assert 0 < np.abs(a - b.astype(jnp.float32)).max() < 0.1


def test_a_prior_of_classes_says_when_labels_are_missing():
    net = PriorNet(out_channels=4, num_classes=3)
    with pytest.raises(ValueError, match="3 classes needs labels"):
        net.init(jax.random.key(0), jnp.zeros((1, 2, 2, 4)))
