"""The exact likelihood of a whole split: every example once, with keyed noise, whatever the batch."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh
from jaxtyping import Float

from flowjax_glow.base import Params, PRNGKey
from flowjax_glow.data.split import Split
from flowjax_glow.flow import Flow, decode, encode, log_prob
from flowjax_glow.likelihood import bits_per_dim, dequantize, quantize
from flowjax_glow.sharding import per_example, replicate, shard_batch


class Likelihood(NamedTuple):
    """bits_per_dim: (draws, examples), one for each draw of the dequantization noise and each image."""

    bits_per_dim: Float[np.ndarray, "draws examples"]

    @property
    def mean(self) -> float:
        """Bits per dimension of the split."""
        return float(self.bits_per_dim.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over the split's images, each averaged over its draws."""
        images = self.bits_per_dim.mean(axis=0)
        return float(images.std(ddof=1) / math.sqrt(images.size)) if images.size > 1 else math.nan


class RoundTrip(NamedTuple):
    """How well decode(encode(x)) gives x back, x in the middle of its bins.

    error: the largest |difference| in units of x, in which a level is 1 / n_bins wide. exact_images:
    the share of images of which every pixel comes back.
    """

    error: float
    exact_images: float


def likelihood(
    flow: Flow,
    params: Params,
    split: Split,
    key: PRNGKey,
    *,
    n_bins: int,
    draws: int = 1,
    batch_size: int = 256,
    conditional: bool = False,
    mesh: Mesh,
) -> Likelihood:
    """Bits per dimension of every example of a split, uniformly dequantized.

    The noise of an example depends on the key, the draw and its place in the split: neither the batch
    size nor the number of devices changes it. The last batch is padded, and what was padded is dropped.
    All processes of the mesh call it together, and have the same numbers.
    """
    params = replicate(params, mesh)
    keys = [jax.random.fold_in(key, draw) for draw in range(draws)]
    batches = functools.partial(_over_batches, split, batch_size, mesh)
    static = {"flow": flow, "n_bins": n_bins, "conditional": conditional, "mesh": mesh}
    bits = [batches(functools.partial(_bits_per_dim, (params, k), **static)) for k in keys]
    return Likelihood(np.stack(bits))


@functools.partial(jax.jit, static_argnames=("flow", "n_bins", "conditional", "mesh"))
def _bits_per_dim(params_and_key, batch, *, flow, n_bins, conditional, mesh):
    def local(params_and_key, batch):
        (params, key), (images, labels, index) = params_and_key, batch
        x = dequantize(key, images, n_bins=n_bins, index=index)
        lp = log_prob(flow, params, x, labels if conditional else None)
        return bits_per_dim(lp, flow.event_shape, n_bins=n_bins)

    return per_example(local, mesh)(params_and_key, batch)


def round_trip(
    flow: Flow,
    params: Params,
    split: Split,
    *,
    n_bins: int,
    batch_size: int = 256,
    conditional: bool = False,
    mesh: Mesh,
) -> RoundTrip:
    """Encodes and decodes every image of a split; all processes of the mesh call it together."""
    static = {"flow": flow, "n_bins": n_bins, "conditional": conditional, "mesh": mesh}
    run = functools.partial(_round_trip, replicate(params, mesh), **static)
    error, exact = _over_batches(split, batch_size, mesh, run)
    return RoundTrip(float(error.max()), float(exact.mean()))


@functools.partial(jax.jit, static_argnames=("flow", "n_bins", "conditional", "mesh"))
def _round_trip(params, batch, *, flow, n_bins, conditional, mesh):
    def local(params, batch):
        images, labels, _ = batch
        cond = labels if conditional else None
        x = dequantize(None, images, n_bins=n_bins)
        y = decode(flow, params, encode(flow, params, x, cond), cond)
        axes = tuple(range(1, x.ndim))
        exact = jnp.all(quantize(y, n_bins=n_bins) == images.astype(jnp.uint8), axes)
        return jnp.max(jnp.abs(y - x), axes), exact

    return per_example(local, mesh)(params, batch)


def _over_batches(split: Split, batch_size: int, mesh: Mesh, run: Callable[[Any], Any]) -> Any:
    """`run((images, labels, index))` on every row of the split once; its outputs, concatenated.

    Each process gives its share of every batch, and has all outputs.
    """
    n = len(split.images)
    batch_size = -(-min(batch_size, n) // mesh.size) * mesh.size
    share = batch_size // jax.process_count()
    outputs = []
    for start in range(0, n, batch_size):
        first = start + jax.process_index() * share
        index = np.arange(first, first + share, dtype=np.int32)
        rows = np.minimum(index, n - 1)
        batch = shard_batch((split.images[rows], split.labels[rows], index), mesh)
        outputs.append(process_allgather(run(batch), tiled=True))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *outputs)
