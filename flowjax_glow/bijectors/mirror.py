"""Mirror: turns the order of positions round, so that an autoregressive bijector reads the other way.

Of an image, both axes together reverse the raster order: the flips between the blocks of TarFlow, Zhai
et al. 2024, arXiv:2412.06329. logdet 0.
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.isometry import isometry


def mirror(*axes: int) -> Bijector:
    """Reverses the given axes of (batch, ...); axis 0 is the batch and stays. No params.

    Raises:
      ValueError: for no axes or axis 0; when applied, for an axis that is not there.
    """
    if not axes or 0 in axes:
        raise ValueError(f"axes must be one or more, without the batch's 0; got {axes}")

    def flip(x):
        if not all(-x.ndim < axis < x.ndim for axis in axes):
            raise ValueError(f"axes must be of the event; got {axes} for shape {x.shape}")
        return jnp.flip(x, axes)

    return isometry(flip, flip)
