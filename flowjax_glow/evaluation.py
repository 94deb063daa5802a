"""The exact likelihood of a whole split: every example once, with keyed noise, whatever the batch."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from flowjax_glow.base import Batch, LogDet, Params, PRNGKey, check_batch, distance
from flowjax_glow.data.split import Split
from flowjax_glow.dequantization import Dequantizer, importance_bound
from flowjax_glow.flow import Flow, decode, encode, log_prob
from flowjax_glow.likelihood import as_floating, negative_log_likelihood, quantize
from flowjax_glow.sharding import per_example, replicate, shard_batch

# Of one device call. More are as many calls: of 4096 samples of a large model one would take an hour,
# and nothing would be heard of it.
_MOST_SAMPLES = 64


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
    def standard_error(self) -> float | None:
        """Of the mean over the split's examples, each averaged over its draws; None of one example."""
        return _standard_error(self.values.mean(axis=0))

    @property
    def standard_error_of_draws(self) -> float | None:
        """Of the mean over the draws: how far other noise would move it; None of one draw."""
        return _standard_error(self.values.mean(axis=1))


def _standard_error(values: Float[np.ndarray, " _"]) -> float | None:
    return float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else None


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
    report: Callable[[int, float | None], None] | None = None,
) -> Likelihood:
    """-log p of every example of a split: bits per dimension of dequantized images, nats of vectors.

    The noise of an example, and what a stochastic bijector draws for it, depend on the key, the draw
    and its place in the split: with another batch size, or on other devices, the numbers are the same
    to rounding. The last batch is padded, and what was padded is dropped. All processes of the mesh
    call it together, and have the same numbers.

    Args:
      dequantizer: makes images continuous. noise: its params.
      draws: how often each example is evaluated. Where nothing is random all are the same.
      importance: how many samples of the noise a draw's bound is made of, K; see dequantization.
        Numbers of different K are different metrics. They are taken one after the other.
      batch_size: examples in a device call; memory grows with it, and with nothing else here.
      report: is told after each of the device_calls how many are done, and the mean over the batches
        before this one, None in the first.

    Raises:
      ValueError: for a split that check_split refuses, no draw, no example in a call, and for more than
        one sample where check_importance refuses it.
    """
    for name, value in (("draws", draws), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    check_split(split, flow.event_shape, dequantizer.n_bins)
    check_importance(flow, dequantizer, importance)
    params = replicate((params, noise), mesh)
    samples = _samples_a_call(importance)
    run = functools.partial(
        _log_prob,
        flow=flow,
        dequantizer=dequantizer,
        samples=samples,
        conditional=conditional,
        mesh=mesh,
    )
    values, mean, done = [], None, 0
    for batch, n in _batches(split, batch_size, mesh):
        of_batch = []
        for draw in range(draws):
            log_probs = []
            for call_key in _keys(jax.random.fold_in(key, draw), importance // samples):
                log_probs.append(_of_all_processes(run((params, call_key), batch)))
                done += 1
                if report is not None:
                    report(done, mean)
            lp = jnp.asarray(_log_mean_exp(log_probs)[:n], jnp.float32)
            of_batch.append(negative_log_likelihood(lp, flow.event_shape, n_bins=dequantizer.n_bins))
        values.append(np.stack(of_batch))
        mean = float(np.concatenate(values, axis=1).mean())
    return Likelihood(np.concatenate(values, axis=1))


def check_split(split: Split, event_shape: tuple[int, ...] | None, n_bins: int | None) -> None:
    """Whether a split has examples and labels that a flow can be given.

    Its values are looked at where it is in memory: images must be in their levels, vectors finite.

    Args:
      event_shape: None for any. n_bins: levels of the images; None of vectors.

    Raises:
      ValueError: saying what was expected, and what there is.
    """
    kind = jnp.floating if n_bins is None else jnp.integer
    check_batch("examples", split.examples, kind=kind, event_shape=event_shape, levels=n_bins)
    if split.labels.shape != split.examples.shape[:1]:
        raise ValueError(
            f"expected labels of shape {split.examples.shape[:1]}, one an example; got "
            f"{split.labels.shape}"
        )


def check_importance(flow: Flow, dequantizer: Dequantizer, importance: int) -> None:
    """Whether a bound can be made of so many samples.

    Raises:
      ValueError: for fewer than 1, and for more where there is no noise, or where the log-determinant
        is an estimate, of which a bound cannot be made.
    """
    if importance < 1:
        raise ValueError(f"importance must be at least 1; got {importance}")
    if importance > 1 and (dequantizer.n_bins is None or flow.bijector.stochastic):
        what = "vectors" if dequantizer.n_bins is None else "an estimated log-determinant"
        raise ValueError(f"importance must be 1 for {what}; got {importance}")


def device_calls(examples: int, *, draws: int, importance: int, batch_size: int, mesh: Mesh) -> int:
    """How many calls of the devices `likelihood` makes of so many examples."""
    batches = -(-examples // _whole_batch(examples, batch_size, mesh))
    return batches * draws * (importance // _samples_a_call(importance))


def _samples_a_call(importance: int) -> int:
    return max(n for n in range(1, _MOST_SAMPLES + 1) if importance % n == 0)


def _keys(key: PRNGKey, calls: int) -> list[PRNGKey]:
    return [key] if calls == 1 else [jax.random.fold_in(key, call) for call in range(calls)]


def _log_mean_exp(log_probs: list[np.ndarray]) -> np.ndarray:
    return np.logaddexp.reduce(np.stack(log_probs).astype(np.float64)) - math.log(len(log_probs))


@functools.partial(jax.jit, static_argnames=("flow", "dequantizer", "samples", "conditional", "mesh"))
def _log_prob(params_and_key, batch, *, flow, dequantizer, samples, conditional, mesh):
    def local(params_and_key, batch):
        ((params, noise), key), (examples, labels, index) = params_and_key, batch
        cond = labels if conditional else None
        if samples > 1:
            more = {"samples": samples, "index": index, "cond": cond}
            return importance_bound(flow, params, dequantizer, noise, examples, key, **more).log_prob
        x, log_q = dequantizer.sample(noise, key, examples, index)
        if flow.bijector.stochastic:
            return _estimates(flow, params, x, cond, key, index) - log_q
        return log_prob(flow, params, x, cond) - log_q  # no key: it would turn dropout on

    return per_example(local, mesh)(params_and_key, batch)


def _estimates(
    flow: Flow, params: Params, x: Batch, cond: Batch | None, key: PRNGKey, index: Int[Array, " batch"]
) -> LogDet:
    """log_prob with an estimate of its own for each example, so that their errors are independent."""
    params = flow.bijector.prepare(params)
    key = jax.random.fold_in(key, 2**32 - 1)  # fold_in(key, example) is the noise's

    def one(x, cond, i):
        x, cond = jax.tree.map(lambda a: a[None], (x, cond))
        return log_prob(flow, params, x, cond, jax.random.fold_in(key, i))[0]

    return jax.vmap(one)(x, cond, index)


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
    """Encodes and decodes every example of a split; all processes of the mesh call it together.

    Raises:
      ValueError: for a split that check_split refuses.
    """
    check_split(split, flow.event_shape, n_bins)
    static = {"flow": flow, "n_bins": n_bins, "conditional": conditional, "mesh": mesh}
    run = functools.partial(_round_trip, replicate(params, mesh), **static)
    outputs = [
        jax.tree.map(lambda part, n=n: part[:n], _of_all_processes(run(batch)))
        for batch, n in _batches(split, batch_size, mesh)
    ]
    error, exact = jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)
    return RoundTrip(float(error.max()), None if exact is None else float(exact.mean()))


@functools.partial(jax.jit, static_argnames=("flow", "n_bins", "conditional", "mesh"))
def _round_trip(params, batch, *, flow, n_bins, conditional, mesh):
    def local(params, batch):
        examples, labels, _ = batch
        cond = labels if conditional else None
        x = as_floating(None, examples, n_bins=n_bins)
        y = decode(flow, params, encode(flow, params, x, cond), cond)
        axes = tuple(range(1, x.ndim))
        error = jnp.max(distance(y, x), axes)
        if n_bins is None:
            return error, None
        return error, jnp.all(quantize(y, n_bins=n_bins) == examples.astype(jnp.uint8), axes)

    return per_example(local, mesh)(params, batch)


def _batches(split: Split, batch_size: int, mesh: Mesh) -> Iterator[tuple[Any, int]]:
    """(examples, labels, index) of every row of the split once, and how many of them are no padding.

    Each process gives its share of every batch.
    """
    n = len(split.examples)
    batch_size = _whole_batch(n, batch_size, mesh)
    share = batch_size // jax.process_count()
    for start in range(0, n, batch_size):
        first = start + jax.process_index() * share
        index = np.arange(first, first + share, dtype=np.int32)
        rows = np.minimum(index, n - 1)
        batch = shard_batch((split.examples[rows], split.labels[rows], index), mesh)
        yield batch, min(batch_size, n - start)


def _whole_batch(examples: int, batch_size: int, mesh: Mesh) -> int:
    """The batch size, no larger than all the examples, rounded up to what the devices divide."""
    return -(-min(batch_size, examples) // mesh.size) * mesh.size


def _of_all_processes(outputs: Any) -> Any:
    return process_allgather(outputs, tiled=True)
