"""The conditioners compute what the released code's layers compute, in a form of their own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowjax_glow.nets.conv import conv3x3
from flowjax_glow.nets.convnet import ConvNet, PriorNet, ScaledConv

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


def _xla_conv_with_ones(x, kernel, ones):
    x = jnp.concatenate([x, jnp.ones((*x.shape[:3], 1))], axis=-1)
    return _xla_conv(x, jnp.concatenate([kernel, ones[:, :, None]], axis=2))


@pytest.mark.parametrize(("channels", "features"), [(2, 5), (5, 2), (3, 3)])
@pytest.mark.parametrize("size", [(1, 1), (4, 6)])
@pytest.mark.parametrize("backend", ["cpu", "tpu"])
def test_conv3x3_is_xlas_convolution_with_its_gradients(channels, features, size, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)  # affine has a form for each
    arguments = _normal(2, *size, channels), _normal(3, 3, channels, features), _normal(3, 3, features)
    weights = _normal(2, *size, features)
    y = conv3x3(*arguments)
    assert y.shape == (2, *size, features)
    np.testing.assert_allclose(y, _xla_conv_with_ones(*arguments), rtol=1e-5, atol=1e-5)
    ours, xlas = (
        jax.grad(lambda *a, fn=fn: jnp.sum(weights * fn(*a)), argnums=(0, 1, 2))(*arguments)
        for fn in (conv3x3, _xla_conv_with_ones)
    )
    for a, b in zip(ours, xlas, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def _by_hand(params, x, size=3):
    """(conv(x) + bias) * exp(3 log_scale), by XLA's convolution, the edge a channel of the padding."""
    pad = size // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    kernel = params["kernel"].reshape(size, size, x.shape[-1], -1)
    if "edge" in params:
        inside = jnp.zeros((*x.shape[:-1], 1))
        edge = jnp.pad(inside, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
        padded = jnp.concatenate([padded, edge], axis=-1)
        kernel = jnp.concatenate([kernel, params["edge"][:, :, None]], axis=2)
    bias, log_scale = np.asarray(params["affine"]["bias"]), np.asarray(params["affine"]["log_scale"])
    return (np.asarray(_xla_conv(padded, kernel, "VALID")) + bias) * np.exp(3 * log_scale)


@pytest.mark.parametrize(("size", "edge_bias"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize(("channels", "features"), [(2, 5), (5, 2)])
def test_a_scaled_conv_is_what_its_name_says(size, edge_bias, channels, features):
    layer, x = ScaledConv(features, size, edge_bias, jnp.float32), _normal(2, 3, 5, channels)
    params = _init(layer, x)
    y = _apply(layer, params, x)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(y, _by_hand(params, x, size), rtol=1e-4, atol=1e-5)


def test_a_zero_layer_starts_at_zero_and_scales_by_exp_3_log_scale():
    layer = ScaledConv(2, 3, True, jnp.float32, zero_init=True)
    x = _normal(2, 4, 4, 3)
    params = _init(layer, x)
    np.testing.assert_array_equal(_apply(layer, params, x), 0)
    params = {**params, "affine": {"bias": jnp.array([1.0, 2.0]), "log_scale": jnp.array([0.0, 0.5])}}
    y = _apply(layer, params, x)
    np.testing.assert_allclose(y[0, 0, 0], [1.0, 2.0 * np.exp(1.5)], rtol=1e-6)


def test_convnet_is_its_layers_in_order_and_is_initialised_on_its_batch():
    net, x = ConvNet(out_channels=4, width=8), _normal(6, 4, 4, 3)
    p = _init(net, x)
    p["conv_out"] = {**p["conv_out"], "kernel": _normal(3, 3, 8, 4), "edge": _normal(3, 3, 4)}
    h = _by_hand(p["conv_in"], x)
    np.testing.assert_allclose(h.std((0, 1, 2)), 1, atol=1e-4)
    h = _by_hand(p["mix"], np.maximum(h, 0), 1)
    np.testing.assert_allclose(h.std((0, 1, 2)), 1, atol=1e-4)
    expected = _by_hand(p["conv_out"], np.maximum(h, 0))
    np.testing.assert_allclose(_apply(net, p, x), expected, rtol=1e-4, atol=1e-4)


def test_weights_have_the_released_deviation():
    p = _init(ConvNet(out_channels=4, width=64), _normal(4, 4, 4, 3))
    assert np.std(p["mix"]["kernel"]) == pytest.approx(0.05, rel=0.05)
    assert np.std(p["conv_in"]["kernel"]) == pytest.approx(0.05, rel=0.05)


def test_bfloat16_nets_keep_float32_params_and_stay_near():
    x = _normal(4, 4, 4, 3)
    single, half = (ConvNet(out_channels=4, width=16, dtype=t) for t in (None, jnp.bfloat16))
    p = _init(half, x)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(p))
    p["conv_out"]["kernel"] = 0.1 * _normal(3, 3, 16, 4)
    a, b = _apply(single, p, x), _apply(half, p, x)
    assert b.dtype == jnp.bfloat16
    assert 0 < np.abs(a - b.astype(jnp.float32)).max() < 0.1


def test_a_prior_of_classes_says_when_labels_are_missing():
    net = PriorNet(out_channels=4, num_classes=3)
    with pytest.raises(ValueError, match="3 classes needs labels"):
        net.init(jax.random.key(0), jnp.zeros((1, 2, 2, 4)))
