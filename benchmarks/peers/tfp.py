"""TensorFlow Probability's JAX substrate: RealNVP, triangular maps and RationalQuadraticSpline.

The 1x1 convolution is two ScaleMatvecTriL: ScaleMatvecLU does not trace under jit on this JAX.
"""

import jax
import jax.numpy as jnp
from tensorflow_probability.substrates.jax import bijectors as tfb

from benchmarks.peers import jax_nets, jax_worker
from benchmarks.peers.protocol import UnsupportedError, Worker, serve


def glow_step(params):
    """Actnorm, L U over the channels and RealNVP's coupling, data -> latent."""
    c = params["lu"].shape[0]
    lower, upper = jnp.tril(params["lu"], -1) + jnp.eye(c), jnp.triu(params["lu"])
    shift, log_scale = params["actnorm"]

    def shift_and_log_scale(x, units):
        del units
        shift, log_scale = jnp.split(jax_nets.conv_net(params["net"], x), 2, axis=-1)
        return shift, jax.nn.log_sigmoid(log_scale + 2.0)

    step = tfb.Chain(
        [
            tfb.RealNVP(c // 2, shift_and_log_scale_fn=shift_and_log_scale),
            tfb.ScaleMatvecTriL(lower),
            tfb.ScaleMatvecTriL(upper.T, adjoint=True),
            tfb.Shift(shift),
            tfb.Scale(log_scale=log_scale),
        ]
    )

    def forward_and_log_det(x):
        return step.forward(x), step.forward_log_det_jacobian(x, event_ndims=3)

    return forward_and_log_det, step.inverse


def init_glow_step(key, channels, width):
    """The parameters of a step; the matrix starts as a rotation without its pivots."""
    return {
        "actnorm": (jnp.zeros(channels), jnp.zeros(channels)),
        "lu": jax.lax.linalg.lu(jax.random.orthogonal(key, channels))[0],
        "net": jax_nets.init_conv_net(key, channels // 2, channels, width),
    }


def glow(levels, depth, width, size, **_):
    """The model, of a batch; actnorms start as the identity."""
    init, log_prob, draw = jax_nets.multiscale(
        glow_step,
        lambda key, c: init_glow_step(key, c, width),
        *(levels, depth, size),
    )
    return lambda _: jax_worker.Model(jax.jit(init)(jax.random.key(0)), log_prob, draw)


def moons(kind, layers, width, depth, bins, bound, **_):
    """RealNVP with a swap of the two coordinates between the layers."""
    outputs = {"affine": 2, "spline": 3 * bins - 1}[kind]

    def affine(net):
        def shift_and_log_scale(x, units):
            del units
            h = jax_nets.mlp(net, x)
            return h[..., :1], jnp.log(jax_nets.positive(h[..., 1:]))

        return tfb.RealNVP(1, shift_and_log_scale_fn=shift_and_log_scale)

    def spline(net):
        least = 1e-3

        def bijector(x, units):
            del units
            h = jax_nets.mlp(net, x)[..., None, :]
            widths, heights, slopes = jnp.split(h, [bins, 2 * bins], axis=-1)
            room = 2 * bound - bins * least
            return tfb.RationalQuadraticSpline(
                bin_widths=jax.nn.softmax(widths) * room + least,
                bin_heights=jax.nn.softmax(heights) * room + least,
                knot_slopes=jax.nn.softplus(slopes + jnp.log(jnp.expm1(1.0))) + least,
                range_min=-bound,
            )

        return tfb.RealNVP(1, bijector_fn=bijector)

    layer = {"affine": affine, "spline": spline}[kind]

    def flow(params):
        swap = tfb.Permute(jnp.array([1, 0]))
        steps = [b for net in params for b in (layer(net), swap)]
        return tfb.Chain(steps[::-1])

    def make(seed, _):
        keys = jax.random.split(jax.random.key(seed), layers)
        params = [jax_nets.init_mlp(key, 1, outputs, width, depth) for key in keys]
        return jax_worker.Model(params, log_prob, draw)

    def log_prob(params, x):
        bijector = flow(params)
        logdet = bijector.forward_log_det_jacobian(x, event_ndims=1)
        return jax_nets.standard_normal_log_prob(bijector.forward(x)) + logdet

    def draw(params, key, num):
        return flow(params).inverse(jax.random.normal(key, (num, 2)))

    return make


def build(options) -> Worker:
    """The worker of the model asked for."""
    packages = ("tfp-nightly",)
    if options["model"] == "glow":
        notes = "squeeze and split written by hand; plain hidden layers; standard normal priors; LU 1x1"
        return jax_worker.glow_worker(glow(**options), options, packages, notes)
    if options["model"] == "moons":
        return jax_worker.moons_worker(moons(**options), options, packages)
    raise UnsupportedError(options["model"])


if __name__ == "__main__":
    serve(build)
