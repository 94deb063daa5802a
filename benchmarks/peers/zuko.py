"""zuko on PyTorch: RealNVP and coupling splines on moons. It has no image flows."""

import functools
import math

import torch
import zuko
from torch import nn

from benchmarks.peers import torch_worker
from benchmarks.peers.protocol import UnsupportedError, Worker, serve


class Moons(nn.Module):
    """zuko.flows.RealNVP, with its affine map or its spline."""

    def __init__(self, kind, layers, width, depth, bins, bound, **_):
        super().__init__()
        spline = {
            "univariate": functools.partial(zuko.transforms.MonotonicRQSTransform, bound=bound),
            "shapes": [(bins,), (bins,), (bins - 1,)],
        }
        self.flow = zuko.flows.RealNVP(
            features=2,
            transforms=layers,
            hidden_features=[width] * depth,
            **(spline if kind == "spline" else {}),
        )

    def log_prob(self, x):
        transform = self.flow.transform()
        z, logdet = transform.call_and_ladj(x)
        return -0.5 * (z.square().sum(-1) + 2 * math.log(2 * math.pi)) + logdet

    def draw(self, num):
        return self.flow.transform().inv(torch.randn(num, 2))


def build(options) -> Worker:
    """The worker of the model asked for."""
    if options["model"] == "moons":
        return torch_worker.moons_worker(lambda: Moons(**options), options, ("zuko",))
    raise UnsupportedError("vectors only: no squeeze, 1x1 convolution or image coupling")


if __name__ == "__main__":
    serve(build)
