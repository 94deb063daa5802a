"""flowjax on JAX: its coupling_flow on moons. It has no image flows."""

import equinox as eqx
import flowjax.bijections
import flowjax.distributions
import flowjax.flows
import jax
import jax.numpy as jnp
import paramax

from benchmarks.peers import jax_worker
from benchmarks.peers.protocol import UnsupportedError, Worker, serve


def moons(kind, layers, width, depth, bins, bound, **_):
    """The model, of a seed and a batch."""
    spline = flowjax.bijections.RationalQuadraticSpline(knots=bins - 1, interval=float(bound))

    def split(seed):
        flow = flowjax.flows.coupling_flow(
            jax.random.key(seed),
            base_dist=paramax.non_trainable(flowjax.distributions.Normal(jnp.zeros(2))),
            transformer=spline if kind == "spline" else None,
            flow_layers=layers,
            nn_width=width,
            nn_depth=depth,
        )
        return eqx.partition(flow, eqx.is_inexact_array)

    static = split(0)[1]

    def log_prob(params, x):
        return eqx.combine(params, static).log_prob(x)

    def draw(params, key, num):
        return eqx.combine(params, static).sample(key, (num,))

    return lambda seed, _: jax_worker.Model(split(seed)[0], log_prob, draw)


def build(options) -> Worker:
    """The worker of the model asked for."""
    if options["model"] == "moons":
        jax_worker.use_devices(options)
        return jax_worker.moons_worker(moons(**options), options, ("flowjax", "equinox"))
    raise UnsupportedError("vectors only: its couplings hold an MLP on an event of shape (dim,)")


if __name__ == "__main__":
    serve(build)
