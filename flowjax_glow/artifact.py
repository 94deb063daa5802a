"""A flow with its params as StableHLO, which JAX alone runs: no library, no config, no Python of ours.

jax.export.deserialize(file.read_bytes()).call(x) runs one, on the platforms that it was exported for
and for batches of any size. The params are constants inside. It stands on jax.export.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jax.errors import InconclusiveDimensionOperation

from flowjax_glow.base import Params
from flowjax_glow.flow import Flow, decode, latent_shapes, log_prob, prepare

PLATFORMS = ("cpu", "cuda", "tpu")


def export_log_prob(flow: Flow, params: Params, *, conditional: bool = False) -> export.Exported:
    """log_prob(x) -> (batch,), in nats; if conditional, log_prob(x, labels).

    x: float32 (batch, *event_shape). labels: int32 (batch,). Of a stochastic flow it is exact too.

    Raises:
      ValueError: for a flow that cannot be exported for a batch of any size.
    """
    x, _, labels = _arguments(flow, conditional)
    return _export(lambda x, *labels: log_prob(flow, params, x, *labels), x, *labels)


def export_sample(flow: Flow, params: Params, *, conditional: bool = False) -> export.Exported:
    """sample(seeds, temperature) -> float32 (batch, *event_shape); labels as in export_log_prob.

    seeds: uint32 (batch,). An example depends on its own seed alone, and is that of
    flow.sample(flow, params, jax.random.key(seed), 1). temperature: float32 ().

    Raises:
      ValueError: for a flow that cannot be exported for a batch of any size.
    """

    def sample(seeds, temperature, *labels):
        def latents(seed, *label):
            cond = [jnp.asarray(entry)[None] for entry in label]
            like = latent_shapes(flow, params, 1, *cond)
            z = flow.prior.sample(jax.random.key(seed), like, temperature)
            return jax.tree.map(lambda leaf: leaf[0], z)

        return decode(flow, params, jax.vmap(latents)(seeds, *labels), *labels)

    _, seeds, labels = _arguments(flow, conditional)
    params = prepare(flow, params)
    return _export(sample, seeds, jax.ShapeDtypeStruct((), jnp.float32), *labels)


def _arguments(flow: Flow, conditional: bool) -> tuple[Any, Any, tuple[Any, ...]]:
    (batch,) = export.symbolic_shape("batch")
    x = jax.ShapeDtypeStruct((batch, *flow.event_shape), jnp.float32)
    seeds = jax.ShapeDtypeStruct((batch,), jnp.uint32)
    labels = (jax.ShapeDtypeStruct((batch,), jnp.int32),) if conditional else ()
    return x, seeds, labels


def _export(fn: Callable[..., jax.Array], *arguments: jax.ShapeDtypeStruct) -> export.Exported:
    try:
        return export.export(jax.jit(fn), platforms=PLATFORMS)(*arguments)
    except (InconclusiveDimensionOperation, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"the flow cannot be exported for a batch of any size: {reason}") from error
