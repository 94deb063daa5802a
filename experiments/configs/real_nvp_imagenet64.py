r"""RealNVP on ImageNet 64x64, the build of 2016: five scales, 185,898,341 parameters.

python -m experiments.train --config=experiments/configs/real_nvp_imagenet64.py \
    --workdir=runs/real_nvp_imagenet64

For one GPU of 40 GB, an estimate; --config.train.accumulate=4 for one of 16, where batch norms see 16
images at a time and not 64. Paper: 3.98 bits/dim on the set's validation images, which are our test:
Dinh et al. 2017, arXiv:1605.08803, table 1.

The recipe of real_nvp_imagenet32.py, with one scale more, as in the released commands. What differs,
beside what stands there:
- nets have 4 residual blocks, as in those commands; the paper's text has 2: --config.model.blocks=2;
- 500,000 steps are 25 times through the set.
"""

import math

from experiments.configs import default, real_nvp_imagenet32


def get_config(mode: str = ""):
    config = real_nvp_imagenet32.get_config()
    config.data.name = "imagenet64"

    config.model.scales = 5
    config.optimizer.gradient_scale = 64 * 64 * 3 * math.log(2)

    config.eval.batch_size = 128
    config.paper.bits_per_dim = 3.98
    return default.finish(config, mode, scales=1, width=4, blocks=1)
