r"""Glow on CIFAR-10: affine couplings, L = 3, K = 32, 44,603,604 parameters.

python -m experiments.train --config=experiments/configs/glow_cifar10.py --workdir=runs/glow_cifar10 \
    --config.data.download=True

For one GPU of 24 GB: 128 images at a time take 9 GiB, by the account of experiments.plan for a CPU.
--config.train.accumulate=8 halves that, and with eight GPUs, or one of 80 GB, 1 is best.
Paper: 3.35 bits/dim on test, 8 bits, raw weights: Kingma & Dhariwal 2018, arXiv:1807.03039,
table 2. On the way, at batch 64: 3.63, 3.56, 3.50 and 3.49 bits/dim of held-out images after 10, 20, 50
and 80 epochs (chrischute/glow).

As released, where that differs from the text (openai/glow). What differs from the release:
- for how long was not published: 1,800 epochs of 98 steps are where the paper's curves end;
- 5,000 training images are held out and choose the checkpoint. The release chooses on test;
- the couplings' scales are no less than 1/4 (bijectors/affine.py), where the release's have no bound;
- images are moved by whole pixels, up to 3 each way, where the release moves by fractions of them up to
  3.2 and takes the nearest.
The average of the weights has the released decay; --weights=average of experiments.evaluate takes it.
"""

import math

from experiments.configs import default

EPOCH = 98  # steps of 512 that 50,000 images take; the release counts in them whatever the set


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "cifar10"
    config.data.shift = 0.1

    # The model is default.py's.
    config.optimizer.name = "adamax"
    config.optimizer.b2 = 1 - 1 / EPOCH
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_examples = 500_000
    config.optimizer.clip_norm = math.inf

    config.train.steps = 1_800 * EPOCH
    config.train.batch_size = 512
    config.train.accumulate = 4
    config.train.average_decay = 1 - 1 / EPOCH
    config.train.log_every = EPOCH
    config.train.eval_every = 25 * EPOCH
    config.eval.weights = "raw"

    config.paper.update(bits_per_dim=3.35, source="arXiv:1807.03039, table 2", n_bits=8)
    config.paper.update(dequantization="uniform", importance_samples=1, weights="raw")
    config.paper.update(split="test", examples=10_000)
    return default.finish(config, mode, levels=2, depth=2, width=8)
