"""log p(x) by level: the definition, and that the levels add up whatever the model is made of."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax_glow as fg
from flowjax_glow.flow import latent_shapes
from flowjax_glow.levels import log_prob_by_level

KEY = jax.random.key(0)


def _stretched(factors):
    """By each factor in turn, half of the channels leaving after each but the last."""
    first, *rest = factors

    def forward(params, x, cond=None, key=None):
        del params, cond, key
        return first * x, jnp.full(x.shape[:1], x[0].size * math.log(first), x.dtype)

    def init(key, x, cond=None):
        del key, x, cond
        return {}

    stretch = fg.Bijector(init, forward, forward)
    return fg.chain(stretch, fg.factor_out(_stretched(rest))) if rest else stretch


def test_a_log_determinant_is_shared_equally_by_what_goes_through():
    bijector = _stretched([2.0, 3.0, 5.0])
    flow = fg.Flow(bijector, fg.standard_normal(), (2, 2, 4))
    x = jax.random.normal(KEY, (3, 2, 2, 4))
    params = fg.init(flow, KEY, x)
    terms = log_prob_by_level(flow, params, x)
    parts = [x[..., 2:], x[..., 1:2], x[..., :1]]
    for term, part, factor in zip(terms, parts, (2.0, 6.0, 30.0), strict=True):
        z = np.asarray(factor * part, np.float64).reshape(3, -1)
        expected = (-0.5 * (z**2 + math.log(2 * math.pi)) + math.log(factor)).sum(1)
        np.testing.assert_allclose(term, expected, rtol=1e-5)


@pytest.mark.usefixtures("float64")
def test_the_levels_add_up_to_the_whole():
    glow = fg.glow((8, 8, 1), levels=3, depth=2, width=4)
    logit = fg.logit(margin=0.05, low=-0.5, high=0.5)
    flow = glow._replace(bijector=fg.chain(logit, glow.bijector))
    x = jax.random.uniform(KEY, (3, *flow.event_shape), minval=-0.5, maxval=0.5)
    like = jax.eval_shape(lambda x: fg.init(flow, KEY, x), x)
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(KEY, len(leaves))
    # Not those of init, under which the learned parts of the prior are zero.
    drawn = [
        jax.random.uniform(k, p.shape, p.dtype, 0.1, 0.3) for k, p in zip(keys, leaves, strict=True)
    ]
    params = structure.unflatten(drawn)
    both = jax.jit(lambda p, x: (log_prob_by_level(flow, p, x), fg.log_prob(flow, p, x)))
    terms, whole = both(params, x)
    assert len(terms) == len(latent_shapes(flow, params, 3))
    assert float(jnp.abs(terms[0] - terms[1]).min()) > 1e-3
    np.testing.assert_allclose(sum(terms), whole, rtol=1e-10)


def test_one_level_is_the_whole():
    flow = fg.Flow(_stretched([2.0]), fg.standard_normal(), (4,))
    x = jnp.ones((2, 4))
    (term,) = log_prob_by_level(flow, {}, x)
    np.testing.assert_array_equal(term, fg.log_prob(flow, {}, x))


def test_a_loop_over_depths_stays_one():
    def size(depth):
        flow = fg.glow((4, 4, 1), levels=2, depth=depth, width=4)
        x = jnp.zeros((2, 4, 4, 1))
        params = jax.eval_shape(lambda x: fg.init(flow, KEY, x), x)
        return len(str(jax.make_jaxpr(lambda p: log_prob_by_level(flow, p, x))(params)))

    assert size(8) < 1.1 * size(2)


def test_latents_in_a_tuple_of_ones_own_are_refused():
    def forward(params, x, cond=None, key=None):
        del params, cond, key
        return (x[..., :1], x[..., 1:]), jnp.zeros(x.shape[:1])

    bijector = fg.Bijector(lambda *_: {}, forward, forward)
    flow = fg.Flow(bijector, fg.standard_normal(), (2,))
    with pytest.raises(ValueError, match="must be made by factor_out; got 2 latents of 1 levels"):
        log_prob_by_level(flow, {}, jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"expected x of shape \(batch, \*\(2,\)\); got \(1, 3\)"):
        log_prob_by_level(flow, {}, jnp.zeros((1, 3)))
