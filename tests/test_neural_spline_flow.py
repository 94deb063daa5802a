"""The neural spline flow on vectors: its size, how it starts, and that it learns."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import perturb

import flowjax_glow as fg

KEY = jax.random.key(0)


def _layers(*sizes):
    return sum(a * b + b for a, b in pairwise(sizes))


def test_trained_parameters():
    """POWER: 6 dimensions, 10 steps, 2 blocks of 256, 8 bins."""
    flow = fg.neural_spline_flow((6,))
    x = jax.ShapeDtypeStruct((2, 6), jnp.float32)
    params = jax.eval_shape(flow.bijector.init, KEY, x, None)
    conditioner = _layers(3, 256, 3 * 23) + 2 * _layers(256, 256, 256)
    assert fg.count_parameters(params) == 10 * (6 * 6 + conditioner) + 6 * 6


def test_it_starts_as_a_rotation():
    flow = fg.neural_spline_flow((4,), depth=3, width=8)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
    z, logdet = jax.jit(flow.bijector.forward)(fg.init(flow, KEY, x), x)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), np.linalg.norm(x, axis=1), rtol=1e-4)
    np.testing.assert_allclose(logdet, 0, atol=1e-4)


@pytest.mark.usefixtures("optax_promotes")
def test_it_learns_two_bumps_that_no_linear_map_makes_normal():
    flow = fg.neural_spline_flow((2,), depth=2, width=16, blocks=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 2)) * [0.2, 1.0] + np.outer(rng.choice([-1.0, 1.0], 512), [1.0, 0.0])
    x = jnp.asarray(x, jnp.float32)
    params, constants = fg.split_trainable(fg.init(flow, KEY, x))
    optimizer = optax.adam(5e-3)

    def loss(params):
        return -jnp.mean(fg.log_prob(flow, fg.merge_trainable(params, constants), x))

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, optimizer.init(params)), length=150)[1]

    losses = train(params)
    normal = -np.mean(np.sum(-0.5 * (np.square(x) + np.log(2 * np.pi)), axis=1))
    entropy = np.log(0.2) + np.log(2 * np.pi * np.e) + np.log(2.0)  # of the bumps, which hardly overlap
    assert losses[0] == pytest.approx(normal, abs=1e-3)
    assert losses[-1] < entropy + 0.15


def test_gradients_are_finite_where_the_conditioners_are_extreme():
    flow = fg.neural_spline_flow((4,), depth=2, width=8, blocks=1)
    x = jnp.asarray([[-1e4, 3.0, -3.0, 1e4], [0.0, 0.0, 1e-30, 0.0]])
    trained, constants = fg.split_trainable(perturb(fg.init(flow, KEY, x), scale=3.0))
    gradient = jax.jit(
        jax.grad(lambda p, x: jnp.sum(fg.log_prob(flow, fg.merge_trainable(p, constants), x)), (0, 1))
    )(trained, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"event_shape": (5,)}, r"must be \(dim,\) with dim even; got \(5,\)"),
        ({"event_shape": (4, 4, 3)}, r"must be \(dim,\) with dim even; got \(4, 4, 3\)"),
        ({"depth": 0}, "depth must be at least 1; got 0"),
        ({"bins": 1}, "bins must be at least 2 .* got 1"),
        ({"bound": 0.0}, "bound must be positive; got 0.0"),
        ({"memory": "none"}, "memory must be one of .* got 'none'"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fg.neural_spline_flow(**{"event_shape": (4,), **kwargs})


def test_a_conditioner_that_needs_cond_says_so():
    flow = fg.neural_spline_flow((4,), depth=1, width=8, cond_channels=2)
    with pytest.raises(ValueError, match="needs cond; got None"):
        fg.init(flow, KEY, jnp.zeros((2, 4)))


def test_dropout_takes_a_key():
    flow = fg.neural_spline_flow((4,), depth=1, width=8, dropout=0.5)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    params = perturb(fg.init(flow, KEY, x), scale=0.3)
    draw = jax.jit(partial(fg.log_prob, flow, params, x, None))
    assert np.any(draw(jax.random.key(1)) != draw(jax.random.key(2)))
    np.testing.assert_array_equal(draw(jax.random.key(1)), draw(jax.random.key(1)))
