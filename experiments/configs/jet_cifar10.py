r"""Jet on CIFAR-10, from scratch: 32 couplings of two layers, patches of 4x4.

python -m experiments.train --config=experiments/configs/jet_cifar10.py --workdir=runs/jet_cifar10

For one accelerator of 80 GB. Paper: 3.02 bits/dim on test, of a model trained on ImageNet-21k before,
which this one is not, and not read again in its source: Kolesnikov et al. 2024, arXiv:2412.15129.

The release has no recipe for it. This one is jet_imagenet64.py's, with as many images as 200 epochs of
50,000, and mirrored ones against overfitting.
"""

from experiments.configs import default, jet_imagenet64


def get_config(mode: str = ""):
    config = jet_imagenet64.get_config()
    config.data.name = "cifar10"
    config.data.build = None
    config.data.flip = True

    config.optimizer.warmup_examples = 20 * 50_000
    config.train.steps = 200 * 50_000 // 1024
    config.train.eval_every = 200

    del config.paper.build
    config.paper.update(bits_per_dim=3.02, source="arXiv:2412.15129, pretrained (not read again)")
    config.paper.update(examples=10_000)
    return default.finish(config, mode, width=8, heads=2, couplings=6, layers=1)
