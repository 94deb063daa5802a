"""Numbers that cannot be silently wrong: products at the highest precision, sums in float32.

What a flow multiplies is told from what its networks multiply by a named scope. A conditioner is a
linen module that a bijector calls through `apply` and in no other way (bijectors/conditioner.py); here
`apply` opens a scope, which JAX carries along through derivatives, transposition and loops. All that is
outside it is the flow's own path. Networks may round as they like: a flow is exact whatever they
return, as long as they return it twice.
"""

import inspect
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, batch
from flax import linen as nn
from jax.extend.core import ClosedJaxpr, Jaxpr
from sklearn.datasets import load_digits

import flowjax_glow as fg
from flowjax_glow.models import MODELS
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.sharding import make_mesh, per_example
from flowjax_glow.training.drivers import make_driver
from flowjax_glow.training.state import init_state
from flowjax_glow.training.step import make_train_step

KEY = jax.random.key(0)
HIGHEST = jax.lax.Precision.HIGHEST
SCOPE = "inside_a_conditioner"
PRODUCTS = {"dot_general", "conv_general_dilated", "ragged_dot", "ragged_dot_general"}


@pytest.fixture
def scoped(monkeypatch):
    """Every conditioner's equations are in SCOPE."""
    apply = nn.Module.apply

    def in_scope(*args, **kwargs):
        with jax.named_scope(SCOPE):
            return apply(*args, **kwargs)

    monkeypatch.setattr(nn.Module, "apply", in_scope)


def equations(jaxpr, inside=False):
    """(equation, whether it is a conditioner's) of a jaxpr and of all that is nested in it."""
    for equation in jaxpr.eqns:
        conditioners = inside or SCOPE in str(equation.source_info.name_stack)
        yield equation, conditioners
        for nested in jaxprs_in(equation):
            yield from equations(nested, conditioners)


def jaxprs_in(equation):
    values = jax.tree.leaves(list(equation.params.values()))
    return [getattr(v, "jaxpr", v) for v in values if isinstance(v, (ClosedJaxpr, Jaxpr))]


def rounded_products(fn, *args):
    """The products in the flow's own path of fn(*args) that do not say HIGHEST."""
    return [
        str(equation)
        for equation, conditioners in equations(jax.make_jaxpr(fn)(*args).jaxpr)
        if equation.primitive.name in PRODUCTS
        and not conditioners
        and equation.params["precision"] not in (HIGHEST, (HIGHEST, HIGHEST))
    ]


def gradients(bijector, key=None):
    """The gradients of all that forward and inverse return: one trace holds the four of them."""

    def total(params, x, cond):
        z, logdet = bijector.forward(params, x, cond, key)
        results = z, logdet, bijector.inverse(params, z, cond, key)
        return sum((jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(results)), start=jnp.zeros(()))

    return jax.grad(total, argnums=(0, 1), allow_int=True)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("scoped")
def test_every_product_of_the_flows_own_path_says_highest(name):
    case = CASES[name]
    x, cond = batch(case, "float32")
    params = jax.eval_shape(case.bijector.init, KEY, x, cond)
    key = KEY if case.bijector.stochastic else None
    assert not rounded_products(gradients(case.bijector, key), params, x, cond)


@pytest.mark.parametrize("name", ["residual", "residual, image", "causal_affine"])
def test_where_a_network_runs_otherwise_on_the_way_back_its_products_say_highest_too(name):
    """A solver or a cache does not ask for the same products, and rounding them would not be undone."""
    case = CASES[name]
    x, cond = batch(case, "float32")
    params = jax.eval_shape(case.bijector.init, KEY, x, cond)
    for direction in (case.bijector.forward, case.bijector.inverse):
        assert not rounded_products(direction, params, x, cond)


@pytest.mark.usefixtures("scoped", "optax_promotes")
def test_so_does_every_product_of_a_training_step_on_all_devices():
    flow = fg.glow((4, 4, 1), levels=2, depth=2, width=4, memory="constant", permutation="plu")
    dequantizer, optimizer = fg.uniform_dequantizer(n_bins=17), optax.adam(1e-3)
    shapes = jax.eval_shape(flow.bijector.init, KEY, jnp.zeros((4, 4, 4, 1)))
    params = {"flow": jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes), "dequantizer": {}}
    step = make_train_step(flow, optimizer, dequantizer=dequantizer, accumulate=2)
    run = make_driver("shard_map", step, make_mesh())
    images = {"example": np.zeros((4, 4, 4, 1), np.uint8), "label": np.zeros(4, np.int32)}
    state = run.put_state(init_state(params, optimizer, KEY))
    assert not rounded_products(run.steps, state, run.put_batches([images]))


