r"""Glow on ImageNet 64x64, the build of 2016: affine couplings, L = 4, K = 48, 112,377,540 parameters.

python -m experiments.train --config=experiments/configs/glow_imagenet64.py \
    --workdir=runs/glow_imagenet64

For one GPU of 40 GB: 32 images at a time take 14 GiB, by the account of experiments.plan for a CPU.
--config.train.accumulate=8 halves that, and with eight GPUs 1 is best.
Paper: 3.81 bits/dim on the set's validation images, which are our test, 8 bits, raw weights:
Kingma & Dhariwal 2018, arXiv:1807.03039, table 2.

The recipe of glow_imagenet32.py, with a quarter of the images in a batch, in the warm-up and at the
initialisation, as released for images of four times the size. What differs, beside what stands there:
- the steps are as many as there, 18 times through the set.
"""

from experiments.configs import default, glow_imagenet32


def get_config(mode: str = ""):
    config = glow_imagenet32.get_config()
    config.data.name = "imagenet64"

    config.model.levels = 4

    config.optimizer.warmup_examples = 125_000
    config.train.batch_size = 128
    config.train.init_examples = 64
    config.eval.batch_size = 64

    config.paper.bits_per_dim = 3.81
    return default.finish(config, mode, levels=1, depth=1, width=4)
