"""A block many times, each with its own params, as one scan; and training it in constant memory.

Activations are not kept: a block is invertible, so the backward pass rebuilds each one from the output.
Gomez et al. 2017 (The Reversible Residual Network), arXiv:1707.04585, for any bijector.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from flowjax_glow.base import (
    Batch,
    Bijector,
    distance,
    inverse_and_vjp,
    is_trainable,
    split_trainable,
)
from flowjax_glow.combine import chain, fold, invert, zero_logdet

MEMORY = ("stored", "recompute", "constant")


def repeat(
    block: Bijector, depth: int, *, memory: str = "stored", tolerance: float | None = 1e-3
) -> Bijector:
    """Applies `block` `depth` times with parameters of its own each time, as one lax.scan.

    Compile time does not grow with depth. params: those of block with a leading axis of size depth on
    every leaf. init runs the same scan, so that data-dependent initialisation gives every depth its
    own statistics. What depends on params alone is prepared once, for all depths, before the scan.

    Args:
      block: a bijector whose output has the shape and dtype of its input.
      depth: how many times, at least 1.
      memory: what the backward pass finds. "stored": every activation of every depth. "recompute":
        the input of every depth, from which the rest is computed again (about one more forward pass).
        "constant": the output alone; each depth is inverted on the way back, which gives the same
        gradients, to rounding, in memory that does not grow with depth. It needs a block whose inverse
        is exact and which closes over no traced value, and has no forward-mode derivative.
      tolerance: for "constant", the largest error of the rebuilt input, as a share of the larger of 1
        and the input's largest entry. Past it every gradient of the call is NaN, so that no step is
        taken on wrong ones. None: not checked, which saves keeping the input.

    Raises:
      ValueError: for an unknown memory or a depth below 1; when applied, for a block that changes the
        shape or, with "constant", closes over a traced value.
      TypeError: for forward-mode differentiation with "constant".
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

    def prepare(params):
        return jax.vmap(block.prepare)(params) if jax.tree.leaves(params) else params

    def along(block, reverse):
        loop = _Loop(block, depth, reverse)
        if memory == "constant":
            run = _constant_memory(loop, tolerance)
        else:
            run = functools.partial(_scan, loop, checkpoint=memory == "recompute")
        return lambda params, x, cond=None, key=None: run(prepare(params), x, cond, key)

    def rebuild(replace):
        steps = chain(*(replace(f"step {i + 1} of {depth}", block) for i in range(depth)))

        def unrolled(fn):
            def run(params, value, cond=None, key=None):
                params = prepare(params)
                each = tuple(jax.tree.map(lambda p, i=i: p[i], params) for i in range(depth))
                return fn(each, value, cond, key)

            return run

        return Bijector(init, unrolled(steps.forward), unrolled(steps.inverse), prepare)

    return Bijector(
        init,
        along(block, reverse=False),
        along(invert(block), reverse=True),
        prepare,
        functools.partial(_scan_back, _Loop(block, depth, reverse=False)),
        block.stochastic,
        rebuild,
    )


class _Loop(NamedTuple):
    """A block applied depth times, to be scanned over prepared params; reverse: from the last."""

    block: Bijector
    depth: int
    reverse: bool


def _scan(loop, params, x, cond, key, *, checkpoint=False):
    def step(carry, layer):
        x, logdet = carry
        i, p = layer
        y, ld = loop.block.forward(p, x, cond, fold(key, i))
        return (_same_shape(x, y), logdet + ld), None

    body = jax.checkpoint(step) if checkpoint else step
    layers = (jnp.arange(loop.depth), params)
    return jax.lax.scan(body, (x, zero_logdet(x)), layers, reverse=loop.reverse)[0]


