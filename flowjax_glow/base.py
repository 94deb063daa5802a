"""The contract: a bijector is three pure functions, as an optimizer in optax is two."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

# A pytree of arrays. Floating leaves are trained; integer leaves (permutations, signs, masks) are
# constants that travel with the checkpoint and receive no gradient. A floating leaf under a dict key
# RUNNING is a running statistic: its gradient is its difference from the batch's statistic, whatever
# the loss, and it follows that by an optimizer of its own (bijectors/batch_norm.py).
Params = Any
RUNNING = "running"

# An array with a leading batch axis, or a pytree of such arrays: images, vectors, latents, labels.
Batch = Any

LogDet = Float[Array, " batch"]
PRNGKey = Key[Array, ""]


class InitFn(Protocol):
    """Makes params for a batch: `init(key, x, cond) -> params`.

    x is a real batch on the data side, (batch, ...), and data-dependent initialisation is just a use
    of it. Pure: the same key and batch give the same params. Nothing is marked as initialised.
    """

    def __call__(self, key: PRNGKey, x: Batch, cond: Batch | None = None, /) -> Params: ...


class MapFn(Protocol):
    """One direction of a bijector: `(params, value, cond, key) -> (value, logdet)`.

    Args:
      params: what init returned, or what prepare made of it.
      value: array or pytree of arrays, (batch, *event) each: x for forward, z for inverse.
      cond: one optional pytree with a leading batch axis (labels, embeddings, images).
      key: for what is random inside the bijector, such as dropout in a conditioner. None means
        deterministic. The same key gives the same map in both directions.

    Returns:
      The mapped value, and the log |det Jacobian| of the map in the direction called: (batch,), in
      nats, one number an example. inverse's is forward's, negated.
    """

    def __call__(
        self, params: Params, value: Batch, cond: Batch | None = None, key: PRNGKey | None = None, /
    ) -> tuple[Batch, LogDet]: ...


class PrepareFn(Protocol):
    """Computes what depends on params alone: `prepare(params) -> params`.

    For instance a kernel's inverse and log-determinant. forward and inverse accept params prepared or
    not; preparing twice is preparing once. A combinator that loops prepares outside its loop, and a
    caller that samples many times prepares once.
    """

    def __call__(self, params: Params, /) -> Params: ...


def unprepared(params: Params, /) -> Params:
    """The prepare of a bijector that has nothing to compute ahead."""
    return params


class InverseAndVjpFn(Protocol):
    """Inverts, and takes the vjp of forward at the point that comes out.

    `(params, z, cond, key, z_bar, logdet_bar) -> (x, x_bar, params_bar, cond_bar)`

    What the backward pass of a map needs when nothing but its output was kept. Together the two cost
    less than one after the other: a chain goes through its bijectors once, and a coupling evaluates its
    network once. A bijector without one is inverted, and then differentiated at the result.

    Args:
      params: prepared ones, where the bijector has a prepare.
      z: forward's output. z_bar, logdet_bar: the cotangents of forward's two results.

    Returns:
      x, forward's input, and the cotangents of x, params and cond; in the last two None stands in the
      place of every leaf that is not floating.
    """

    def __call__(
        self,
        params: Params,
        z: Batch,
        cond: Batch | None,
        key: PRNGKey | None,
        z_bar: Batch,
        logdet_bar: LogDet,
        /,
    ) -> tuple[Batch, Batch, Params, Batch | None]: ...


class RebuildFn(Protocol):
    """Makes a bijector again of other parts: `rebuild(replace) -> bijector`.

    Every part that it is made of becomes `replace(place, part)`, which takes the part's params; place
    says where the part stands, and is "" where its kind tells that already. The result takes the
    bijector's own params, and is the same map where every replacement is. A loop over depths becomes
    one in Python, with a place and a replacement for each. So what happens inside a bijector can be
    looked at without knowing what it is: see layers.py.
    """

    def __call__(self, replace: Callable[[str, "Bijector"], "Bijector"], /) -> "Bijector": ...


class LogSlopesFn(Protocol):
    """log |d z_i / d x_i| of every number that is transformed: `(params, x, cond) -> log_slopes`.

    Their sum over the event is forward's logdet: the Jacobian is triangular.
    """

    def __call__(self, params: Params, x: Batch, cond: Batch | None = None, /) -> Array: ...


class Bijector(NamedTuple):
    """An invertible map with a tractable Jacobian, as pure functions closed over hyperparameters.

    forward is always data -> latent, so that training never inverts:
    log p(x) = log p(z) + logdet with z, logdet = forward(params, x).

    Axis 0 is the batch; the rest is the event, (height, width, channels) or (dim,). The functions run
    under jit, vmap, grad, pmap and shard_map, eagerly, and in float64. Build a bijector once and close
    over it: it is a pytree of functions, not something to pass to jit.

    prepare and inverse_and_vjp are optional, and for speed alone: see PrepareFn and InverseAndVjpFn.
    rebuild and log_slopes are, and for looking inside: the one is None of what is not made of other
    bijectors, the other where there are no slopes to tell.

    stochastic: whether logdet, where there is a key, is an unbiased estimate that depends on it; the
    value mapped to does not. Without a key logdet is exact, at a cost that may grow with the dimension.
    """

    init: InitFn
    forward: MapFn
    inverse: MapFn
    prepare: PrepareFn = unprepared
    inverse_and_vjp: InverseAndVjpFn | None = None
    stochastic: bool = False
    rebuild: RebuildFn | None = None
    log_slopes: LogSlopesFn | None = None


def inverse_and_vjp(
    bijector: Bijector,
    params: Params,
    z: Batch,
    cond: Batch | None,
    key: PRNGKey | None,
    z_bar: Batch,
    logdet_bar: LogDet,
) -> tuple[Batch, Batch, Params, Batch | None]:
    """The bijector's own inverse_and_vjp, or where it has none: its inverse, then forward's vjp."""
    if bijector.inverse_and_vjp is not None:
        return bijector.inverse_and_vjp(params, z, cond, key, z_bar, logdet_bar)
    x, _ = bijector.inverse(params, z, cond, key)
    trained, constants = split_trainable(params)
    cond, labels = split_trainable(cond)

    def forward(trained, x, cond):
        params = merge_trainable(trained, constants)
        return bijector.forward(params, x, merge_trainable(cond, labels), key)

    params_bar, x_bar, cond_bar = jax.vjp(forward, trained, x, cond)[1]((z_bar, logdet_bar))
    return x, x_bar, params_bar, cond_bar


def name_of(bijector: Bijector) -> str:
    """The name of the function that made a bijector, from that of its forward: "actnorm"."""
    forward = bijector.forward
    return getattr(forward, "__qualname__", type(forward).__name__).partition(".")[0]


def split_trainable(params: Params) -> tuple[Params, Params]:
    """Splits params into (trained, constants): floating leaves, and all others.

    Both have the structure of params with None where the leaf went to the other side, so that
    gradients, optimizers and averages run over the trained leaves alone.
    """
    trained = jax.tree.map(lambda p: p if is_trainable(p) else None, params)
    constants = jax.tree.map(lambda p: None if is_trainable(p) else p, params)
    return trained, constants


def merge_trainable(trained: Params, constants: Params) -> Params:
    """The inverse of split_trainable."""
    return jax.tree.map(
        lambda t, c: c if t is None else t, trained, constants, is_leaf=lambda p: p is None
    )


def is_trainable(leaf: Any) -> bool:
    """Whether a leaf of params is trained: whether its dtype is floating."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def is_running(path: tuple[Any, ...]) -> bool:
    """Whether a leaf of params at this path, as jax.tree_util gives it, is a running statistic."""
    return any(getattr(entry, "key", None) == RUNNING for entry in path)


