"""Glow on scikit-learn's handwritten digits, 8x8, 17 levels; under three minutes on two CPU cores.

python -m experiments.train --config=experiments/configs/glow_digits.py --workdir=runs/glow_digits

Seen: 2.148 +- 0.017 bits/dim on test, 16 noise draws, averaged weights of step 3,250 (best on valid).
Independent pixels cost 2.389. With 1,293 training images it overfits early: narrow nets, many steps of
flow, dropout and weight decay are what keeps valid falling.
"""

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "digits"

    config.model.levels = 2
    config.model.depth = 16
    config.model.width = 48
    config.model.dropout = 0.3

    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_examples = 12_800
    config.optimizer.weight_decay = 0.2

    config.train.steps = 3_500
    config.train.batch_size = 64
    config.train.eval_every = 250
    config.train.steps_per_call = 25  # 17.6 ms a step, and 20.7 one by one, on two CPU cores
    return default.finish(config, mode, depth=2, width=8)
