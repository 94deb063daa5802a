"""NICE: additive couplings between odd and even entries, a scale for each, and a logistic prior.

Dinh et al. 2015, section 5.1, arXiv:1410.8516. With the default arguments it is the network of the
released code: on 28x28x1 it has 19,158,352 trained parameters. That of CIFAR-10 is
depths=(1, 1, 3, 3, 2, 2, 1, 1), width=2400, mask="channel", prior="normal", channels_first=True.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from jax.typing import DTypeLike

from flowjax_glow.bijectors.additive_coupling import additive_coupling
from flowjax_glow.bijectors.permute import permute
from flowjax_glow.bijectors.reshape import reshape
from flowjax_glow.bijectors.scale import scale
from flowjax_glow.combine import chain
from flowjax_glow.flow import Flow
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.priors import standard_logistic, standard_normal

PRIORS = {"logistic": standard_logistic, "normal": standard_normal}

# Of the initial weights, as released.
_RANGE = 0.01


def nice(
    event_shape: tuple[int, ...],
    *,
    depths: Sequence[int] = (5, 5, 5, 5),
    width: int = 1000,
    mask: str = "checkerboard",
    prior: str = "logistic",
    channels_first: bool = False,
    cond_channels: int | None = None,
    dtype: DTypeLike | None = None,
) -> Flow:
    """A NICE on events of any shape, which are flattened first, rows first. encode returns vectors.

    The released recipes have data in [0, 1], or in [-1, 1] for CIFAR-10; dequantize's in [-0.5, 0.5).
    No layer makes up for it: the couplings' biases learn the shift, and the scale learns the factor.

    Args:
      event_shape: of an even number of entries.
      depths: hidden layers of each coupling's network; as many couplings as there are entries.
      width: units of a hidden layer.
      mask: "checkerboard" divides the vector into even and odd entries, "channel" into halves.
      prior: "logistic" or "normal".
      channels_first: puts all of the first channel first, then all of the second, as the released code
        reads color images: its halves are then the channels, and not the upper and the lower rows.
      cond_channels: makes every coupling depend on cond, (batch, cond_channels).
      dtype: of the computation inside the networks; the flow itself keeps the data's.

    Raises:
      ValueError: for an odd number of entries, no coupling, or an unknown mask or prior.
    """
    dim = math.prod(event_shape)
    if dim % 2:
        raise ValueError(f"the number of entries must be even; got {dim} in {event_shape}")
    if not depths:
        raise ValueError(f"depths must have an entry for each coupling; got {depths}")
    if prior not in PRIORS:
        raise ValueError(f"prior must be one of {sorted(PRIORS)}; got {prior!r}")

    def coupling(i, depth):
        make_net = partial(
            MLP,
            width=width,
            depth=depth,
            cond_channels=cond_channels,
            dtype=dtype,
            init_range=_RANGE,
        )
        return additive_coupling(make_net, mask=mask, flip=i % 2 == 1)

    couplings = [coupling(i, depth) for i, depth in enumerate(depths)]
    to_vector = [reshape(event_shape, (dim,))]
    if channels_first:
        places = np.moveaxis(np.arange(dim).reshape(event_shape), -1, 0)
        to_vector.append(permute(places.ravel().tolist()))
    bijector = chain(*to_vector, *couplings, scale())
    return Flow(bijector, PRIORS[prior](), event_shape)