def per_channel(vector: Float[Array, " channels"], x: Array) -> Array:
    """Shapes a (channels,) vector to broadcast over x, (batch, ..., channels)."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def check_batch(
    field: str,
    x: Any,
    *,
    kind: Any,
    event_shape: tuple[int, ...] | None = None,
    levels: int | None = None,
) -> None:
    """Whether x is an array of one example or more, (batch, *event).

    Of an array in the host's memory the values are looked at too, which must be finite, and in
    [0, levels) where there are levels. Those of a traced array cannot be, and those of an array on a
    device would have to come back first: they are looked at when a split is loaded.

    Args:
      field: what the caller calls x. kind: jnp.floating or jnp.integer.
      event_shape: None for any.

    Raises:
      ValueError: saying field, what was expected, and what it is.
    """
    shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
    if shape is None or dtype is None:
        raise ValueError(f"expected {field} to be an array; got a {type(x).__name__}")
    event = "*event" if event_shape is None else f"*{event_shape}"
    if len(shape) < 2 if event_shape is None else shape[1:] != event_shape:
        raise ValueError(f"expected {field} of shape (batch, {event}); got {shape}")
    if 0 in shape:
        raise ValueError(f"expected {field} with at least one example and one entry; got shape {shape}")
    if not jnp.issubdtype(dtype, kind):
        hint = "; see fg.dequantize" if jnp.issubdtype(dtype, jnp.integer) else ""
        raise ValueError(f"expected {field} of a dtype that is {kind.__name__}; got {dtype}{hint}")
    if not isinstance(x, np.ndarray):
        return
    if kind is jnp.floating and not np.isfinite(x).all():
        raise ValueError(f"expected {field} to be finite; got {_first(x, ~np.isfinite(x))}")
    if levels is not None and (x.min() < 0 or x.max() >= levels):
        raise ValueError(
            f"expected {field} in [0, {levels}), its levels; got {_first(x, (x < 0) | (x >= levels))}"
        )


def _first(x: np.ndarray, bad: np.ndarray) -> str:
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{x[place]} at {place}"


def image_shape(event_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The same event_shape, which must be (height, width, channels)."""
    if len(event_shape) != 3 or min(event_shape) < 1:
        raise ValueError(f"event_shape must be (height, width, channels); got {event_shape}")
    height, width, channels = event_shape
    return height, width, channels


def check_images(x: Array | np.ndarray) -> tuple[int, int, int, int]:
    """The shape of x, which must be (batch, height, width, channels)."""
    if x.ndim != 4:
        raise ValueError(f"x must be images, (batch, height, width, channels); got shape {x.shape}")
    batch, height, width, channels = x.shape
    return batch, height, width, channels


def check_vectors(x: Any) -> Any:
    """The same x, which must be (batch, dim)."""
    if x.ndim != 2:
        raise ValueError(f"x must be vectors, (batch, dim); got shape {x.shape}")
    return x


def split_channels(x: Array) -> tuple[Array, Array]:
    """The two halves of the channels of x, (batch, ..., channels); channels must be even."""
    if x.shape[-1] % 2:
        raise ValueError(f"channels must be even; got {x.shape[-1]} in shape {x.shape}")
    first, second = jnp.split(x, 2, axis=-1)
    return first, second


def distance(a: Array, b: Array) -> Array:
    """|a - b|, inf where that is not a number: XLA's max on a CPU passes over nan."""
    error = jnp.abs(a - b)
    return jnp.where(jnp.isnan(error), jnp.inf, error)


def sum_event(x: Array) -> LogDet:
    """The sum over everything but the batch axis: one number an example."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
