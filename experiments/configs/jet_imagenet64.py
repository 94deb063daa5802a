r"""Jet on ImageNet64: 32 couplings of two layers, 207,177,216 parameters.

python -m experiments.train --config=experiments/configs/jet_imagenet64.py \
    --workdir=runs/jet_imagenet64

For 8 accelerators of 80 GB; on fewer, --config.train.accumulate=8. Paper: 3.72 bits/dim on the
validation images, uniform noise, the last weights; 3.66 with --config.model.couplings=64
--config.model.layers=5: Kolesnikov et al. 2024, arXiv:2412.15129.

As released (big_vision, configs/proj/jet/imagenet64.py), 200 epochs of 1,281,149 images. What differs:
- 5,000 training images choose the checkpoint;
- every fifth coupling divides the patches like a checkerboard, where the release goes on to stripes;
- pixels lie in [-0.5, 0.5) and not in [-1, 1]: the first weights see half of what they saw;
- Adam's first moment is float32, where the release rounds it to bfloat16.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "imagenet64"
    config.data.build = "oord2016"

    config.model = ConfigDict({"name": "jet", "patch": 4, "width": 512, "heads": 8})
    config.model.update(couplings=32, layers=2, memory="recompute")

    config.optimizer.learning_rate = 3e-4
    config.optimizer.b2 = 0.95
    config.optimizer.warmup_examples = 20 * 1_281_149
    config.optimizer.weight_decay = 1e-5 / 3e-4  # the release's is not times the learning rate
    config.optimizer.clip_norm = 1.0

    config.train.steps = 200 * 1_281_149 // 1024
    config.train.batch_size = 1024
    config.train.init_examples = 8  # nothing is fitted to them
    config.train.eval_every = 5_000
    config.eval.weights = "raw"

    config.paper.update(bits_per_dim=3.72, source="arXiv:2412.15129", build="oord2016")
    config.paper.update(split="test", examples=49_999)
    config.paper.update(n_bits=8, dequantization="uniform", importance_samples=1, weights="raw")
    return default.finish(config, mode, width=8, heads=2, couplings=6, layers=1)
