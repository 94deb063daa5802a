r"""NICE on SVHN: four additive couplings of two halves, 56,609,216 parameters.

python -m experiments.train --config=experiments/configs/nice_svhn.py --workdir=runs/nice_svhn \
    --config.data.download=True

For any one GPU. Paper: 2.60 bits/dim on test, which is 8 - 11496.55 nats / (3072 log 2) with pixels in
[0, 1]: Dinh et al. 2015, arXiv:1410.8516, section 5.1.

As released (exp/nice_svhn.yaml), 1,500 epochs of 366 steps. What differs:
- no whitening: the paper has ZCA, the released file names none, and an exact likelihood of pixels wants
  its log-determinant;
- the paper's text has four hidden layers; the released file, which is followed, has three;
- 6,000 of the 73,257 training images are held out, where the release takes a valid set partly of the
  531,131 extra ones;
- pixels lie in [-0.5, 0.5) and not in [0, 1): biases make up for it.
"""

import math

from ml_collections import ConfigDict

from experiments.configs import default, nice_mnist


def get_config(mode: str = ""):
    config = nice_mnist.get_config()
    config.data.name = "svhn"
    config.data.valid_examples = 6_000

    config.model = ConfigDict({"name": "nice", "depths": (3, 3, 3, 3), "width": 2000})
    config.model.update(mask="channel", prior="normal", channels_first=True)

    config.optimizer.momentum_start = 5 * 366
    config.optimizer.gradient_scale = 32 * 32 * 3 * math.log(2)

    config.train.steps = 1_500 * 366
    config.train.log_every = 366 * 10
    config.train.eval_every = 366 * 10

    config.paper.update(bits_per_dim=2.6009, examples=26_032)
    return default.finish(config, mode, depths=(1, 1), width=8)
