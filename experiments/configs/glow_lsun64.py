r"""Glow on LSUN bedrooms, towers or churches, random 64x64 of 96x96: 66,861,588 parameters.

python -m experiments.train --config=experiments/configs/glow_lsun64.py --workdir=runs/glow_lsun64

--config=FILE.py:tower or :church_outdoor takes another category than bedrooms. For one GPU of 40 GB.
Paper: 2.38 bits/dim of bedrooms, 2.46 of towers, 2.67 of churches, on the 300 validation images, which
are our test, 8 bits, raw weights: Kingma & Dhariwal 2018, arXiv:1807.03039, table 2.

The recipe of glow_imagenet64.py, with three levels. What differs, beside what stands there:
- the images are those of real_nvp_lsun64.py, and what differs there of them;
- the steps are 7 times through the bedrooms, 32 through the towers, 186 through the churches.
"""

from experiments.configs import default, glow_imagenet64

BITS_PER_DIM = {"bedroom": 2.38, "tower": 2.46, "church_outdoor": 2.67}


def get_config(mode: str = ""):
    category, mode = (mode, "") if mode in BITS_PER_DIM else ("bedroom", mode)
    config = glow_imagenet64.get_config()
    config.data.name = f"lsun/{category}"
    config.data.build = None
    config.data.image_size = 96
    config.data.random_crop = 64

    config.model.levels = 3

    config.eval.draws = 16
    config.paper.update(bits_per_dim=BITS_PER_DIM[category], build=None, examples=300)
    return default.finish(config, mode, levels=1, depth=1, width=4)
