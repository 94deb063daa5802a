r"""TarFlow 2-768-8-8 on ImageNet64: 460,142,784 parameters.

python -m experiments.train --config=experiments/configs/tarflow_imagenet64.py \
    --workdir=runs/tarflow_imagenet64

For 16 accelerators of 80 GB; on fewer, --config.train.accumulate=8. Paper: 2.99 bits/dim on the
validation images, uniform noise, no labels, the last weights: Zhai et al. 2024, arXiv:2412.06329. Of
which build they are was not confirmed: that of 2016 is assumed, and on that of 2017, with
--config.data.build=downsampled2017, numbers are lower. Labels, and their dropout, are of its models
for samples, which have no likelihood.

As released (ml-tarflow), 100 epochs of 5,004 steps. What differs:
- 5,000 training images choose the checkpoint;
- pixels lie in [-0.5, 0.5) and not in [-1, 1): the first weights see half of what they saw;
- the warm-up of an epoch is from 0, where the release's is from 1e-6;
- the initial weights are Jet's (nets/transformer.py).
"""

import math

from ml_collections import ConfigDict

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "imagenet64"
    config.data.build = "oord2016"
    config.data.flip = True

    config.model = ConfigDict({"name": "tarflow", "patch": 2, "width": 768, "heads": 12})
    config.model.update(blocks=8, layers=8, memory="recompute")

    config.optimizer.learning_rate = 1e-4
    config.optimizer.final_learning_rate = 1e-6
    config.optimizer.b2 = 0.95
    config.optimizer.warmup_examples = 5_004 * 256
    config.optimizer.weight_decay = 1e-4
    config.optimizer.clip_norm = math.inf

    config.train.steps = 100 * 5_004
    config.train.batch_size = 256
    config.train.init_examples = 8  # nothing is fitted to them
    config.train.eval_every = 5_004
    config.eval.weights = "raw"

    config.paper.update(bits_per_dim=2.99, source="arXiv:2412.06329")
    config.paper.update(split="test", examples=49_999)
    config.paper.update(n_bits=8, dequantization="uniform", importance_samples=1, weights="raw")
    return default.finish(config, mode, patch=8, width=8, heads=2, blocks=2, layers=1)
