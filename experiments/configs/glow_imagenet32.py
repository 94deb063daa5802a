r"""Glow on ImageNet 32x32, the build of 2016: affine couplings, L = 3, K = 48, 66,861,588 parameters.

python -m experiments.train --config=experiments/configs/glow_imagenet32.py \
    --workdir=runs/glow_imagenet32

For one GPU of 40 GB, 128 images at a time. --config.train.accumulate=8 halves that, and with eight GPUs
1 is best. Paper: 4.09 bits/dim on the set's validation images, which are our test, 8 bits, raw weights:
Kingma & Dhariwal 2018, arXiv:1807.03039, table 2.

The recipe of glow_cifar10.py, but that nothing is augmented. What differs, beside what stands there:
- for how long was not published: the steps are as many as there, 71 times through the set.
"""

from experiments.configs import default, glow_cifar10


def get_config(mode: str = ""):
    config = glow_cifar10.get_config()
    config.data.name = "imagenet32"
    config.data.build = "oord2016"
    config.data.shift = 0.0

    config.model.depth = 48

    config.eval.draws = 1
    config.paper.update(bits_per_dim=4.09, build="oord2016", examples=49_999)
    return default.finish(config, mode, levels=1, depth=2, width=8)
