"""Bijectors made of bijectors: chain, invert, repeat, factor_out; and the split of their params."""

from typing import Any

import jax
import jax.numpy as jnp

from flowjax_glow.base import Batch, Bijector, Params, PRNGKey, split_channels

MEMORY = ("stored", "recompute")


def _fold(key: PRNGKey | None, index: Any) -> PRNGKey | None:
    return None if key is None else jax.random.fold_in(key, index)


def _zero_logdet(x: Batch) -> jax.Array:
    leaf = jax.tree.leaves(x)[0]
    return jnp.zeros((leaf.shape[0],), leaf.dtype)


def chain(*bijectors: Bijector) -> Bijector:
    """Applies bijectors one after the other, data side first; logdets add up.

    params: a tuple, one entry a bijector. init pushes the batch through each bijector it has
    initialised, so that every one sees the activations it will see. The key is folded with the
    bijector's position.
    """

    def init(key, x, cond=None):
        params = []
        for b, k in zip(bijectors, jax.random.split(key, max(len(bijectors), 1)), strict=False):
            params.append(b.init(k, x, cond))
            x, _ = b.forward(params[-1], x, cond)
        return tuple(params)

    def forward(params, x, cond=None, key=None):
        logdet = _zero_logdet(x)
        for i, b in enumerate(bijectors):
            x, ld = b.forward(params[i], x, cond, _fold(key, i))
            logdet = logdet + ld
        return x, logdet

    def inverse(params, z, cond=None, key=None):
        logdet = _zero_logdet(z)
        for i, b in reversed(tuple(enumerate(bijectors))):
            z, ld = b.inverse(params[i], z, cond, _fold(key, i))
            logdet = logdet + ld
        return z, logdet

    def prepare(params):
        return tuple(b.prepare(p) for b, p in zip(bijectors, params, strict=True))

    return Bijector(init, forward, inverse, prepare)


def invert(bijector: Bijector) -> Bijector:
    """Swaps forward and inverse.

    init hands its batch to the inner init as it is: the two sides must have the same shape, and
    statistics the inner bijector takes from it are those of its own data side.
    """
    return Bijector(bijector.init, bijector.inverse, bijector.forward, bijector.prepare)


def repeat(block: Bijector, depth: int, *, memory: str = "stored") -> Bijector:
    """Applies `block` `depth` times with parameters of its own each time, as one lax.scan.

    Compile time does not grow with depth. params: those of block with a leading axis of size depth on
    every leaf. init runs the same scan, so that data-dependent initialisation gives every depth its
    own statistics. What depends on params alone is prepared once, for all depths, before the scan.

    Args:
      block: a bijector whose output has the shape and dtype of its input.
      depth: how many times, at least 1.
      memory: what the backward pass finds. "stored": every activation of every depth. "recompute":
        the input of every depth, from which the rest is computed again (about one more forward pass).
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1; got {depth}")
    if memory not in MEMORY:
        raise ValueError(f"memory must be one of {MEMORY}; got {memory!r}")

    def init(key, x, cond=None):
        def step(x, k):
            params = block.init(k, x, cond)
            return _same_shape(x, block.forward(params, x, cond)[0]), params

        return jax.lax.scan(step, x, jax.random.split(key, depth))[1]

    def scan(apply, params, x, cond, key, reverse):
        def step(carry, layer):
            x, logdet = carry
            i, p = layer
            y, ld = apply(p, x, cond, _fold(key, i))
            return (_same_shape(x, y), logdet + ld), None

        layers = (jnp.arange(depth), prepare(params))
        body = jax.checkpoint(step) if memory == "recompute" else step
        return jax.lax.scan(body, (x, _zero_logdet(x)), layers, reverse=reverse)[0]

    def forward(params, x, cond=None, key=None):
        return scan(block.forward, params, x, cond, key, reverse=False)

    def inverse(params, z, cond=None, key=None):
        return scan(block.inverse, params, z, cond, key, reverse=True)

    def prepare(params):
        return jax.vmap(block.prepare)(params)

    return Bijector(init, forward, inverse, prepare)


def _same_shape(x: Batch, y: Batch) -> Batch:
    before, after = jax.tree.map(jnp.shape, x), jax.tree.map(jnp.shape, y)
    if before != after:
        raise ValueError(f"repeat needs a block that keeps the shape; got {before} -> {after}")
    return y


def factor_out(rest: Bijector) -> Bijector:
    """Sends half of the channels on through `rest` and lets the other half leave as latents.

    x, (batch, ..., channels), channels even; the first half goes on. z is a flat tuple: the half that
    leaves here first, then the latents of rest; in a multi-scale model, finest level first. Let an
    affine coupling that reads the first half stand before it, and the half that leaves is whitened
    given the one that stays: the learned conditional prior of Glow. Dinh et al. 2017, section 3.6,
    arXiv:1605.08803; Kingma & Dhariwal 2018, section 3, arXiv:1807.03039.
    """

    def init(key, x, cond=None):
        return rest.init(key, split_channels(x)[0], cond)

    def forward(params, x, cond=None, key=None):
        stays, leaves = split_channels(x)
        z, logdet = rest.forward(params, stays, cond, key)
        return (leaves, *(z if isinstance(z, tuple) else (z,))), logdet

    def inverse(params, z, cond=None, key=None):
        leaves, *deeper = z
        stays, logdet = rest.inverse(params, tuple(deeper) if len(deeper) > 1 else deeper[0], cond, key)
        return jnp.concatenate([stays, leaves], axis=-1), logdet

    return Bijector(init, forward, inverse, rest.prepare)


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
