"""Our worker: flowjax_glow under the protocol of the peers, in the project's own environment."""

from functools import partial
from typing import Any

import jax

import flowjax_glow as fg
from benchmarks.peers import jax_worker
from benchmarks.peers.protocol import Worker, serve
from flowjax_glow.nets.mlp import MLP


def as_model(flow: fg.Flow, params: fg.Params) -> jax_worker.Model:
    """A flow as functions of its trained parameters."""
    trained, constants = fg.split_trainable(params)

    def log_prob(trained, x):
        return fg.log_prob(flow, fg.merge_trainable(trained, constants), x)

    def draw(params, key, num):
        return fg.sample(flow, params, key, num)

    def prepare(trained):
        return fg.prepare(flow, fg.merge_trainable(trained, constants))

    return jax_worker.Model(trained, log_prob, draw, prepare)


def glow(options: dict[str, Any]) -> fg.Flow:
    """The Glow of the options: our defaults, at the size asked for."""
    return fg.glow(
        (options["size"], options["size"], 3),
        levels=options["levels"],
        depth=options["depth"],
        width=options["width"],
        memory=options.get("memory", "stored"),
    )


def moons_flow(options: dict[str, Any]) -> fg.Flow:
    """Couplings with the coordinates reversed between them."""
    net = partial(MLP, width=options["width"], depth=options["depth"])
    if options["kind"] == "affine":
        coupling = fg.affine_coupling(net, scale="bounded")
    else:
        coupling = fg.spline_coupling(net, bins=options["bins"], bound=options["bound"])
    layers = [coupling, fg.reverse()] * options["layers"]
    return fg.Flow(fg.chain(*layers), fg.standard_normal(), (2,))


def build(options: dict[str, Any]) -> Worker:
    """The worker of the model asked for."""
    jax_worker.use_devices(options)
    if options["model"] == "glow":
        flow = glow(options)
        notes = (
            f"memory {options.get('memory', 'stored')}; the released net: actnorm, edge bias, priors"
        )
        return jax_worker.glow_worker(
            lambda x: as_model(flow, fg.init(flow, jax.random.key(0), x)), options, ("flax",), notes
        )
    flow = moons_flow(options)
    notes = {"affine": "log scale within 2", "spline": ""}[options["kind"]]
    return jax_worker.moons_worker(
        lambda seed, x: as_model(flow, fg.init(flow, jax.random.key(seed), x)),
        options,
        ("flax",),
        notes,
    )


if __name__ == "__main__":
    serve(build)
