"""nflows on PyTorch: its image transforms in a multiscale composite; couplings on moons."""

import warnings

import torch
from nflows import distributions, transforms
from torch import nn

from benchmarks.peers import torch_worker
from benchmarks.peers.protocol import UnsupportedError, Worker, serve

warnings.filterwarnings("ignore", message=".*triangular_solve is deprecated")


class Ignoring(nn.Module):
    """A network that takes and leaves nflows' context."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, inputs, context=None):
        del context
        return self.net(inputs)


class Flow(nn.Module):
    """A transform and a standard normal."""

    def __init__(self, transform, shape):
        super().__init__()
        self.transform = transform
        self.base = distributions.StandardNormal(shape)

    def log_prob(self, x):
        z, logdet = self.transform(x)
        return torch_worker.standard_normal_log_prob(z) + logdet

    def draw(self, num):
        return self.transform.inverse(self.base.sample(num))[0]


def glow(levels, depth, width, size, **_):
    """Squeeze, steps, split, three times."""
    multiscale = transforms.MultiscaleCompositeTransform(levels)
    shape = (3, size, size)
    for _ in range(levels):
        squeeze = transforms.SqueezeTransform()
        c, h, w = squeeze.get_output_shape(*shape)
        steps = []
        for _ in range(depth):
            mask = torch.arange(c) >= c // 2
            steps += [
                transforms.ActNorm(c),
                transforms.OneByOneConvolution(c, using_cache=True, identity_init=False),
                transforms.AffineCouplingTransform(
                    mask.int(), lambda a, b: Ignoring(torch_worker.relu_conv_net(a, b, width))
                ),
            ]
        level = transforms.CompositeTransform([squeeze, *steps])
        shape = multiscale.add_transform(level, (c, h, w)) or (c, h, w)
    return Flow(multiscale, [3 * size * size])


def moons(kind, layers, width, depth, bins, bound, **_):
    """Couplings whose mask alternates."""

    def net(inputs, out):
        return Ignoring(torch_worker.relu_mlp(inputs, out, width, depth))

    steps = []
    for i in range(layers):
        mask = [i % 2, 1 - i % 2]
        if kind == "affine":
            steps += [transforms.ActNorm(2), transforms.AffineCouplingTransform(mask, net)]
        else:
            steps.append(
                transforms.PiecewiseRationalQuadraticCouplingTransform(
                    mask, net, num_bins=bins, tails="linear", tail_bound=bound
                )
            )
    return Flow(transforms.CompositeTransform(steps), [2])


def build(options) -> Worker:
    """The worker of the model asked for."""
    if options["model"] == "glow":
        notes = "plain hidden layers; standard normal priors; LU 1x1, its inverse cached"
        return torch_worker.glow_worker(lambda: glow(**options), options, ("nflows",), notes)
    if options["model"] == "moons":
        notes = {"affine": "actnorm each layer; sigmoid scale", "spline": ""}[options["kind"]]
        return torch_worker.moons_worker(lambda: moons(**options), options, ("nflows",), notes)
    raise UnsupportedError(options["model"])


if __name__ == "__main__":
    serve(build)
