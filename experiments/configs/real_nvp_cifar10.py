r"""RealNVP on CIFAR-10: two scales, nets of eight blocks, 19,609,545 parameters.

python -m experiments.train --config=experiments/configs/real_nvp_cifar10.py \
    --workdir=runs/real_nvp_cifar10 --config.data.download=True

For one GPU of 24 GB, an estimate. Paper: 3.49 bits/dim on test: Dinh et al. 2017, arXiv:1605.08803,
table 1.

The recipe of real_nvp_imagenet32.py, with what the paper's text says of CIFAR-10, which the release
does not have: 8 blocks, 64 maps, one downscale, flips. What differs, beside what stands there:
- the text does not say whether the width doubles after the downscale: it does, as in the released code
  (of 6.4 M parameters if it did not);
- for how long was not published: 500,000 steps, 711 times through 45,000 images, are chosen.
"""

from experiments.configs import default, real_nvp_imagenet32


def get_config(mode: str = ""):
    config = real_nvp_imagenet32.get_config()
    config.data.name = "cifar10"
    config.data.build = None
    config.data.flip = True

    config.model.update(scales=2, width=64, blocks=8)

    config.eval.draws = 16
    config.paper.update(bits_per_dim=3.49, build=None, examples=10_000)
    return default.finish(config, mode, scales=1, width=4, blocks=1)
