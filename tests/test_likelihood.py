"""Bits per dimension: constants, noise and rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowjax_glow as fg

KEY = jax.random.key(0)


def test_a_uniform_density_costs_log2_of_the_levels():
    for n_bins in (2, 17, 32, 256):
        # log p(x) = 0 on the unit cube.
        bits = fg.bits_per_dim(jnp.zeros(3), (8, 8, 3), n_bins=n_bins)
        np.testing.assert_allclose(bits, np.log2(n_bins), rtol=1e-6)


@pytest.mark.parametrize(
    ("nats", "event_shape", "n_bins", "value_range", "bits"),
    [(1980.50, (28, 28, 1), 256, 1.0, 4.3555), (5371.78, (32, 32, 3), 256, 2.0, 4.4773)],
)
def test_the_nats_of_nice_are_its_bits(nats, event_shape, n_bins, value_range, bits):
    """NICE reports nats for MNIST on [0, 1] and CIFAR-10 on [-1, 1]."""
    lp = jnp.array([nats + np.prod(event_shape) * np.log(value_range)], jnp.float32)
    np.testing.assert_allclose(fg.bits_per_dim(lp, event_shape, n_bins=n_bins), bits, atol=1e-4)


@pytest.mark.parametrize("n_bins", [2, 17, 32, 256])
def test_every_level_with_any_noise_comes_back(n_bins):
    images = jnp.tile(jnp.arange(n_bins, dtype=jnp.uint8), (4, 2000))
    for key in (KEY, None):
        x = fg.dequantize(key, images, n_bins=n_bins)
        assert x.dtype == jnp.float32
        assert x.min() >= -0.5
        assert x.max() < 0.5
        np.testing.assert_array_equal(fg.quantize(x, n_bins=n_bins), images)


def test_noise_is_uniform_and_middles_are_middles():
    images = jnp.zeros((4, 50_000), jnp.uint8)
    noise = np.asarray(fg.dequantize(KEY, images, n_bins=1) + 0.5)
    counts = np.histogram(noise, bins=20, range=(0, 1))[0]
    chi_square = np.sum((counts - 10_000) ** 2 / 10_000)
    assert chi_square < 43.8  # the 0.1% quantile with 19 degrees of freedom
    np.testing.assert_array_equal(fg.dequantize(None, images, n_bins=4), 0.125 - 0.5)


def test_noise_depends_on_the_key_and_the_number_of_the_example_alone():
    images = jnp.zeros((6, 4, 4, 1), jnp.uint8)
    x = fg.dequantize(KEY, images)
    part = fg.dequantize(KEY, images[:2], index=jnp.array([4, 1]))
    np.testing.assert_array_equal(part, x[jnp.array([4, 1])])
    assert np.unique(x[:, 0, 0, 0]).size == 6
    assert np.abs(fg.dequantize(jax.random.key(1), images) - x).max() > 0


def test_floating_images_are_refused():
    with pytest.raises(Exception, match=r"integers|Integer"):
        fg.dequantize(KEY, jnp.zeros((2, 4, 4, 1)))


@given(st.integers(1, 8), st.integers(0, 255))
def test_reduce_bits_keeps_the_highest(n_bits, pixel):
    reduced = fg.reduce_bits(np.array([pixel], np.uint8), n_bits)
    assert reduced == pixel // 2 ** (8 - n_bits)
    assert reduced < 2**n_bits


@pytest.mark.parametrize("n_bits", [0, 9])
def test_reduce_bits_names_its_range(n_bits):
    with pytest.raises(ValueError, match=f"n_bits must be between 1 and 8; got {n_bits}"):
        fg.reduce_bits(jnp.zeros(2, jnp.uint8), n_bits)
