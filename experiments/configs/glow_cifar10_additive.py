r"""Glow on CIFAR-10 with additive couplings, as in the paper's ablation: 38,395,668 parameters.

python -m experiments.train --config=experiments/configs/glow_cifar10_additive.py \
    --workdir=runs/glow_cifar10_additive --config.data.download=True

For one GPU of 24 GB. The paper draws a curve and gives no number: Kingma & Dhariwal 2018,
arXiv:1807.03039, figure 3. The other permutations are --config.model.permutation=reverse and =shuffle;
glow_ablation.py is all six at a small size.

The recipe of glow_cifar10.py, and what differs is what differs there.
"""

from ml_collections import ConfigDict

from experiments.configs import default, glow_cifar10


def get_config(mode: str = ""):
    config = glow_cifar10.get_config()
    config.model.coupling = "additive"
    config.paper = ConfigDict()
    return default.finish(config, mode, levels=1, depth=2, width=8)
