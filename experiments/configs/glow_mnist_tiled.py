r"""Glow on MNIST, padded to 32x32 and tiled to three channels: L = 3, K = 32, 44,603,604 parameters.

python -m experiments.train --config=experiments/configs/glow_mnist_tiled.py \
    --workdir=runs/glow_mnist_tiled --config.data.download=True

For one GPU of 24 GB. This is what the release does with --problem=mnist, and no paper has a number of
it. Its bits/dim are not those of MNIST: of 3,072 dimensions 2,288 are known from the rest.

The recipe of glow_cifar10.py, and what differs is what differs there.
"""

from ml_collections import ConfigDict

from experiments.configs import default, glow_cifar10


def get_config(mode: str = ""):
    config = glow_cifar10.get_config()
    config.data.name = "mnist"
    config.data.pad = 2
    config.data.channels = 3
    config.paper = ConfigDict()
    return default.finish(config, mode, levels=1, depth=2, width=8)
