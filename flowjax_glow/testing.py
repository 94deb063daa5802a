"""Whether a bijector is what it claims: invertible, with the log-determinant of its own Jacobian.

check_bijector(my_bijector(), x) proves it for one batch, in double precision, and says what it
measured. The library's own suite runs it over every bijector and every model.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowjax_glow.base import (
    Batch,
    Bijector,
    Params,
    inverse_and_vjp,
    is_running,
    is_trainable,
    merge_trainable,
    split_trainable,
)

# Float32 against float64: nats a dimension, and a few roundings of numbers up to about 10, each 2^-24
# of its size, at every step of a chain.
_FLOAT32_NATS = 1e-5
_FLOAT32_VALUE = 5e-5


class Report(NamedTuple):
    """What check_bijector measured: the largest errors over the batch.

    round_trip_error: of x and of z, in float64. logdet_error: against slogdet of the autodiff Jacobian,
    nats, both directions, float64. float32_logdet_error: float32 against float64, nats a dimension.
    standard_error: of one draw of an estimated logdet, nats; 0 where it is exact.
    """

    round_trip_error: float
    logdet_error: float
    float32_logdet_error: float
    standard_error: float


def check_bijector(
    bijector: Bijector,
    x: Batch,
    cond: Batch | None = None,
    *,
    params: Params | None = None,
    tolerance: float = 1e-9,
    float32_value: float = _FLOAT32_VALUE,
    draws: int = 10_000,
) -> Report:
    """Checks all that the contract of base.py promises, and raises on the first promise not kept.

    In float64, by autodiff and in both directions: round trips; logdet of each example against its own
    Jacobian's; inverse's logdet against forward's, negated; params prepared and not; inverse_and_vjp
    against an ordinary vjp; that init is a pure function of key and batch. Then in float32: dtypes,
    distance from float64, jit against eager, vmap against the batch. Where the bijector is stochastic,
    the mean of `draws` estimates is within 4 standard errors of the exact log-determinant.

    The Jacobian is (dim, dim) an example: use small events, and at least two examples, since a logdet
    that is summed over the batch looks right in a batch of one.

    Args:
      bijector: to be checked.
      x: a batch on the data side, (batch, *event). cond: as the bijector wants it.
      params: to be used as they are. None: those of init with noise on every trained leaf, because an
        initialisation near the identity hides mistakes.
      tolerance: of values and logdets in float64; more for an inverse that iterates.
      float32_value: how far float32 may be from float64 in value, and from x after a round trip.
      draws: of a stochastic bijector's estimate.

    Raises:
      AssertionError: naming the promise, the largest error and its place.
      ValueError: for a batch of one, and whatever the bijector raises of x and cond.
    """
    batch = jax.tree.leaves(x)[0].shape[0]
    if batch < 2:
        raise ValueError(f"x must hold at least 2 examples; got {batch}")
    with jax.enable_x64(True):
        x, cond = jax.tree.map(_cast(jnp.float64), (x, cond))
        if params is None:
            params = perturb(_check_init(bijector, x, cond))
        params = jax.tree.map(_cast(jnp.float64), params)
        z, logdet, round_trip = _check_round_trips(bijector, params, x, cond, tolerance)
        jacobian = _check_jacobians(bijector, params, x, z, cond, logdet, tolerance)
        _check_prepare(bijector, params, x, z, cond, logdet, tolerance)
        _check_inverse_and_vjp(bijector, params, x, cond, tolerance)
        spread = 0.0
        if bijector.stochastic:
            spread = _check_estimate(bijector, params, x, z, cond, logdet, draws)
        z, logdet = np.asarray(flat(z)), np.asarray(logdet)
        params, x, cond = jax.tree.map(_cast(jnp.float32), (params, x, cond))
    nats = _check_float32(bijector, params, x, cond, z, logdet, float32_value)
    return Report(round_trip, jacobian, nats, spread)


def perturb(params: Params, scale: float = 0.04, seed: int = 0) -> Params:
    """Params with normal noise of deviation `scale` on every trained leaf but running statistics."""
    rng = np.random.default_rng(seed)  # compiles nothing

    def noisy(path, leaf):
        if is_running(path):
            return leaf
        return leaf + jnp.asarray(rng.normal(scale=scale, size=leaf.shape), leaf.dtype)

    trained, constants = split_trainable(params)
    return merge_trainable(jax.tree_util.tree_map_with_path(noisy, trained), constants)


def flat(value: Batch) -> jax.Array:
    """An array or a pytree of arrays as one row an example, (batch, numbers)."""
    leaves = jax.tree.leaves(value)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def _cast(dtype):
    return lambda leaf: jnp.asarray(leaf, dtype) if is_trainable(leaf) else jnp.asarray(leaf)


def _near(what: str, actual: Any, expected: Any, tolerance: float) -> float:
    """The largest difference; an AssertionError where it passes the tolerance."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:
        raise AssertionError(f"{what}: shape {actual.shape}, expected {expected.shape}")
    if not actual.size:
        return 0.0
    error = np.abs(actual - expected)
    if not np.all(error <= tolerance):  # also where it is nan
        at = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
        raise AssertionError(
            f"{what}: off by {error[at]:.3g}, where {tolerance:.3g} is allowed; got {actual[at]:.9g}, "
            f"expected {expected[at]:.9g}, at {tuple(map(int, at))} of {error.shape}"
        )
    return float(error.max())


