"""bijx on JAX: GeneralCouplingLayer on moons. It has no Glow on images."""

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.peers import jax_nets, jax_worker
from benchmarks.peers.protocol import UnsupportedError, Worker, serve


def moons(kind, layers, width, depth, bins, bound, **_):
    """The model, of a seed and a batch; a spline acts on [0, 1], to which the data are mapped."""
    import bijx  # uses a device when it is imported, which must not be before use_devices

    def inner(rngs):
        if kind == "affine":
            return bijx.AffineLinear(transform_scale=jax_nets.positive, rngs=rngs)
        return bijx.MonotoneRQSpline(bins, rngs=rngs)

    def coupling(i, rngs):
        mask = bijx.checker_mask((2,), parity=bool(i % 2))
        template = bijx.ModuleReconstructor(inner(rngs))
        net = bijx.nn.nets.MLP(
            in_features=1,
            out_features=template.params_total_size,
            hidden_features=[width] * depth,
            activation=nnx.relu,
            rngs=rngs,
        )
        reshape = lambda p: p.reshape(*p.shape[:-1], 1, -1)  # noqa: E731
        return bijx.GeneralCouplingLayer(nnx.Sequential(net, reshape), mask, template)

    def split(seed):
        rngs = nnx.Rngs(seed)
        return nnx.split(bijx.Chain(*[coupling(i, rngs) for i in range(layers)]), nnx.Param, ...)

    graph, _, rest = split(0)

    def apply(params, x, method):
        chain = nnx.merge(graph, params, rest)
        unit = kind == "spline"
        inside = (x + bound) / (2 * bound) if unit else x
        z, minus_logdet = getattr(chain, method)(inside, jnp.zeros(x.shape[0]))
        return (z * 2 * bound - bound if unit else z), -minus_logdet

    def log_prob(params, x):
        z, logdet = apply(params, x, "forward")
        return jnp.sum(jax.scipy.stats.norm.logpdf(z), axis=-1) + logdet

    def draw(params, key, num):
        return apply(params, jax.random.normal(key, (num, 2)), "reverse")[0]

    return lambda seed, _: jax_worker.Model(split(seed)[1], log_prob, draw)


def build(options) -> Worker:
    """The worker of the model asked for."""
    if options["model"] == "moons":
        jax_worker.use_devices(options)
        return jax_worker.moons_worker(moons(**options), options, ("bijx",))
    raise UnsupportedError("couplings by masks on lattices; no squeeze, split or 1x1 convolution")


if __name__ == "__main__":
    serve(build)
