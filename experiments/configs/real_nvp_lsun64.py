r"""RealNVP on LSUN bedrooms, towers or churches, random 64x64 of 96x96: 185,898,341 parameters.

python -m experiments.train --config=experiments/configs/real_nvp_lsun64.py \
    --workdir=runs/real_nvp_lsun64

--config=FILE.py:tower or :church_outdoor takes another category than bedrooms. For one GPU of 40 GB,
an estimate; --config.train.accumulate=4 for one of 16, where batch norms see 16 images at a time and
not 64. Paper: 2.72 bits/dim of bedrooms, 2.81 of towers, 3.08 of churches, on the 300 validation
images, which are our test: Dinh et al. 2017, arXiv:1605.08803, table 1.

The recipe of real_nvp_imagenet64.py, with flips. What differs, beside what stands there, is the images:
- the shorter side is resized to 96 pixels there, and crops come from the whole; here they come from the
  middle square, by another filter;
- evaluation crops at random there, and takes the middle here.
"""

from experiments.configs import default, real_nvp_imagenet64

BITS_PER_DIM = {"bedroom": 2.72, "tower": 2.81, "church_outdoor": 3.08}


def get_config(mode: str = ""):
    category, mode = (mode, "") if mode in BITS_PER_DIM else ("bedroom", mode)
    config = real_nvp_imagenet64.get_config()
    config.data.name = f"lsun/{category}"
    config.data.build = None
    config.data.image_size = 96
    config.data.random_crop = 64
    config.data.flip = True

    config.eval.draws = 16
    config.paper.update(bits_per_dim=BITS_PER_DIM[category], build=None, examples=300)
    return default.finish(config, mode, scales=1, width=4, blocks=1)
