r"""NICE on MNIST, 28x28x1: four additive couplings of odd and even pixels, 19,158,352 parameters.

python -m experiments.train --config=experiments/configs/nice_mnist.py --workdir=runs/nice_mnist \
    --config.data.download=True

For any one GPU. Paper: 4.36 bits/dim on test, which is 8 - 1980.50 nats / (784 log 2) with pixels in
[0, 1]: Dinh et al. 2015, arXiv:1410.8516, section 5.1.

As released (exp/nice_mnist.yaml), 1,500 epochs of 250 steps. What differs:
- pixels lie in [-0.5, 0.5) and not in [0, 1): biases make up for it;
- the 10,000 images held out are the last in the order of tfds, not of the original file.
The paper's text has Adam; the released file, which is followed, has RMSProp with momentum.
"""

import math

from ml_collections import ConfigDict

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "mnist"
    config.data.valid_examples = 10_000

    config.model = ConfigDict({"name": "nice", "depths": (5, 5, 5, 5), "width": 1000})
    config.model.update(mask="checkerboard", prior="logistic")

    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b1 = 0.5
    config.optimizer.momentum_start = 5 * 250
    config.optimizer.b2 = 0.95
    config.optimizer.eps = 1e-2
    config.optimizer.gradient_scale = 28 * 28 * math.log(2)  # the release descends nats of an image
    config.optimizer.schedule = "decay"
    config.optimizer.decay_rate = 1 / 1.0005  # every step: down to a tenth after 18 epochs
    config.optimizer.final_learning_rate = 1e-4
    config.optimizer.warmup_examples = 0
    config.optimizer.clip_norm = math.inf

    config.train.steps = 1_500 * 250
    config.train.batch_size = 200
    config.train.steps_per_call = 10
    config.train.log_every = 250
    config.train.eval_every = 2_500
    config.eval.weights = "raw"

    config.paper.update(bits_per_dim=4.3555, source="arXiv:1410.8516, section 5.1", n_bits=8)
    config.paper.update(dequantization="uniform", importance_samples=1, weights="raw")
    config.paper.update(split="test", examples=10_000)
    return default.finish(config, mode, depths=(1, 1), width=8)