def careless(*, in_gradient):
    """x W, at the default precision; or at the highest, with a gradient that is not."""

    @jax.custom_vjp
    def product(x, w):
        return jnp.matmul(x, w, precision=HIGHEST)

    product.defvjp(
        lambda x, w: (product(x, w), (x, w)), lambda saved, bar: (bar @ saved[1].T, saved[0].T @ bar)
    )

    def map_(params, x, cond=None, key=None):
        del cond, key
        return (product if in_gradient else jnp.matmul)(x, params), jnp.zeros(x.shape[:1])

    def init(key, x, cond=None):
        del key, cond
        return jnp.eye(x.shape[-1])

    return fg.Bijector(init, map_, map_)


def on_devices(bijector):
    def forward(params, x, cond=None, key=None):
        del cond, key
        return per_example(bijector.forward, make_mesh())(params, x)

    return bijector._replace(forward=forward)


@pytest.mark.parametrize("in_gradient", [False, True])
@pytest.mark.parametrize(
    "inside",
    [
        lambda b: b,
        lambda b: fg.chain(b, fg.affine_coupling(partial(MLP, width=4))),
        lambda b: fg.repeat(b, 2),
        lambda b: fg.repeat(fg.repeat(b, 2, memory="recompute"), 2),
        lambda b: fg.repeat(b, 2, memory="constant"),
        lambda b: b._replace(forward=jax.jit(b.forward)),
        on_devices,
    ],
    ids=["alone", "chain", "scan", "checkpoint", "custom_vjp", "jit", "shard_map"],
)
@pytest.mark.usefixtures("scoped")
def test_a_product_at_another_precision_is_found_wherever_it_stands(inside, in_gradient):
    x = jnp.zeros((2, 4))
    for make, found in ((lambda: careless(in_gradient=in_gradient), True), (fg.invertible_conv, False)):
        bijector = inside(make())
        params = jax.eval_shape(bijector.init, KEY, x)
        assert bool(rounded_products(gradients(bijector), params, x, None)) == found


# Each model with a compute dtype, as small as it goes.
NARROW = {
    "ffjord": ((2,), {"width": 4, "hidden_layers": 1}),
    "glow": ((4, 4, 1), {"levels": 2, "depth": 1, "width": 4}),
    "glow, splines": ((4, 4, 1), {"levels": 1, "depth": 1, "width": 4, "coupling": "spline"}),
    "iaf": ((2,), {"depth": 1, "width": 4}),
    "jet": ((4, 4, 1), {"patch": 2, "width": 8, "heads": 2, "couplings": 2, "layers": 1}),
    "maf": ((2,), {"depth": 1, "width": 4}),
    "neural_spline_flow": ((2,), {"depth": 1, "width": 4, "blocks": 1}),
    "nice": ((4,), {"depths": (1, 1), "width": 4}),
    "tarflow": ((4, 4, 1), {"width": 8, "heads": 2, "blocks": 2, "layers": 1}),
}


def test_every_model_with_a_compute_dtype_is_here():
    with_dtype = {n for n, model in MODELS.items() if "dtype" in inspect.signature(model).parameters}
    assert {name.split(",")[0] for name in NARROW} == with_dtype


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.usefixtures("scoped")
def test_outside_the_networks_all_is_float32_where_they_compute_in_bfloat16(name):
    """Both ways, from data to log p: the sums of log-determinants and of the prior are among it."""
    shape, options = NARROW[name]
    flow = MODELS[name.split(",")[0]](shape, **options, dtype=jnp.bfloat16)
    x = jnp.zeros((2, *shape))
    params = jax.eval_shape(flow.bijector.init, KEY, x)

    def there_and_back(params, x):
        return fg.log_prob(flow, params, x), flow.bijector.inverse(params, fg.encode(flow, params, x))

    outside, inside = set(), set()
    for equation, conditioners in equations(jax.make_jaxpr(there_and_back)(params, x).jaxpr):
        dtypes = {str(out.aval.dtype) for out in equation.outvars} & {"float32", "bfloat16"}
        moves = equation.primitive.name in ("convert_element_type", "broadcast_in_dim")
        if conditioners:
            inside |= dtypes
        elif not moves and not jaxprs_in(equation):
            outside |= dtypes
    assert outside == {"float32"}
    assert "bfloat16" in inside


