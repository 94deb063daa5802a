r"""RealNVP on CelebA, cropped to 148x148 and resized to 64x64: five scales, 185,898,341 parameters.

python -m experiments.train --config=experiments/configs/real_nvp_celeba64.py \
    --workdir=runs/real_nvp_celeba64

For one GPU of 40 GB, an estimate; --config.train.accumulate=4 for one of 16, where batch norms see 16
images at a time and not 64. Paper: 3.02 bits/dim on test, a figure not checked again: Dinh et al.
2017, arXiv:1605.08803, table 1.

The recipe of real_nvp_imagenet64.py, with flips. What differs, beside what stands there, is the images:
- the crop is the middle of the 218x178 pixels; the released one lies 5 pixels lower;
- they are resized by Lanczos and rounded. The release resizes by TensorFlow's bilinear filter, rounds
  nothing and adds noise to that, so that its number is of smoother images, and of no integer ones;
- the valid set is CelebA's own.
"""

from experiments.configs import default, real_nvp_imagenet64


def get_config(mode: str = ""):
    config = real_nvp_imagenet64.get_config()
    config.data.name = "celeb_a"
    config.data.build = None
    config.data.crop = 148
    config.data.image_size = 64
    config.data.flip = True

    config.paper.update(bits_per_dim=3.02, build=None, examples=19_962)
    return default.finish(config, mode, scales=1, width=4, blocks=1)
