"""NICE is the released one: its size, its initial weights, its couplings in turn, its prior."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import perturb

import flowjax_glow as fg

KEY = jax.random.key(0)


def _size(event_shape, **kwargs):
    flow = fg.nice(event_shape, **kwargs)
    x = jax.ShapeDtypeStruct((2, *event_shape), jnp.float32)
    return fg.count_parameters(jax.eval_shape(flow.bijector.init, KEY, x, None))


def _layers(*sizes):
    return sum(a * b + b for a, b in pairwise(sizes))


def test_trained_parameters():
    assert _size((28, 28, 1)) == 19_158_352
    depths = (1, 1, 3, 3, 2, 2, 1, 1)
    couplings = sum(_layers(1536, *[2400] * depth, 1536) for depth in depths)
    cifar = {"depths": depths, "width": 2400, "mask": "channel", "prior": "normal"}
    assert _size((32, 32, 3), **cifar) == couplings + 3072


def test_weights_start_uniform_in_a_hundredth_biases_and_scales_at_zero():
    flow = fg.nice((20,), depths=(2, 1), width=50)
    params = fg.init(flow, KEY, jnp.zeros((2, 20)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if jax.tree_util.keystr(path).endswith("['kernel']"):
            assert 0.0095 < np.max(np.abs(leaf)) <= 0.01
            assert abs(np.mean(leaf)) < 0.001
        else:
            np.testing.assert_array_equal(leaf, 0)


def test_the_first_coupling_shifts_odd_entries_and_the_second_even_ones():
    flow = fg.nice((3, 2, 1), depths=(1, 1), width=8)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 2, 1)), jnp.float32)
    params = perturb(fg.init(flow, KEY, x), scale=0.3)
    # One coupling at a time: the other's network is all zeros, and so is the scale.
    zeros = jax.tree.map(jnp.zeros_like, params)
    encode = jax.jit(partial(fg.encode, flow))
    for i, shifted in ((1, [1, 3, 5]), (2, [0, 2, 4])):
        only = tuple(params[j] if j == i else zeros[j] for j in range(4))
        moved = np.any(np.asarray(encode(only, x)) != x.reshape(4, 6), axis=0)
        assert list(np.flatnonzero(moved)) == shifted


def test_channels_first_flattens_as_the_released_code_reads_color_images():
    flow = fg.nice((2, 3, 3), depths=(1,), width=4, mask="channel", channels_first=True)
    x = jnp.arange(36.0).reshape(2, 2, 3, 3)
    params = jax.tree.map(jnp.zeros_like, fg.init(flow, KEY, x))
    z = fg.encode(flow, params, x)
    np.testing.assert_array_equal(z, np.transpose(x, (0, 3, 1, 2)).reshape(2, 18))


@pytest.mark.parametrize("prior", ["logistic", "normal"])
def test_log_prob_is_the_priors_at_the_latents_plus_the_scales(prior):
    flow = fg.nice((2, 2, 1), depths=(1, 1), width=4, prior=prior)
    x = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 0.5, size=(5, 2, 2, 1)), jnp.float32)
    params = perturb(fg.init(flow, KEY, x), scale=0.3)
    z = np.asarray(fg.encode(flow, params, x), float)
    density = {
        "logistic": lambda z: -z - 2 * np.log1p(np.exp(-z)),
        "normal": lambda z: -0.5 * (z**2 + np.log(2 * np.pi)),
    }[prior]
    expected = density(z).sum(axis=1) + np.sum(params[-1]["log_scale"])
    np.testing.assert_allclose(fg.log_prob(flow, params, x), expected, rtol=1e-5)
    samples = jax.jit(partial(fg.sample, flow), static_argnums=2)(params, KEY, 3)
    assert samples.shape == (3, 2, 2, 1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"event_shape": (3, 3, 1)}, r"must be even; got 9 in \(3, 3, 1\)"),
        ({"depths": ()}, r"an entry for each coupling; got \(\)"),
        ({"mask": "rows"}, "mask must be one of .* got 'rows'"),
        ({"prior": "cauchy"}, "prior must be one of .* got 'cauchy'"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fg.nice(**{"event_shape": (4,), **kwargs})
