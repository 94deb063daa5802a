r"""Glow on CIFAR-10 in 5 bits, whose prior knows the class: additive, 38,396,820 parameters.

python -m experiments.train --config=experiments/configs/glow_cifar10_conditional.py \
    --workdir=runs/glow_cifar10_conditional --config.data.download=True

For one GPU of 24 GB. The release trains it for samples, and the paper gives no number of it; without
the class Glow has 1.67 bits/dim of 5-bit images: Kingma & Dhariwal 2018, arXiv:1807.03039.

The recipe of glow_cifar10.py. What differs, beside what stands there:
- the loss is the likelihood alone. The release adds 0.01 times the bits that a linear classifier of the
  last latent needs for the class (--weight_y=0.01); a flow here is trained on log p(x | y) and nothing
  else.
"""

from ml_collections import ConfigDict

from experiments.configs import default, glow_cifar10


def get_config(mode: str = ""):
    config = glow_cifar10.get_config()
    config.data.n_bits = 5
    config.model.coupling = "additive"
    config.model.num_classes = 10
    config.paper = ConfigDict()
    return default.finish(config, mode, levels=1, depth=2, width=8)
