"""normflows on PyTorch: GlowBlock in a MultiscaleFlow, as in its Glow example; couplings on moons."""

import normflows as nf
from torch import nn

from benchmarks.peers import torch_worker
from benchmarks.peers.protocol import UnsupportedError, Worker, serve


class Glow(nn.Module):
    """Levels from the coarsest latent to the image, as normflows orders them."""

    def __init__(self, levels, depth, width, size, **_):
        super().__init__()
        q0, flows, merges = [], [], []
        for i in range(levels):
            channels = 3 * 2 ** (levels + 1 - i)
            blocks = [nf.flows.GlowBlock(channels, width, split_mode="channel") for _ in range(depth)]
            flows.append([*blocks, nf.flows.Squeeze()])
            side = size // 2 ** (levels - i)
            if i > 0:
                merges.append(nf.flows.Merge())
            q0.append(nf.distributions.GlowBase((channels if i == 0 else channels // 2, side, side)))
        self.flow = nf.MultiscaleFlow(q0, flows, merges, class_cond=False)

    def log_prob(self, x):
        return self.flow.log_prob(x, None)

    def draw(self, num):
        return self.flow.sample(num)[0]


class Moons(nn.Module):
    """Couplings with a swap between them."""

    def __init__(self, kind, layers, width, depth, bins, bound, **_):
        super().__init__()
        flows = []
        for i in range(layers):
            if kind == "affine":
                net = nf.nets.MLP([1, *[width] * depth, 2], init_zeros=True)
                flows += [
                    nf.flows.AffineCouplingBlock(net, scale_map="sigmoid"),
                    nf.flows.Permute(2, mode="swap"),
                    nf.flows.ActNorm((2,)),
                ]
            else:
                flows.append(
                    nf.flows.CoupledRationalQuadraticSpline(
                        *(2, 1, width), num_bins=bins, tail_bound=bound, reverse_mask=i % 2 == 1
                    )
                )
        base = nf.distributions.DiagGaussian(2, trainable=False)
        self.flow = nf.NormalizingFlow(base, flows)

    def log_prob(self, x):
        return self.flow.log_prob(x)

    def draw(self, num):
        return self.flow.sample(num)[0]


def build(options) -> Worker:
    """The worker of the model asked for."""
    if options["model"] == "glow":
        notes = "plain hidden layers; a mean and a scale a channel as priors; PLU 1x1"
        return torch_worker.glow_worker(lambda: Glow(**options), options, ("normflows",), notes)
    if options["model"] == "moons":
        notes = {
            "affine": "actnorm each layer; sigmoid scale",
            "spline": "residual net of one block; splines of the other half too",
        }
        return torch_worker.moons_worker(
            lambda: Moons(**options), options, ("normflows",), notes[options["kind"]]
        )
    raise UnsupportedError(options["model"])


if __name__ == "__main__":
    serve(build)
