"""From integer pixels to a density and from nats to bits: the one place with n_bins and log 2.

n_bins is None for data that are continuous as they are: nothing is added to them, and nats stay nats.

A density over x in [-0.5, 0.5)^D, x = (pixel + u) / n_bins - 0.5 with u ~ U(0, 1), bounds the
probability of the integer pixels: log P(pixels) >= E_u[log p(x)] - D log n_bins. Theis et al. 2016,
section 3.1, arXiv:1511.01844; Kingma & Dhariwal 2018, section 2, arXiv:1807.03039.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, UInt8

from flowjax_glow.base import PRNGKey, check_batch

# The noise is (k + 0.5) / 2^15. With up to 256 levels, pixel + noise then has at most 24 significant
# bits: float32 holds it exactly, and no pixel is rounded up into the next level.
_NOISE_BITS = 15

Pixels = Integer[Array, "batch *event"]
Levels = UInt8[Array | np.ndarray, "*shape"]


def dequantize(
    key: PRNGKey | None,
    images: Pixels,
    *,
    n_bins: int = 256,
    index: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch *event"]:
    """(images + noise) / n_bins - 0.5, float32 in [-0.5, 0.5), with noise uniform in (0, 1).

    Args:
      key: None takes the middle of every bin, the deterministic choice for encoding and editing.
      images: integers in [0, n_bins).
      n_bins: how many levels the data has: 256, 32 after reduce_bits(., 5), 17 for the digits.
      index: a number for each example. The noise of an example depends on the key and its number
        alone, however the batch is sharded or padded; its position in the batch by default.

    Raises:
      ValueError: for what are no integers, no image, and levels outside [0, n_bins) of an array in the
        host's memory.
    """
    _check_levels(n_bins)
    check_batch("images", images, kind=jnp.integer, levels=n_bins)
    if key is None:
        noise = jnp.full(images.shape, 0.5, jnp.float32)
    else:
        index = jnp.arange(images.shape[0]) if index is None else index
        noise = jax.vmap(lambda i: _uniform(jax.random.fold_in(key, i), images.shape[1:]))(index)
    return add_noise(images, noise, n_bins=n_bins)


def add_noise(
    images: Pixels, noise: Float[Array, "batch *event"], *, n_bins: int
) -> Float[Array, "batch *event"]:
    """(images + noise) / n_bins - 0.5, float32, for noise in (0, 1) of any distribution."""
    return (images.astype(jnp.float32) + noise) / n_bins - 0.5


def _uniform(key: PRNGKey, shape: tuple[int, ...]) -> Array:
    bits = jax.random.bits(key, shape, jnp.uint16) >> (16 - _NOISE_BITS)
    return (bits.astype(jnp.float32) + 0.5) / 2**_NOISE_BITS


def quantize(x: Float[Array, "*shape"], *, n_bins: int = 256) -> UInt8[Array, "*shape"]:
    """The integer levels of x in [-0.5, 0.5): what dequantize was given. Values outside are clipped."""
    _check_levels(n_bins, most=256)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating, in [-0.5, 0.5); got {x.dtype}")
    levels = jnp.floor((x + 0.5) * n_bins)
    return jnp.clip(levels, 0, n_bins - 1).astype(jnp.uint8)


def reduce_bits(images: Levels, n_bits: int) -> Levels:
    """8-bit images in n_bits: floor(pixel / 2^(8 - n_bits)), in [0, 2^n_bits)."""
    if not 1 <= n_bits <= 8:
        raise ValueError(f"n_bits must be between 1 and 8; got {n_bits}")
    if images.dtype != jnp.uint8:
        raise ValueError(f"images must be uint8, in 256 levels; got {images.dtype}")
    return images >> (8 - n_bits)


def bits_per_dim(
    log_prob: Float[Array, "*batch"], event_shape: tuple[int, ...], *, n_bins: int
) -> Float[Array, "*batch"]:
    """Bits per dimension from log p(x) in nats: (D log n_bins - log p(x)) / (D log 2)."""
    _check_levels(n_bins)
    dims = math.prod(event_shape)
    if dims < 1:
        raise ValueError(f"event_shape must have positive sizes; got {event_shape}")
    return (dims * math.log(n_bins) - log_prob) / (dims * math.log(2.0))


def _check_levels(n_bins: int, most: int | float = math.inf) -> None:
    if isinstance(n_bins, bool) or not isinstance(n_bins, int) or not 1 <= n_bins <= most:
        rule = "of at least 1" if most == math.inf else f"in 1 .. {most}"
        raise ValueError(f"n_bins must be a whole number {rule}; got {n_bins!r}")


class Unit(NamedTuple):
    """Of a likelihood: its field in logs and records, and how it is written beside a number."""

    field: str
    symbol: str


BITS_PER_DIM = Unit("bits_per_dim", "bits/dim")
NATS = Unit("nats", "nats")


def unit_of(n_bins: int | None) -> Unit:
    """What `negative_log_likelihood` is in: bits per dimension of images, nats of vectors."""
    return NATS if n_bins is None else BITS_PER_DIM


def negative_log_likelihood(
    log_prob: Float[Array, "*batch"], event_shape: tuple[int, ...], *, n_bins: int | None
) -> Float[Array, "*batch"]:
    """-log p(x) of each example, in unit_of(n_bins)."""
    return -log_prob if n_bins is None else bits_per_dim(log_prob, event_shape, n_bins=n_bins)


def as_floating(
    key: PRNGKey | None,
    examples: Pixels | Float[Array, "batch *event"],
    *,
    n_bins: int | None,
    index: Int[Array, " batch"] | None = None,
) -> Float[Array, "batch *event"]:
    """What a flow is given of a set's examples: dequantized images; vectors as they are."""
    return examples if n_bins is None else dequantize(key, examples, n_bins=n_bins, index=index)