LEVELS = 17
SHAPE = (8, 8, 1)


def digits_glow(**options):
    return fg.glow(SHAPE, levels=2, depth=4, width=16, **options)


@pytest.fixture(scope="module")
def digits():
    """Handwritten digits, 8x8 with 17 levels."""
    return np.asarray(load_digits(return_X_y=True)[0]).reshape(-1, *SHAPE).astype(np.uint8)


@pytest.fixture(scope="module")
def unseen(digits):
    return digits[1280:][:512]


@pytest.fixture(scope="module")
def trained(digits):
    """Params of digits_glow after 150 steps of 64 images."""
    flow, images = digits_glow(), jnp.asarray(digits[:1280])
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    def loss(params, key):
        rows, noise = jax.random.split(key)
        x = fg.dequantize(noise, jax.random.choice(rows, images, (64,)), n_bins=LEVELS)
        return jnp.mean(fg.bits_per_dim(fg.log_prob(flow, params, x), SHAPE, n_bins=LEVELS))

    def step(carry, key):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    params = fg.init(flow, KEY, fg.dequantize(KEY, images[:256], n_bins=LEVELS))
    with jax.numpy_dtype_promotion("standard"):
        run = jax.jit(partial(jax.lax.scan, step))
        (params, _), values = run((params, optimizer.init(params)), jax.random.split(KEY, 150))
    assert values[-10:].mean() < values[0] - 0.5
    return params


@cache
def bits_of(dtype, **options):
    """(params, images, index) -> bits per dimension of each image, jitted; index is of the noise."""
    flow = digits_glow(dtype=dtype)

    def bits(params, images, index):
        x = fg.dequantize(KEY, images, n_bins=LEVELS, index=index)
        x = x.astype(jax.tree.leaves(params)[0].dtype)
        return fg.bits_per_dim(fg.log_prob(flow, params, x), SHAPE, n_bins=LEVELS)

    return jax.jit(bits, **options)


def in_batches(bits, params, images, size=64):
    """Of each image, the noise by its place among them."""
    index = np.arange(len(images))
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    return np.concatenate([bits(params, images[part], index[part]) for part in parts])


def test_networks_in_bfloat16_move_the_bits_of_a_dimension_by_less_than_a_hundredth(unseen, trained):
    of_float32 = in_batches(bits_of(None), trained, unseen)
    of_bfloat16 = in_batches(bits_of(jnp.bfloat16), trained, unseen)
    assert abs(of_bfloat16.mean() - of_float32.mean()) <= 0.01
    assert np.max(np.abs(of_bfloat16 - of_float32)) > 1e-4  # they did compute in it


def test_float32_is_within_a_ten_thousandth_of_float64(unseen, trained):
    of_float32 = in_batches(bits_of(None), trained, unseen)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), trained)
        of_float64 = in_batches(bits_of(None), params, unseen)
    assert of_float64.dtype == np.float64
    # Of every image, and so of their mean.
    assert 0 < np.max(np.abs(of_float32 - of_float64)) <= 1e-4


def test_a_permuted_batch_has_the_same_numbers_to_the_bit(unseen, trained):
    order = np.random.default_rng(0).permutation(64)
    as_they_are = bits_of(None)(trained, unseen[:64], np.arange(64))
    permuted = bits_of(None)(trained, unseen[:64][order], np.arange(64)[order])
    assert len(np.unique(as_they_are)) == 64
    np.testing.assert_array_equal(permuted, as_they_are[order])


def test_batches_of_1_8_and_64_give_the_same_bits_of_a_dimension(unseen, trained):
    """On 1 and on 8 devices: tests/test_evaluation.py."""
    one, eight, all_ = (in_batches(bits_of(None), trained, unseen[:64], size) for size in (1, 8, 64))
    assert np.ptp(one) > 0.1
    for values in (eight, all_):
        np.testing.assert_allclose(values, one, rtol=0, atol=1e-5)
