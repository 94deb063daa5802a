"""The contract: a bijector is three pure functions, as an optimizer in optax is two."""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# A pytree of arrays. Floating leaves are trained; integer leaves (permutations, signs, masks) are
# constants that travel with the checkpoint and receive no gradient.
Params = Any

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


class Bijector(NamedTuple):
    """An invertible map with a tractable Jacobian, as pure functions closed over hyperparameters.

    forward is always data -> latent, so that training never inverts:
    log p(x) = log p(z) + logdet with z, logdet = forward(params, x).

    Axis 0 is the batch; the rest is the event, (height, width, channels) or (dim,). The functions run
    under jit, vmap, grad, pmap and shard_map, eagerly, and in float64. Build a bijector once and close
    over it: it is a pytree of functions, not something to pass to jit.
    """

    init: InitFn
    forward: MapFn
    inverse: MapFn
    prepare: PrepareFn = unprepared


def per_channel(vector: Float[Array, " channels"], x: Array) -> Array:
    """Shapes a (channels,) vector to broadcast over x, (batch, ..., channels)."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def split_channels(x: Array) -> tuple[Array, Array]:
    """The two halves of the channels of x, (batch, ..., channels); channels must be even."""
    if x.shape[-1] % 2:
        raise ValueError(f"channels must be even; got {x.shape[-1]} in shape {x.shape}")
    first, second = jnp.split(x, 2, axis=-1)
    return first, second


def sum_event(x: Array) -> LogDet:
    """The sum over everything but the batch axis: one number an example."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
