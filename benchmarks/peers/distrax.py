"""distrax on JAX: Chain, Block and SplitCoupling, with conditioners in plain JAX."""

import distrax
import jax
import jax.numpy as jnp

from benchmarks.peers import jax_nets, jax_worker
from benchmarks.peers.protocol import UnsupportedError, Worker, serve


def glow_step(params):
    """Actnorm, LU-affine over the channels and coupling, data -> latent."""
    c = params["matrix"].shape[0]
    shift, log_scale = params["actnorm"]
    matrix = distrax.LowerUpperTriangularAffine(params["matrix"], jnp.zeros(c))

    def scale_and_shift(h):
        shift, log_scale = jnp.split(h, 2, axis=-1)
        return distrax.ScalarAffine(shift, log_scale=jax.nn.log_sigmoid(log_scale + 2.0))

    coupling = distrax.SplitCoupling(
        split_index=c // 2,
        event_ndims=3,
        conditioner=lambda x: jax_nets.conv_net(params["net"], x),
        bijector=scale_and_shift,
    )
    actnorm = distrax.ScalarAffine(shift, log_scale=log_scale)
    step = distrax.Chain([coupling, distrax.Block(matrix, 2), distrax.Block(actnorm, 3)])
    return step.forward_and_log_det, step.inverse


def init_glow_step(key, channels, width):
    """The parameters of a step; the matrix starts as L and U of a rotation."""
    rotation = jax.random.orthogonal(key, channels)
    return {
        "actnorm": (jnp.zeros(channels), jnp.zeros(channels)),
        "matrix": jax.lax.linalg.lu(rotation)[0],
        "net": jax_nets.init_conv_net(key, channels // 2, channels, width),
    }


def glow(levels, depth, width, size, **_):
    """The model, of a batch; actnorms start as the identity."""
    init, log_prob, draw = jax_nets.multiscale(
        glow_step, lambda key, c: init_glow_step(key, c, width), levels, depth, size
    )
    return lambda _: jax_worker.Model(jax.jit(init)(jax.random.key(0)), log_prob, draw)


def moons(kind, layers, width, depth, bins, bound, **_):
    """Couplings with a swap of the two coordinates between them."""
    outputs = {"affine": 2, "spline": 3 * bins + 1}[kind]

    def inner(h):
        if kind == "affine":
            return distrax.ScalarAffine(h[..., :1], scale=jax_nets.positive(h[..., 1:]))
        h = h[..., None, :]
        return distrax.RationalQuadraticSpline(h, -bound, bound, boundary_slopes="identity")

    def flow(params):
        def coupling(net, swap):
            return distrax.SplitCoupling(
                split_index=1,
                event_ndims=1,
                conditioner=lambda x: jax_nets.mlp(net, x),
                bijector=inner,
                swap=swap,
            )

        steps = [coupling(net, i % 2 == 1) for i, net in enumerate(params)]
        return distrax.Chain(steps[::-1])

    def make(seed, _):
        keys = jax.random.split(jax.random.key(seed), layers)
        params = [jax_nets.init_mlp(key, 1, outputs, width, depth) for key in keys]
        return jax_worker.Model(params, log_prob, draw)

    def log_prob(params, x):
        z, logdet = flow(params).forward_and_log_det(x)
        return jax_nets.standard_normal_log_prob(z) + logdet

    def draw(params, key, num):
        return flow(params).inverse(jax.random.normal(key, (num, 2)))

    return make


def build(options) -> Worker:
    """The worker of the model asked for."""
    if options["model"] == "glow":
        notes = "squeeze and split written by hand; plain hidden layers; standard normal priors; LU 1x1"
        return jax_worker.glow_worker(glow(**options), options, ("distrax",), notes)
    if options["model"] == "moons":
        return jax_worker.moons_worker(moons(**options), options, ("distrax",))
    raise UnsupportedError(options["model"])


if __name__ == "__main__":
    serve(build)
