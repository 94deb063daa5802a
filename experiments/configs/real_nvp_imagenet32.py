r"""RealNVP on ImageNet 32x32, the build of 2016: four scales, 46,220,359 parameters.

python -m experiments.train --config=experiments/configs/real_nvp_imagenet32.py \
    --workdir=runs/real_nvp_imagenet32

For one GPU of 24 GB, an estimate. Paper: 4.28 bits/dim on the set's validation images, which are our
test: Dinh et al. 2017, arXiv:1605.08803, table 1.

As released (tensorflow/models, research/real_nvp). What differs:
- for how long was not published: 500,000 steps, 25 times through the set, are chosen;
- running statistics begin with those of 256 images, not with mean 0 and variance 1;
- the checkpoint that is evaluated is the best on 5,000 training images held out.
"""

import math

from ml_collections import ConfigDict

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "imagenet32"
    config.data.build = "oord2016"

    config.model = ConfigDict({"name": "real_nvp", "scales": 4, "width": 32, "blocks": 4})

    config.optimizer.schedule = "constant"
    config.optimizer.warmup_examples = 0
    config.optimizer.gradient_scale = 32 * 32 * 3 * math.log(2)  # the release descends nats of an image
    config.optimizer.magnitude_l2 = 5e-5
    config.optimizer.clip_norm = 100.0

    config.train.steps = 500_000
    config.train.batch_size = 64
    config.train.log_every = 100
    config.train.eval_every = 5_000
    config.eval.weights = "raw"
    config.eval.draws = 1

    config.paper.update(bits_per_dim=4.28, source="arXiv:1605.08803, table 1", n_bits=8)
    config.paper.update(dequantization="uniform", importance_samples=1, weights="raw")
    config.paper.update(build="oord2016", split="test", examples=49_999)
    return default.finish(config, mode, scales=1, width=4, blocks=1)
