"""memory="constant": the gradients of "stored", in memory that does not grow with depth."""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import conv_net, perturb
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

import flowjax_glow as fg
from flowjax_glow.base import inverse_and_vjp
from flowjax_glow.depth import MEMORY
from flowjax_glow.nets.convnet import ConvNet

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 4, 4)), jnp.float32)
step = fg.chain(fg.actnorm(), fg.invertible_conv(), fg.shuffle(), fg.affine_coupling(conv_net))


def assert_close(actual: Any, expected: Any, tolerance: float) -> None:
    """Leaf by leaf, as a share of the largest entry of the expected leaf."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max()),
        actual,
        expected,
    )


@functools.cache
def made(memory: str) -> tuple[fg.Bijector, Any]:
    """A repeat and perturbed params, the same for every memory."""
    bijector = fg.repeat(step, 3, memory=memory)
    with jax.ensure_compile_time_eval():  # also where it is first asked for in a trace
        return bijector, perturb(jax.jit(bijector.init)(KEY, X))


def loss(bijector, params, x, cond=None, key=None):
    z, logdet = bijector.forward(params, x, cond, key)
    return jnp.mean(z**2) - jnp.mean(jnp.sin(logdet))


def grads(memory: str, *args: Any) -> Any:
    bijector, params = made(memory)
    return jax.grad(partial(loss, bijector), argnums=(0, 1), allow_int=True)(params, X, *args)


def trained(tree: Any) -> Any:
    return jax.tree.map(lambda a: None if a.dtype == jax.dtypes.float0 else a, tree)


@pytest.mark.parametrize("make_coupling", [fg.affine_coupling, fg.additive_coupling])
def test_a_coupling_evaluates_its_network_once_on_the_way_back(make_coupling):
    calls = []

    class Counted(nn.Module):
        out_channels: int

        @nn.compact
        def __call__(self, h, cond=None, deterministic=True):
            calls.append(h)
            return conv_net(self.out_channels)(h, cond, deterministic)

    coupling = make_coupling(Counted)
    params = coupling.init(KEY, X)
    calls.clear()
    jax.make_jaxpr(partial(inverse_and_vjp, coupling))(params, X, None, None, X, jnp.ones(8))
    assert len(calls) == 1


def test_temporaries_do_not_grow_with_depth():
    def temporaries(memory, depth):
        bijector = fg.repeat(fg.chain(fg.actnorm(), fg.affine_coupling(conv_net)), depth, memory=memory)
        x = jax.ShapeDtypeStruct((64, 8, 8, 4), jnp.float32)
        params = jax.eval_shape(bijector.init, KEY, x)
        gradient = jax.jit(jax.grad(partial(loss, bijector)))
        analysis: Any = gradient.lower(params, x).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    assert temporaries("constant", 32) < 1.05 * temporaries("constant", 4)
    assert temporaries("stored", 32) > 2 * temporaries("stored", 4)


def test_gradients_of_params_inputs_and_cond():
    class Conditioned(nn.Module):
        out_channels: int

        @nn.compact
        def __call__(self, h, cond: Any = None, deterministic=True):
            del deterministic
            scale = cond["scale"] + cond["label"].astype(jnp.float32)
            return jnp.tanh(nn.Dense(self.out_channels)(h)) * scale[:, None, None, None]

    cond = {"scale": X[:, 0, 0, 0], "label": jnp.arange(8) // 3}
    results = {}
    for memory in ("stored", "constant"):
        block = fg.chain(fg.shuffle(), fg.affine_coupling(Conditioned))
        bijector = fg.repeat(fg.repeat(block, 2, memory=memory), 2, memory=memory)
        params = perturb(jax.jit(bijector.init)(KEY, X, cond))
        gradient = jax.grad(partial(loss, bijector), argnums=(0, 1, 2), allow_int=True)
        results[memory] = trained(jax.jit(gradient)(params, X, cond))
    assert np.abs(results["stored"][2]["scale"]).min() > 0
    assert_close(results["constant"], results["stored"], 1e-5)


def test_integer_leaves_get_float0():
    params_bar, _ = jax.jit(partial(grads, "constant"))()
    kinds = jax.tree.map(lambda a: a.dtype, params_bar[2])
    assert kinds == {"permutation": jax.dtypes.float0}


@pytest.mark.parametrize("key", [None, jax.random.key(5)])
def test_under_jit_with_and_without_dropout(key):
    net = partial(ConvNet, width=8, dropout=0.5)
    block = fg.chain(fg.actnorm(), fg.affine_coupling(net), fg.reverse())
    results = []
    for memory in MEMORY:
        bijector = fg.repeat(block, 3, memory=memory)
        params = perturb(jax.jit(bijector.init)(KEY, X))
        gradient = jax.jit(jax.grad(partial(loss, bijector), argnums=(0, 1)))
        results.append(gradient(params, X, None, key))
    assert_close(results[1], results[0], 1e-5)
    assert_close(results[2], results[0], 1e-5)


def test_the_gradient_of_the_inverse():
    results = []
    for memory in ("stored", "constant"):
        bijector, params = made(memory)
        gradient = jax.grad(partial(loss, fg.invert(bijector)), argnums=(0, 1), allow_int=True)
        results.append(trained(jax.jit(gradient)(params, X)))
    assert_close(results[1], results[0], 1e-5)


def per_example(memory):
    bijector, params = made(memory)
    return jax.vmap(jax.grad(lambda x: loss(bijector, params, x[None])))(X)


def of_vmap(memory):
    bijector, params = made(memory)
    return jax.grad(lambda x: jnp.sum(jax.vmap(lambda x: loss(bijector, params, x[None]))(x)))(X)


def of_scan(memory):
    bijector, params = made(memory)
    return jax.grad(
        lambda x: jax.lax.scan(lambda c, _: (bijector.forward(params, c)[0], None), x, length=2)[
            0
        ].sum()
    )(X)


def of_checkpoint(memory):
    bijector, params = made(memory)
    return jax.grad(jax.checkpoint(lambda x: loss(bijector, params, x)))(X)


def of_grad(memory):
    bijector, params = made(memory)
    gradient = jax.grad(lambda x: loss(bijector, params, x))
    return jax.grad(lambda x: jnp.sum(jnp.sin(gradient(x))))(X)


def forward_over_reverse(memory):
    bijector, params = made(memory)
    gradient = jax.grad(lambda x: loss(bijector, params, x))
    return jax.jvp(gradient, (X,), (jnp.cos(X),))[1]


@pytest.mark.parametrize(
    "way", [per_example, of_vmap, of_scan, of_checkpoint, of_grad, forward_over_reverse]
)
def test_under_transformations(way):
    assert_close(
        jax.jit(way, static_argnums=0)("constant"), jax.jit(way, static_argnums=0)("stored"), 2e-5
    )


def by_pmap(gradient, x):
    stacked = jax.pmap(gradient)(x.reshape(2, 4, *x.shape[1:]))
    return jax.tree.map(lambda a: a.mean(0), stacked)


def by_shard_map(gradient, x):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def mean(x):
        return jax.lax.pmean(gradient(x), "data")

    spec = PartitionSpec("data")
    return jax.jit(
        jax.shard_map(mean, mesh=mesh, in_specs=spec, out_specs=PartitionSpec(), check_vma=False)
    )(x)


def by_named_sharding(gradient, x):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.jit(gradient)(jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))))


@pytest.mark.parametrize("driver", [by_pmap, by_shard_map, by_named_sharding])
def test_under_every_driver(driver):
    def of_params(memory, x):
        bijector, params = made(memory)
        floats, constants = fg.split_trainable(params)
        return jax.grad(lambda p: loss(bijector, fg.merge_trainable(p, constants), x))(floats)

    assert_close(
        driver(partial(of_params, "constant"), X), jax.jit(partial(of_params, "stored"))(X), 2e-5
    )


def test_a_multi_scale_model_in_float64(float64):
    del float64
    flows = [fg.glow((4, 4, 3), levels=2, depth=2, width=6, memory=m) for m in ("stored", "constant")]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 4, 3)))
    params = perturb(fg.init(flows[0], KEY, x))

    def gradient(flow):
        return jax.jit(jax.grad(lambda p, x: fg.log_prob(flow, p, x).mean(), argnums=(0, 1)))(params, x)

    stored, constant = map(gradient, flows)
    assert stored[1].dtype == jnp.float64
    assert_close(constant, stored, 1e-9)


@pytest.mark.slow
def test_rounding_errors_at_depth_32_are_at_most_one_and_a_half_times_those_of_stored():
    data = np.random.default_rng(1).uniform(-0.5, 0.5, size=(8, 8, 8, 3))
    flows = {
        m: fg.glow((8, 8, 3), levels=1, depth=32, width=16, memory=m) for m in ("stored", "constant")
    }
    at_init = fg.init(flows["stored"], KEY, jnp.asarray(data, np.float32))

    def gradient(flow):
        return jax.jit(jax.grad(lambda p, x: fg.log_prob(flow, p, x).mean(), argnums=(0, 1)))

    gradients = {memory: gradient(flow) for memory, flow in flows.items()}

    def error(actual, expected):
        return optax.tree.norm(optax.tree.sub(actual, expected)) / optax.tree.norm(expected)

    for params in (at_init, perturb(at_init, 0.02)):
        with jax.enable_x64(True):
            args = jax.tree.map(lambda a: jnp.asarray(a, np.float64), (params, data))
            exact = jax.tree.map(np.asarray, gradients["stored"](*args))
        actual = {m: gradients[m](params, jnp.asarray(data, np.float32)) for m in flows}
        for i in range(2):  # of params, of inputs
            errors = {m: error(*jax.tree.map(np.asarray, (actual[m][i], exact[i]))) for m in flows}
            assert 0 < errors["constant"] <= 1.5 * errors["stored"]


def test_gradients_are_nan_where_the_rebuilt_input_is_wrong():
    def inverse(params, z, cond=None, key=None):
        x, logdet = fg.actnorm().inverse(params, z, cond, key)
        return x + 0.01, logdet

    crooked = fg.actnorm()._replace(inverse=inverse)
    params = jax.jit(fg.repeat(crooked, 2).init)(KEY, X)

    def gradient(**kwargs):
        bijector = fg.repeat(crooked, 2, memory="constant", **kwargs)
        return jax.grad(partial(loss, bijector), argnums=(0, 1))(params, X)

    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(gradient()))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(tolerance=0.2)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(tolerance=None)))


@pytest.mark.parametrize("jit", [jax.jit, lambda f: f])
def test_a_closed_over_tracer_is_an_error(jit):
    def closed_over(scale):
        def forward(params, x, cond=None, key=None):
            del params, cond, key
            return x * scale, jnp.full((x.shape[0],), x[0].size) * jnp.log(scale)

        block = fg.actnorm()._replace(forward=forward)
        bijector = fg.repeat(block, 2, memory="constant")
        return loss(bijector, jax.tree.map(lambda a: jnp.stack([a] * 2), block.init(KEY, X)), X)

    with pytest.raises(ValueError, match=r"close over no traced value.*hand it over as cond"):
        jit(jax.grad(closed_over))(2.0)


def jacobian(f, x):
    return jax.jacfwd(f)(x)


def jacobian_of_jit(f, x):
    return jax.jacfwd(jax.jit(f))(x)


def jit_of_jvp(f, x):
    return jax.jit(lambda x: jax.jvp(f, (x,), (x,))[1])(x)


def vmap_of_jvp(f, x):
    return jax.vmap(lambda x: jax.jvp(f, (x[None],), (x[None],))[1])(x)


@pytest.mark.parametrize("way", [jacobian, jacobian_of_jit, jit_of_jvp, vmap_of_jvp])
def test_forward_mode_is_an_error_that_says_what_to_do(way):
    bijector, params = made("constant")
    with pytest.raises(TypeError, match=r"no forward-mode derivative.*memory='stored'"):
        way(lambda x: bijector.forward(params, x)[0], X)


def test_forward_mode_of_stored():
    bijector, params = made("stored")
    slope = jax.jit(jax.jacfwd(lambda s: bijector.forward(params, s * X)[1]))(1.0)
    eps = 1e-2
    difference = [bijector.forward(params, (1 + e) * X)[1] for e in (-eps, eps)]
    np.testing.assert_allclose(slope, (difference[1] - difference[0]) / (2 * eps), rtol=0.02, atol=0.02)
