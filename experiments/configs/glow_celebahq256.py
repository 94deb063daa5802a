r"""Glow on CelebA-HQ, 256x256 in 5 bits: additive couplings, L = 6, K = 32, 175,099,620 parameters.

python -m experiments.train --config=experiments/configs/glow_celebahq256.py \
    --workdir=runs/glow_celebahq256

For one GPU of 40 GB: no activation is kept, and all 40 images at once take 12 GiB, by the account of
experiments.plan for a CPU; --config.train.accumulate=5 takes 8 at a time.
Paper: 1.03 bits/dim, 5 bits, raw weights, of 3,000 images: Kingma & Dhariwal 2018,
arXiv:1807.03039. The release had 40 GPUs for about a week (openai/glow, issue 37).

The recipe of glow_cifar10.py, where an image counts as 64: so 40 images are a step, and 20 steps an
epoch, from which b2 follows. What differs, beside what stands there:
- for how long was not published: 9,000 of those epochs, 180,000 steps, are chosen;
- which 3,000 images are the test was not published: ours are the last in the order of tfds, and the
  3,000 before them choose the checkpoint.
"""

from experiments.configs import default, glow_cifar10


def get_config(mode: str = ""):
    config = glow_cifar10.get_config()
    config.data.name = "celeb_a_hq/256"
    config.data.n_bits = 5
    config.data.shift = 0.0

    config.model.levels = 6
    config.model.coupling = "additive"
    config.model.memory = "constant"

    config.optimizer.b2 = 0.95
    config.optimizer.warmup_examples = 500_000 // 64

    config.train.steps = 9_000 * 20
    config.train.batch_size = 40
    config.train.init_examples = 4
    config.train.accumulate = 1
    config.train.average_decay = 0.95
    config.train.log_every = 100
    config.train.eval_every = 2_500
    config.eval.batch_size = 8
    config.eval.samples = 100

    config.paper.update(bits_per_dim=1.03, source="arXiv:1807.03039", n_bits=5, examples=3_000)
    return default.finish(config, mode, levels=1, depth=1, width=4)
