"""Haar: the orthonormal Haar wavelet transform of images, (h, w, c) -> (h/2, w/2, 4c).

Of each 2x2 block [[a, b], [c, d]]: half of a+b+c+d, a-b+c-d, a+b-c-d and a-b-c+d.  In flows it
takes the squeeze's place: Ardizzone et al. 2019, arXiv:1907.02392; Yu et al. 2020, arXiv:2010.13821.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector, check_images
from flowjax_glow.bijectors.isometry import isometry


def haar() -> Bijector:
    """Orthonormal bijector on (batch, height, width, channels); height and width even. logdet 0.

    Output channels: the averages (times 2) of all channels first, so that factor_out sends them on;
    then the differences along the width, along the height, and along both. No params.

    Raises:
      ValueError: when applied, for another rank, an odd height or width, or, inverse, for channels that
        are not a multiple of 4.
    """

    def forward(x):
        n, h, w, c = check_images(x)
        if h % 2 or w % 2:
            raise ValueError(f"height and width must be even; got {h}x{w}")
        blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
        bands = _mix(*(blocks[:, :, i, :, j] for i in (0, 1) for j in (0, 1)))
        return jnp.concatenate(bands, axis=-1)

    def inverse(z):
        n, h, w, c = check_images(z)
        if c % 4:
            raise ValueError(f"channels must be a multiple of 4; got {c}")
        top_left, top_right, low_left, low_right = _mix(*jnp.split(z, 4, axis=-1))
        rows = [jnp.stack(pair, axis=3) for pair in ((top_left, top_right), (low_left, low_right))]
        x = jnp.stack(rows, axis=2)  # (n, h, 2, w, 2, c / 4)
        return x.reshape(n, 2 * h, 2 * w, c // 4)

    return isometry(forward, inverse)


def _mix(a, b, c, d):
    """The transform of a block; it is its own inverse."""
    left_sum, right_sum = 0.5 * (a + c), 0.5 * (b + d)
    left_fall, right_fall = 0.5 * (a - c), 0.5 * (b - d)
    return left_sum + right_sum, left_sum - right_sum, left_fall + right_fall, left_fall - right_fall
