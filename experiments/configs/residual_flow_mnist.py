r"""Residual Flow on MNIST, 28x28x1: 16-16-16 blocks of 512 channels.

python -m experiments.train --config=experiments/configs/residual_flow_mnist.py \
    --workdir=runs/residual_flow_mnist

For one accelerator of 40 GB. Paper: 0.970 bits/dim on test, by the protocol of CIFAR-10: Chen et al.
2019, arXiv:1906.02735; the number was not read again in its source.

As released: residual_flow_cifar10.py, with a logit of margin 1e-6 and no mirrored images, 1,000 epochs
of 938 steps. What differs is the same.
"""

from experiments.configs import default, residual_flow_cifar10


def get_config(mode: str = ""):
    config = residual_flow_cifar10.get_config()
    config.data.name = "mnist"
    config.data.flip = False
    config.model.margin = 1e-6

    config.train.steps = 1_000 * 938
    config.train.eval_every = 5 * 938

    config.paper.update(bits_per_dim=0.970, source="arXiv:1906.02735 (not read again)")
    return default.finish(config, mode, depth=1, width=8, end_depth=1, end_width=8)