def _check_init(bijector, x, cond):
    init = jax.jit(bijector.init)
    params, again = init(jax.random.key(0), x, cond), init(jax.random.key(0), x, cond)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        _near("init called twice with one key and batch", a, b, 0.0)
    return params


def _check_round_trips(bijector, params, x, cond, tolerance):
    forward, inverse = jax.jit(bijector.forward), jax.jit(bijector.inverse)
    z, logdet = forward(params, x, cond)
    back, inverse_logdet = inverse(params, z, cond)
    there, _ = forward(params, back, cond)
    zeros = np.zeros(jax.tree.leaves(x)[0].shape[0])
    _near("logdet is one number an example", logdet * 0, zeros, 0.0)
    error = max(
        _near("inverse(forward(x)) against x", flat(back), flat(x), tolerance),
        _near("forward(inverse(z)) against z", flat(there), flat(z), tolerance),
    )
    _near("inverse's logdet against forward's, negated", inverse_logdet, -logdet, tolerance)
    return z, logdet, error


def _check_jacobians(bijector, params, x, z, cond, logdet, tolerance):
    """Each example alone, by vmap: its Jacobian, and that it comes out as it does in the batch."""
    errors = []
    for name, fn, value, out, expected in (
        ("forward", bijector.forward, x, z, logdet),
        ("inverse", bijector.inverse, z, x, -logdet),
    ):

        def alone(v, c, fn=fn):
            def flattened(v):
                out, logdet = fn(params, *jax.tree.map(lambda a: a[None], (v, c)))
                return flat(out)[0], (flat(out)[0], logdet[0])

            jacobian, (out, logdet) = jax.jacrev(flattened, has_aux=True)(v)
            rows = jax.tree.map(lambda j: j.reshape(len(out), -1), jacobian)
            return jnp.concatenate(jax.tree.leaves(rows), axis=1), out, logdet

        jacobians, outs, logdets = jax.jit(jax.vmap(alone))(value, cond)
        rows, columns = jacobians.shape[1:]
        if rows != columns:
            raise AssertionError(f"a bijector keeps the number of dimensions; got {columns} -> {rows}")
        log_abs_det = np.linalg.slogdet(np.asarray(jacobians))[1]
        _near(f"{name} of each example alone, by vmap, against the batch", outs, flat(out), tolerance)
        _near(f"{name}'s logdet of each example alone, by vmap", logdets, expected, tolerance)
        errors.append(
            _near(f"logdet of {name} against its Jacobian's", expected, log_abs_det, tolerance)
        )
    return max(errors)


