r"""Residual Flow on CIFAR-10: 16-16-16 blocks of 512 channels, 25,174,129 parameters.

python -m experiments.train --config=experiments/configs/residual_flow_cifar10.py \
    --workdir=runs/residual_flow_cifar10

For one accelerator of 80 GB. Paper: 3.280 bits/dim on test, uniform noise, averaged weights, an
unbiased estimate that always takes 20 terms: Chen et al. 2019, arXiv:1906.02735.

As released (train_img.py), 1,000 epochs of 782 steps, which is its limit and not a claim of the paper.
What differs:
- 5,000 training images choose the checkpoint, where the release chooses on test;
- norms are bounded from above, where the release comes to them from below;
- the probes of the traces are signs, where the release has normal ones.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "cifar10"
    config.data.flip = True

    config.model = ConfigDict({"name": "residual_flow", "levels": 3, "depth": 16, "width": 512})
    config.model.update(end_depth=4, end_width=128, coefficient=0.98, margin=0.05, memory="stored")
    config.model.update(logdet="estimate", exact_terms=2, terms="poisson")

    config.optimizer.b2 = 0.99
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_examples = 64_000
    config.optimizer.clip_norm = 1.0

    config.train.steps = 1_000 * 782
    config.train.init_examples = 64  # its first batch
    config.train.eval_every = 5 * 782
    config.eval.model.exact_terms = 20

    config.paper.update(bits_per_dim=3.280, source="arXiv:1906.02735", split="test", examples=10_000)
    config.paper.update(n_bits=8, dequantization="uniform", importance_samples=1, weights="average")
    return default.finish(config, mode, depth=1, width=8, end_depth=1, end_width=8)
