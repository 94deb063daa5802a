"""Convolutions as matrix products, as fast inside a loop as outside, on every backend.

A 3x3 convolution is nine shifted matrix products. Where the input is the thinner side, the nine shifts
of the input are laid side by side and multiplied once; where the output is, one product gives all nine
taps, which are shifted and added. Either way the wide side is touched once, and the transpose in the
backward pass is matrix products again. XLA's own convolution takes a path 16 to 25 times slower inside
a scan on CPU; benchmarks/scan_vs_loop.py keeps the comparison.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TAPS = 9
_OFFSETS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
Image = Float[Array, "batch height width channels"]
Features = Float[Array, "batch height width features"]


def conv3x3(
    x: Image, kernel: Float[Array, "3 3 channels features"], ones: Float[Array, "3 3 features"]
) -> Features:
    """3x3 convolution (cross-correlation) of x and a channel of ones, stride 1 and zero padding.

    x (batch, height, width, channels) -> (batch, height, width, features). ones: the weights of one
    more channel, which is 1 in the image and 0 on the padding: its middle is a bias, and the rest tells
    the border from the inside.
    """
    c, features = kernel.shape[2:]
    ones = ones.reshape(TAPS, features)
    if c <= features:
        inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
        return affine(_shifts(x), kernel.reshape(TAPS * c, features), _shifts(inside), ones)
    taps = kernel.transpose(2, 0, 1, 3).reshape(c, TAPS * features)
    return _add_shifted(affine(x, taps, jnp.ones((1, 1, 1, 1), x.dtype), ones.reshape(1, -1)))


def affine(
    x: Float[Array, "*batch c"],
    w: Float[Array, "c f"],
    constants: Float[Array, "*#batch k"],
    v: Float[Array, "k f"],
) -> Float[Array, "*batch f"]:
    """X @ w + constants @ v, where constants get no gradient.

    On a CPU the gradients of w and v are one product over x and the constants side by side: the sum
    over the batch that v alone would want takes as long there as two of the products; and a row of 129
    numbers is multiplied by its transpose 1.3 times as fast as one of 128, whose stride falls on few
    sets of the cache. An accelerator sums for nothing, and wants its rows aligned.
    """
    if jax.default_backend() == "cpu":
        return _affine_on_cpu(x, w, constants, v)
    return matmul(x, w) + matmul(constants, v)


@jax.custom_jvp
def _affine_on_cpu(x, w, constants, v):
    if constants.size == 1:  # a bias
        return matmul(x, w) + matmul(constants, v)
    return matmul(_beside(x, constants), jnp.concatenate([w, v]))


@_affine_on_cpu.defjvp
def _affine_on_cpu_jvp(primals, tangents):
    # A rule of its own, so that no gradient of the constants is computed.
    (x, w, constants, v), (dx, dw, _, dv) = primals, tangents
    y = _affine_on_cpu(x, w, constants, v)
    return y, matmul(dx, w) + matmul(_beside(x, constants), jnp.concatenate([dw, dv]))


def _beside(x, constants):
    constants = jnp.broadcast_to(constants, (*x.shape[:-1], constants.shape[-1]))
    return jnp.concatenate([x, constants], axis=-1)


def matmul(x: Float[Array, "*batch c"], w: Float[Array, "c f"]) -> Float[Array, "*batch f"]:
    """X @ w as one matrix product over all leading axes."""
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[-1])


def _shifts(x: Array) -> Array:
    return jnp.concatenate([_shift(x, i, j) for i, j in _OFFSETS], axis=-1)


def _add_shifted(taps: Array) -> Array:
    parts = zip(jnp.split(taps, TAPS, axis=-1), _OFFSETS, strict=True)
    return functools.reduce(jnp.add, [_shift(part, i, j) for part, (i, j) in parts])


def _shift(x: Array, i: int, j: int) -> Array:
    """Entry (h, w) of the result is entry (h + i, w + j) of x, or 0 where there is none.

    A pad that cuts off at one end what it adds at the other. Its transpose is one too; a slice of a
    padded array has a transpose that takes twice as long on a CPU.
    """
    zero = jnp.zeros((), x.dtype)
    return jax.lax.pad(x, zero, ((0, 0, 0), (-i, i, 0), (-j, j, 0), (0, 0, 0)))
