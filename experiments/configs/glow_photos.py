"""Glow on 32x32 crops of the photographs that scikit-learn and scikit-image bring along.

python -m experiments.train --config=experiments/configs/glow_photos.py --workdir=runs/glow_photos

Seen: 3.870 +- 0.024 bits/dim on test, 4 noise draws, averaged weights of step 6,000, in 28 minutes on
two CPU cores that did other work too. The standard error takes the crops as independent; they come
from two photographs.
"""

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "photos"
    config.data.flip = True

    config.model.levels = 3
    config.model.depth = 8
    config.model.width = 64

    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_examples = 16_000

    config.train.steps = 6_000
    config.train.batch_size = 32
    config.train.eval_every = 500
    config.eval.draws = 4
    return default.finish(config, mode, depth=2, width=8)
