"""FrEIA on PyTorch: AllInOneBlock in a GraphINN with splits; the same block on moons."""

import torch
from FrEIA import framework, modules
from torch import nn

from benchmarks.peers import torch_worker
from benchmarks.peers.protocol import UnsupportedError, Worker, serve


class Flow(nn.Module):
    """A graph with standard normal outputs."""

    def __init__(self, inn, shapes):
        super().__init__()
        self.inn, self.shapes = inn, shapes

    def log_prob(self, x):
        latents, logdet = self.inn(x)
        latents = (latents,) if torch.is_tensor(latents) else latents
        return sum(torch_worker.standard_normal_log_prob(z) for z in latents) + logdet

    def draw(self, num):
        z = [torch.randn(num, *shape) for shape in self.shapes]
        return self.inn(z, rev=True, jac=False)[0]


def glow(levels, depth, width, size, **_):
    """Squeeze, blocks, split, three times."""

    def net(a, b):
        return torch_worker.relu_conv_net(a, b, width)

    block = {"subnet_constructor": net, "permute_soft": True, "global_affine_type": "EXP"}
    nodes, latents = [framework.InputNode(3, size, size)], []
    at = nodes[0]
    for level in range(levels):
        at = framework.Node(at, modules.IRevNetDownsampling, {})
        nodes.append(at)
        for _ in range(depth):
            at = framework.Node(at, modules.AllInOneBlock, block)
            nodes.append(at)
        if level < levels - 1:
            split = framework.Node(at, modules.Split, {})
            latents.append(framework.OutputNode(split.out1))
            nodes.append(split)
            at = split.out0
    latents.append(framework.OutputNode(at))
    shapes = [node.input_dims[0] for node in latents]
    return Flow(framework.GraphINN([*nodes, *latents]), shapes)


def moons(layers, width, depth, **_):
    """AllInOneBlock's affine couplings with permutations."""

    def net(a, b):
        return torch_worker.relu_mlp(a, b, width, depth)

    flow = framework.SequenceINN(2)
    for _ in range(layers):
        flow.append(modules.AllInOneBlock, subnet_constructor=net, permute_soft=True)
    return Flow(flow, [(2,)])


def build(options) -> Worker:
    """The worker of the model asked for."""
    packages = ("FrEIA",)
    if options["model"] == "glow":
        notes = (
            "plain hidden layers; standard normal priors; fixed rotations, no learned 1x1; tanh clamp"
        )
        return torch_worker.glow_worker(lambda: glow(**options), options, packages, notes)
    if options["model"] == "moons" and options["kind"] == "affine":
        notes = "fixed rotations between the layers; a global scale a layer; tanh clamp"
        return torch_worker.moons_worker(lambda: moons(**options), options, packages, notes)
    raise UnsupportedError("no spline coupling in FrEIA 0.2")


if __name__ == "__main__":
    serve(build)
