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
from jaxtyping import Array, Float, Int

from flowjax_glow.base import Params, PRNGKey
from flowjax_glow.data.split import Split
from flowjax_glow.dequantization import Dequantizer, importance_bound
from flowjax_glow.flow import Flow, decode, encode, log_prob
from flowjax_glow.likelihood import as_floating, negative_log_likelihood, quantize
from flowjax_glow.sharding import per_example, replicate, shard_batch


class Likelihood(NamedTuple):
    """values: -log p, (draws, examples), one for each draw of what is random and each example.

    In bits per dimension of images, in nats of vectors.
    """

    values: Float[np.ndarray, "draws examples"]

    @property
    def mean(self) -> float:
        """Of the split."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over the split's examples, each averaged over its draws."""
        examples = self.values.mean(axis=0)
        return float(examples.std(ddof=1) / math.sqrt(examples.size)) if examples.size > 1 else math.nan


class RoundTrip(NamedTuple):
    """How well decode(encode(x)) gives x back, of images x in the middle of its bins.

    error: the largest |difference| in units of x, in which a level is 1 / n_bins wide. exact_images:
    the share of images of which every pixel comes back; None of vectors.
    """

    error: float
    exact_images: float | None


def likelihood(
    flow: Flow,
    params: Params,
    split: Split,
    key: PRNGKey,
    *,
    dequantizer: Dequantizer,
    noise: Params | None = None,
    draws: int = 1,
    importance: int = 1,
    batch_size: int = 256,
    conditional: bool = False,
    mesh: Mesh,
) -> Likelihood:
    """-log p of every example of a split: bits per dimension of dequantized images, nats of vectors.

    The noise of an example depends on the key, the draw and its place in the split: neither the batch
    size nor the number of devices changes it. Both change what a stochastic bijector draws, once for
    each device's share of a batch: -log p is then an unbiased estimate. The last batch is padded, and
    what was padded is dropped. All processes of the mesh call it together, and have the same numbers.

    Args:
      dequantizer: makes images continuous. noise: its params.
      draws: how often each example is evaluated.
      importance: how many samples of the noise a draw's bound is made of, K; see dequantization.
        Numbers of different K are different metrics.
    """
    params = replicate((params, noise), mesh)
    keys = [jax.random.fold_in(key, draw) for draw in range(draws)]
    batches = functools.partial(_over_batches, split, batch_size, mesh)
    static = {
        "flow": flow,
        "dequantizer": dequantizer,
        "importance": importance,
        "conditional": conditional,
        "mesh": mesh,
    }
    values = [batches(functools.partial(_likelihood, (params, k), **static)) for k in keys]
    return Likelihood(np.stack(values))


def _estimate_key(flow: Flow, key: PRNGKey, index: Int[Array, " batch"]) -> PRNGKey | None:
    # Only where it is needed: a key turns dropout on. Noise is keyed by fold_in(key, example), and no
    # example has this number.
    if not flow.bijector.stochastic:
        return None
    return jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), index[0])


@functools.partial(
    jax.jit, static_argnames=("flow", "dequantizer", "importance", "conditional", "mesh")
)
def _likelihood(params_and_key, batch, *, flow, dequantizer, importance, conditional, mesh):
    def local(params_and_key, batch):
        ((params, noise), key), (examples, labels, index) = params_and_key, batch
        cond = labels if conditional else None
        if importance > 1:
            more = {"samples": importance, "index": index, "cond": cond}
            bound = importance_bound(flow, params, dequantizer, noise, examples, key, **more)
            return bound.bits_per_dim
        x, log_q = dequantizer.sample(noise, key, examples, index)
        lp = log_prob(flow, params, x, cond, _estimate_key(flow, key, index)) - log_q
        return negative_log_likelihood(lp, flow.event_shape, n_bins=dequantizer.n_bins)

    return per_example(local, mesh)(params_and_key, batch)


def round_trip(
    flow: Flow,
    params: Params,
    split: Split,
    *,
    n_bins: int | None,
    batch_size: int = 256,
    conditional: bool = False,
    mesh: Mesh,
) -> RoundTrip:
    """Encodes and decodes every example of a split; all processes of the mesh call it together."""
    static = {"flow": flow, "n_bins": n_bins, "conditional": conditional, "mesh": mesh}
    run = functools.partial(_round_trip, replicate(params, mesh), **static)
    error, exact = _over_batches(split, batch_size, mesh, run)
    return RoundTrip(float(error.max()), None if exact is None else float(exact.mean()))


@functools.partial(jax.jit, static_argnames=("flow", "n_bins", "conditional", "mesh"))
def _round_trip(params, batch, *, flow, n_bins, conditional, mesh):
    def local(params, batch):
        examples, labels, _ = batch
        cond = labels if conditional else None
        x = as_floating(None, examples, n_bins=n_bins)
        y = decode(flow, params, encode(flow, params, x, cond), cond)
        axes = tuple(range(1, x.ndim))
        error = jnp.max(jnp.abs(y - x), axes)
        if n_bins is None:
            return error, None
        return error, jnp.all(quantize(y, n_bins=n_bins) == examples.astype(jnp.uint8), axes)

    return per_example(local, mesh)(params, batch)


def _over_batches(split: Split, batch_size: int, mesh: Mesh, run: Callable[[Any], Any]) -> Any:
    """`run((examples, labels, index))` on every row of the split once; its outputs, concatenated.

    Each process gives its share of every batch, and has all outputs.
    """
    n = len(split.examples)
    batch_size = -(-min(batch_size, n) // mesh.size) * mesh.size
    share = batch_size // jax.process_count()
    outputs = []
    for start in range(0, n, batch_size):
        first = start + jax.process_index() * share
        index = np.arange(first, first + share, dtype=np.int32)
        rows = np.minimum(index, n - 1)
        batch = shard_batch((split.examples[rows], split.labels[rows], index), mesh)
        outputs.append(process_allgather(run(batch), tiled=True))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *outputs)
