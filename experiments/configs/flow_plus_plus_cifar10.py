r"""Flow++ on CIFAR-10: 27,976,464 parameters in the flow and 3,466,976 in that of its noise.

python -m experiments.train --config=experiments/configs/flow_plus_plus_cifar10.py \
    --workdir=runs/flow_plus_plus_cifar10 --config.eval.importance=1
python -m experiments.evaluate --workdir=runs/flow_plus_plus_cifar10 --importance=4096

For one accelerator of 80 GB; on several, --config.model.memory=stored. Paper: 3.08 bits/dim on test,
variational noise, 4,096 importance samples (41 million images to evaluate), averaged weights: Ho et al.
2019, arXiv:1902.00275.

As released (flows/run_cifar.py); that never ends, and the 400 epochs of 782 steps are ours. What
differs:
- 5,000 training images choose the checkpoint;
- halves are a checkerboard, as in the paper, where the release takes even and odd columns.
"""

import math

from ml_collections import ConfigDict

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "cifar10"

    net = {"width": 96, "heads": 4, "components": 32, "dropout": 0.2, "memory": "recompute"}
    config.model = ConfigDict({"name": "flow_plus_plus", "depths": (4, 2, 3), "blocks": 10, **net})
    config.dequantization = ConfigDict({"name": "variational", "depth": 4, "blocks": 2, **net})
    config.dequantization.features = 32

    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_examples = 2_000 * 64
    config.optimizer.gradient_scale = 32 * 32 * 3 * math.log(2.0)  # the release descends nats
    config.optimizer.clip_norm = 1.0

    config.train.steps = 400 * 782
    config.train.init_examples = 128
    config.train.eval_every = 5 * 782
    config.eval.draws = 1
    config.eval.importance = 4096

    config.paper.update(bits_per_dim=3.08, source="arXiv:1902.00275", split="test", examples=10_000)
    config.paper.update(n_bits=8, dequantization="variational", importance_samples=4096)
    config.paper.weights = "average"

    small = {"blocks": 1, "width": 8, "heads": 2, "components": 2}
    if mode == "smoke":
        config.eval.importance = 2
        config.dequantization.update(depth=1, features=4, **small)
    return default.finish(config, mode, depths=(1, 1, 1), **small)
