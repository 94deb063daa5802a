"""The ablation of Glow at a small size: additive or affine couplings, three permutations, three seeds.

python -m experiments.sweep --config=experiments/configs/glow_ablation.py --workdir=runs/ablation --run
python -m experiments.sweep --config=experiments/configs/glow_ablation.py --workdir=runs/ablation \
    --plot=docs/images/ablation.png

Kingma & Dhariwal 2018, section 6.1 and figure 3, on CIFAR-10 with L=3, K=32 and width 512: 1x1
convolutions come to fewer bits/dim than fixed shuffles, and those than reversals, with either coupling.
Here it is crops of photographs, K=8 and width 32: 18 runs, meant for an hour on two CPU cores.
"""

import itertools
from typing import Any

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "photos"
    config.data.flip = True

    config.model.levels = 3
    config.model.depth = 8
    config.model.width = 32

    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "constant"  # as the paper's, so that every point of a curve is an end
    config.optimizer.warmup_examples = 6_400

    config.train.steps = 2_000
    config.train.batch_size = 32
    config.train.average_decay = 0.99  # the runs are short
    config.train.eval_every = 200
    config.train.steps_per_call = 25
    config.eval.draws = 4
    config.eval.samples = 100
    return default.finish(config, mode, depth=2, width=8)


def get_sweep() -> list[dict[str, Any]]:
    """Every combination with seed 0, then with seed 1, then with seed 2."""
    runs = itertools.product(range(3), ("additive", "affine"), ("reverse", "shuffle", "conv1x1"))
    return [
        {"model.coupling": coupling, "model.permutation": permutation, "seed": seed}
        for seed, coupling, permutation in runs
    ]
