"""Convolutions as matrix products, as fast inside a loop as outside, on every backend.

A 3x3 convolution is nine shifted matrix products. Where the input is the thinner side, the nine shifts
of the input are laid side by side and multiplied once; where the output is, one product gives all nine
taps, which are shifted and added. Either way the wide side is touched once, and the transpose in the
backward pass is matrix products again. XLA's own convolution takes a path 16 to 25 times slower inside
a scan on CPU; benchmarks/scan_vs_loop.py keeps the comparison.
"""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float

TAPS = 9
Image = Float[Array, "batch height width channels"]
Features = Float[Array, "batch height width features"]


def conv3x3(
    x: Image,
    kernel: Float[Array, "3 3 channels features"],
    edge: Float[Array, "3 3 features"] | None = None,
) -> Features:
    """3x3 convolution (cross-correlation) with stride 1 and zero padding.

    x (batch, height, width, channels) -> (batch, height, width, features). edge: the weights of one
    more channel, which is 1 on the padding and 0 inside.
    """
    c, features = kernel.shape[2:]
    weights = kernel.reshape(TAPS * c, features)
    if c <= features:
        if edge is None:
            return matmul(_shifts(x), weights)
        # As columns of the product: a bias for each position would have its gradient summed over the
        # batch, which XLA does on a CPU in as long a time as two of the products take.
        columns = jnp.concatenate([_shifts(x), jnp.broadcast_to(_edges(x), (*x.shape[:3], TAPS))], -1)
        return matmul(columns, jnp.concatenate([weights, edge.reshape(TAPS, features)]))
    taps = matmul(x, kernel.transpose(2, 0, 1, 3).reshape(c, TAPS * features))
    y = _add_shifted(taps)
    if edge is None:
        return y
    return y + jnp.broadcast_to(matmul(_edges(x), edge.reshape(TAPS, features)), y.shape)


def matmul(x: Float[Array, "*batch c"], w: Float[Array, "c f"]) -> Float[Array, "*batch f"]:
    """X @ w as one matrix product over all leading axes."""
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[-1])


def _shifts(x: Array) -> Array:
    _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate(
        [padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-1
    )


def _add_shifted(taps: Array) -> Array:
    _, h, w, _ = taps.shape
    padded = jnp.pad(taps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    parts = jnp.split(padded, TAPS, axis=-1)
    shifted = [parts[3 * i + j][:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return functools.reduce(jnp.add, shifted)


def _edges(x: Image) -> Float[Array, "1 height width taps"]:
    """Which taps of each position lie on the padding; the same for every image."""
    outside = jnp.pad(
        jnp.zeros((1, *x.shape[1:3], 1), x.dtype), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1
    )
    _, h, w, _ = x.shape
    return jnp.concatenate([outside[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], -1)
