"""Neural spline flow on two moons; under two minutes on two busy CPU cores.

python -m experiments.train --config=experiments/configs/moons_spline.py --workdir=runs/moons

Seen: 0.2943 +- 0.0074 nats on test, averaged weights of step 3,000; the true density has 0.2844 on the
same points. Six couplings and 4,000 steps came to 0.2916, in 1.7 times as long.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "moons"

    config.model = ConfigDict(
        {"name": "neural_spline_flow", "depth": 4, "width": 64, "bins": 8, "bound": 3.0}
    )

    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_examples = 51_200
    config.optimizer.clip_norm = 5.0

    config.train.steps = 3_000
    config.train.batch_size = 512
    config.train.init_examples = 512
    config.train.log_every = 100
    config.train.eval_every = 500
    config.train.steps_per_call = 100
    config.eval.batch_size = 2_000
    return default.finish(config, mode, depth=2, width=8)
