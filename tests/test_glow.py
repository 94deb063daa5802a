"""The model is the released one: its size, its options, its latents."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import perturb

import flowjax_glow as fg

KEY = jax.random.key(0)


def _size(event_shape=(32, 32, 3), **kwargs):
    flow = fg.glow(event_shape, **kwargs)
    x = jax.ShapeDtypeStruct((2, *event_shape), jnp.float32)
    return fg.count_parameters(jax.eval_shape(flow.bijector.init, KEY, x, None))


@pytest.mark.parametrize(
    ("kwargs", "parameters"),
    [
        ({}, 44_603_604),
        ({"edge_bias": False}, 44_135_856),
        ({"permutation": "plu"}, 44_603_604),
        ({"coupling": "additive"}, 38_395_668),
    ],
)
def test_trained_parameters_of_the_cifar10_model(kwargs, parameters):
    assert _size(levels=3, depth=32, width=512, **kwargs) == parameters


def test_latents_are_one_array_a_level_finest_first_and_as_many_numbers_as_pixels():
    flow = fg.glow((16, 8, 3), levels=3, depth=1, width=4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 8, 3)), jnp.float32)
    params = fg.init(flow, KEY, x)
    z = jax.jit(partial(fg.encode, flow))(params, x)
    assert [a.shape for a in z] == [(2, 8, 4, 6), (2, 4, 2, 12), (2, 2, 1, 48)]
    np.testing.assert_allclose(jax.jit(partial(fg.decode, flow))(params, z), x, atol=1e-4)


def test_log_prob_adds_the_prior_and_temperature_scales_the_samples():
    flow = fg.glow((4, 4, 1), levels=1, depth=1, width=4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 4, 1)), jnp.float32)
    params = fg.init(flow, KEY, x)
    z, logdet = flow.bijector.forward(params, x)
    normal = -0.5 * np.sum(np.square(z) + np.log(2 * np.pi), axis=(1, 2, 3))
    np.testing.assert_allclose(fg.log_prob(flow, params, x), normal + logdet, rtol=1e-5)

    draw = jax.jit(partial(fg.sample, flow), static_argnums=2)
    mode = draw(params, KEY, 4, temperature=0.0)
    np.testing.assert_allclose(mode, jnp.broadcast_to(mode[:1], mode.shape), atol=1e-6)
    z_half = fg.encode(flow, params, draw(params, KEY, 512, temperature=0.5))
    assert np.std(z_half) == pytest.approx(0.5, rel=0.03)


def test_classes_move_the_prior():
    flow = fg.glow((4, 4, 1), levels=1, depth=1, width=4, num_classes=3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 4, 1)), jnp.float32)
    labels = jnp.array([0, 1, 2, 0, 1, 2])
    params = perturb(fg.init(flow, KEY, x, labels), scale=0.1)
    by_label = [fg.log_prob(flow, params, x, jnp.full(6, c)) for c in range(3)]
    mixed = fg.log_prob(flow, params, x, labels)
    np.testing.assert_allclose(mixed, np.choose(labels, by_label), rtol=1e-5)
    assert np.abs(by_label[0] - by_label[1]).min() > 1e-3
    assert fg.sample(flow, params, KEY, 6, cond=labels).shape == (6, 4, 4, 1)
    with pytest.raises(ValueError, match=r"3 classes needs labels \(batch,\) as cond; got None"):
        fg.log_prob(flow, params, x)


def test_every_trained_leaf_but_the_dead_ones_has_a_gradient():
    """The top prior's kernel multiplies zeros, as in the released code; all else must learn."""
    flow = fg.glow((8, 8, 3), levels=2, depth=2, width=6, permutation="plu")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 3)), jnp.float32)
    trained, constants = fg.split_trainable(perturb(fg.init(flow, KEY, x)))

    @jax.jit
    @jax.grad
    def gradient(trained):
        return jnp.mean(fg.log_prob(flow, fg.merge_trainable(trained, constants), x))

    still = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(gradient(trained))
        if not np.any(g)
    ]
    assert len(still) == 1
    assert still[0].endswith("['conv']['kernel']")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"event_shape": (12, 12, 3), "levels": 3}, "divisible by 2\\^levels = 8; got \\(12, 12, 3\\)"),
        ({"event_shape": (8,)}, r"event_shape must be \(height, width, channels\); got \(8,\)"),
        ({"levels": 0}, "levels"),
        ({"depth": 0}, "depth must be at least 1; got 0"),
        ({"coupling": "cubic"}, "coupling must be .* got 'cubic'"),
        ({"permutation": "none"}, "permutation must be .* got 'none'"),
        ({"learn_top": False, "num_classes": 10}, "num_classes needs learn_top"),
        ({"cond_channels": 3, "num_classes": 10}, "labels or channels; got both"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fg.glow(**{"event_shape": (8, 8, 3), **kwargs})


def test_data_of_the_wrong_shape_or_dtype_are_named():
    flow = fg.glow((8, 8, 3), levels=1, depth=1, width=4)
    with pytest.raises(ValueError, match=r"expected x of shape .*8, 8, 3.* got \(2, 8, 8, 1\)"):
        fg.init(flow, KEY, jnp.zeros((2, 8, 8, 1)))