def _check_prepare(bijector, params, x, z, cond, logdet, tolerance):
    if not jax.tree.leaves(params):
        return
    prepare = jax.jit(bijector.prepare)
    prepared = prepare(params)
    if jax.tree.structure(prepared) == jax.tree.structure(params):
        for a, b in zip(jax.tree.leaves(prepared), jax.tree.leaves(params), strict=True):
            _near("prepare, which adds nothing, but changes params", a, b, 0.0)
        return

    @jax.jit
    def use(prepared):
        to_z, to_logdet = bijector.forward(prepared, x, cond)
        to_x, _ = bijector.inverse(prepared, z, cond)
        return bijector.prepare(prepared), to_z, to_logdet, to_x

    twice, to_z, to_logdet, to_x = use(prepared)
    for a, b in zip(jax.tree.leaves(prepared), jax.tree.leaves(twice), strict=True):
        _near("prepare called twice", a, b, 0.0)
    _near("forward with prepared params", flat(to_z), flat(z), tolerance)
    _near("inverse with prepared params", flat(to_x), flat(x), tolerance)
    _near("logdet with prepared params", to_logdet, logdet, tolerance)


def _check_inverse_and_vjp(bijector, params, x, cond, tolerance):
    if bijector.inverse_and_vjp is None:
        return  # then it is by definition the inverse, and the vjp
    trained, constants = split_trainable(bijector.prepare(params))
    cond, labels = split_trainable(cond)

    def forward(trained, x, cond):
        params = merge_trainable(trained, constants)
        return bijector.forward(params, x, merge_trainable(cond, labels))

    @jax.jit
    def both(trained, x, cond):
        (z, logdet), vjp = jax.vjp(forward, trained, x, cond)
        bars = jax.tree.map(jnp.cos, z), jnp.arange(1.0, len(logdet) + 1, dtype=logdet.dtype)
        params = merge_trainable(trained, constants)
        found = inverse_and_vjp(bijector, params, z, merge_trainable(cond, labels), None, *bars)
        params_bar, x_bar, cond_bar = vjp(bars)
        return found, (x, x_bar, params_bar, cond_bar)

    names = ("x", "the cotangent of x", "the cotangent of params", "the cotangent of cond")
    for name, actual, expected in zip(names, *both(trained, x, cond), strict=True):
        for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            size = max(1.0, float(np.max(np.abs(b), initial=0.0)))
            _near(f"inverse_and_vjp, {name}", a / size, b / size, tolerance)


def _check_estimate(bijector, params, x, z, cond, logdet, draws):
    """The standard deviation of one draw, the largest of the batch."""

    @functools.partial(jax.jit, static_argnums=0)
    def drawn(fn, value):
        keys = jax.random.split(jax.random.key(1), draws)
        return jax.lax.map(lambda k: fn(params, value, cond, k)[1], keys, batch_size=min(draws, 500))

    estimates, opposite = drawn(bijector.forward, x), drawn(bijector.inverse, z)
    _near("inverse's estimate against forward's with the same key", opposite, -estimates, 1e-4)
    spread = np.std(estimates, axis=0, ddof=1)
    if not np.all(spread > 1e-9):
        raise AssertionError("a stochastic bijector's logdet depends on the key; this one's does not")
    errors = (np.mean(estimates, axis=0) - logdet) / (spread / np.sqrt(draws))
    _near(f"mean of {draws} estimates of logdet, in standard errors", errors, 0.0 * errors, 4.0)
    return float(spread.max())


def _check_float32(bijector, params, x, cond, z64, logdet64, value):
    @jax.jit
    def there_and_back(params, x, cond):
        z, logdet = bijector.forward(params, x, cond)
        return z, logdet, bijector.inverse(params, z, cond)[0]

    z, logdet, back = there_and_back(params, x, cond)
    for name, leaf in (("z", z), ("logdet", logdet), ("x", back)):
        dtypes = {str(a.dtype) for a in jax.tree.leaves(leaf)}
        if dtypes != {"float32"}:
            raise AssertionError(f"{name} of a float32 batch must be float32; got {sorted(dtypes)}")
    dims = flat(x).shape[1]
    _near("z in float32 against float64", flat(z), z64, value)
    _near("inverse(forward(x)) against x, float32", flat(back), flat(x), value)
    nats = _near("logdet in float32, nats a dimension", logdet / dims, logdet64 / dims, _FLOAT32_NATS)

    z, eager = bijector.forward(params, x, cond)
    _near("eager against jit, z", flat(z), z64, value)
    _near("eager against jit, logdet in nats a dimension", eager / dims, logdet / dims, _FLOAT32_NATS)
    return nats