def _scan_back(loop, params, z, cond, key, z_bar, logdet_bar):
    def step(carry, layer):
        z, z_bar, cond_bar = carry
        i, p = layer
        x, x_bar, p_bar, c_bar = inverse_and_vjp(
            loop.block, p, z, cond, fold(key, i), z_bar, logdet_bar
        )
        return (x, x_bar, jax.tree.map(jnp.add, cond_bar, c_bar)), p_bar

    cond_bar = jax.tree.map(jnp.zeros_like, split_trainable(cond)[0])
    layers = (jnp.arange(loop.depth), params)
    (x, x_bar, cond_bar), params_bar = jax.lax.scan(
        step, (z, z_bar, cond_bar), layers, reverse=not loop.reverse
    )
    return x, x_bar, params_bar, cond_bar


def _constant_memory(loop, tolerance):
    """_scan with a vjp that rebuilds what it needs; the output is kept, and the input to check it."""
    run = jax.custom_vjp(functools.partial(_scan, loop))

    def forward(params, x, cond, key):
        z, logdet = _scan(loop, params, x, cond, key)
        return (z, logdet), (params, None if tolerance is None else x, z, cond, key)

    def backward(residuals, bars):
        params, x, z, cond, key = residuals
        rebuilt, *bars = _scan_back(loop, params, z, cond, key, *bars)
        if tolerance is not None:
            bars = _trust(_rebuild_error(rebuilt, x) <= tolerance, bars)
        x_bar, params_bar, cond_bar = bars
        return params_bar, x_bar, cond_bar, None

    run.defvjp(forward, backward)

    def guarded(params, x, cond, key):
        traced = jax.make_jaxpr(functools.partial(_scan, loop))(params, x, cond, key)
        if any(isinstance(value, Tracer) for value in traced.consts):
            raise ValueError(
                "with memory='constant' the block must close over no traced value, for that would get "
                "no gradient; hand it over as cond, or use memory='stored'"
            )
        marked = jax.tree.map(
            lambda value: _marked.bind(value) if is_trainable(value) else value, (params, x, cond)
        )
        return run(*marked, key)

    return guarded


def _refuse(*_, **__):
    raise TypeError(
        "memory='constant' has no forward-mode derivative (jvp, jacfwd); use memory='stored', which "
        "takes the same params"
    )


def _identity_primitive(name: str, evaluate: Callable[..., Any]) -> Primitive:
    primitive = Primitive(name)
    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(lambda value: value)
    mlir.register_lowering(primitive, mlir.lower_fun(evaluate, multiple_results=False))
    return primitive


# custom_vjp refuses forward mode too, but cannot say what to do instead. So its arguments are marked:
# the tangent of a marked value may be transposed, which is reverse mode, and not evaluated.
_marked = _identity_primitive("reverse_mode_only", lambda value: value)
_tangent = _identity_primitive("tangent_of_reverse_mode_only", _refuse)
ad.primitive_jvps[_marked] = lambda values, tangents: (
    values[0],  # unmarked: what differentiates the gradient may do so in any mode
    tangents[0] if isinstance(tangents[0], ad.Zero) else _tangent.bind(*tangents),
)
ad.deflinear(_tangent, lambda bar: [bar])
batching.primitive_batchers[_marked] = lambda args, axes: (_marked.bind(*args), axes[0])
batching.primitive_batchers[_tangent] = _refuse


def _rebuild_error(rebuilt, x):
    pairs = zip(jax.tree.leaves(rebuilt), jax.tree.leaves(x), strict=True)
    errors = [jnp.max(distance(a, b)) / jnp.maximum(1, jnp.max(jnp.abs(b))) for a, b in pairs]
    return jnp.max(jnp.stack(errors))


def _trust(ok, bars):
    return jax.tree.map(lambda bar: jnp.where(ok, bar, jnp.full_like(bar, jnp.nan)), bars)


def _same_shape(x: Batch, y: Batch) -> Batch:
    before, after = jax.tree.map(jnp.shape, x), jax.tree.map(jnp.shape, y)
    if before != after:
        raise ValueError(f"repeat needs a block that keeps the shape; got {before} -> {after}")
    return y
