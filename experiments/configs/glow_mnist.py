r"""Glow on MNIST, 28x28x1: affine couplings, L = 2, K = 32, 19,867,556 parameters.

python -m experiments.train --config=experiments/configs/glow_mnist.py --workdir=runs/glow_mnist \
    --config.data.download=True

For one GPU of 24 GB. Later papers quote 1.05 bits/dim for Glow on test; a figure not checked again,
whose protocol they do not give. It cannot be of tiled images, which cost about a quarter of that.

The recipe of glow_cifar10.py. What differs, beside what stands there:
- the release takes no images of 28x28; two levels, since three would want sizes divisible by 8.
"""

from experiments.configs import default, glow_cifar10


def get_config(mode: str = ""):
    config = glow_cifar10.get_config()
    config.data.name = "mnist"
    config.model.levels = 2
    config.paper.update(bits_per_dim=1.05, source="quoted in arXiv:1906.02735, not checked again")
    return default.finish(config, mode, levels=1, depth=2, width=8)
