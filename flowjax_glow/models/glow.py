"""Glow: actnorm, invertible 1x1 convolution and affine coupling, in a multi-scale architecture.

Kingma & Dhariwal 2018, arXiv:1807.03039. With the default arguments it is the network of the released
code: L=3, K=32, width 512 on 32x32x3 has 44,603,604 trained parameters.
"""

from functools import partial

from jax.typing import DTypeLike

from flowjax_glow.base import Bijector, image_shape
from flowjax_glow.bijectors.actnorm import actnorm
from flowjax_glow.bijectors.additive_coupling import additive_coupling
from flowjax_glow.bijectors.affine_coupling import affine_coupling
from flowjax_glow.bijectors.invertible_conv import invertible_conv
from flowjax_glow.bijectors.learned_prior import learned_prior
from flowjax_glow.bijectors.permute import reverse, shuffle
from flowjax_glow.bijectors.spline_coupling import spline_coupling
from flowjax_glow.bijectors.squeeze import squeeze
from flowjax_glow.combine import chain, factor_out
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.nets.convnet import ConvNet, PriorNet
from flowjax_glow.priors import standard_normal

COUPLINGS = {"affine": affine_coupling, "additive": additive_coupling, "spline": spline_coupling}
PERMUTATIONS = {
    "conv1x1": partial(invertible_conv, parametrization="dense"),
    "plu": partial(invertible_conv, parametrization="plu"),
    "householder": partial(invertible_conv, parametrization="householder"),
    "shuffle": shuffle,
    "reverse": reverse,
}


def glow(
    event_shape: tuple[int, ...],
    *,
    levels: int = 3,
    depth: int = 32,
    width: int = 512,
    coupling: str = "affine",
    permutation: str = "conv1x1",
    learn_top: bool = True,
    edge_bias: bool = True,
    num_classes: int | None = None,
    cond_channels: int | None = None,
    dropout: float = 0.0,
    dtype: DTypeLike | None = None,
    memory: str = "stored",
) -> Flow:
    """A Glow on images of event_shape (height, width, channels).

    Each level squeezes and applies `depth` steps of actnorm, permutation and coupling; below the last
    level half of the channels leave, whitened given the half that stays. encode returns a tuple of
    `levels` latents, finest first.

    Args:
      event_shape: height and width divisible by 2^levels.
      levels: L of the paper. depth: K, steps a level. width: hidden channels of the conditioners.
      coupling: "affine", "additive", or "spline", as neural spline flows have it on images.
      permutation: "conv1x1" (dense W), "plu", "householder" (orthogonal W), "shuffle" or "reverse".
      learn_top: whether the last latent has a learned mean and scale.
      edge_bias: whether 3x3 convolutions carry a channel that marks the padded border.
      num_classes: makes the last latent's prior depend on the label, cond of shape (batch,).
      cond_channels: makes every coupling depend on cond, (batch, cond_channels) or an image of that
        many channels, as in nets.cond.
      dropout: rate in the conditioners, where a key is given.
      dtype: of the computation inside the conditioners; the flow itself keeps the data's.
      memory: what repeat keeps for the backward pass.

    Raises:
      ValueError: for a size that 2^levels does not divide, an unknown coupling or permutation, classes
        without learn_top, or both kinds of cond.
    """
    height, width_px, _ = image_shape(event_shape)
    if levels < 1 or height % 2**levels or width_px % 2**levels:
        raise ValueError(
            f"height and width must be divisible by 2^levels = {2**levels}; got {event_shape}"
        )
    if coupling not in COUPLINGS:
        raise ValueError(f"coupling must be one of {sorted(COUPLINGS)}; got {coupling!r}")
    if permutation not in PERMUTATIONS:
        raise ValueError(f"permutation must be one of {sorted(PERMUTATIONS)}; got {permutation!r}")
    if num_classes is not None and not learn_top:
        raise ValueError("num_classes needs learn_top=True; the classes act on the learned prior")
    if num_classes is not None and cond_channels is not None:
        raise ValueError("cond is labels or channels; got both num_classes and cond_channels")

    make_net = partial(
        ConvNet,
        width=width,
        edge_bias=edge_bias,
        cond_channels=cond_channels,
        dropout=dropout,
        dtype=dtype,
    )
    step = chain(actnorm(), PERMUTATIONS[permutation](), COUPLINGS[coupling](make_net))
    steps = repeat(step, depth, memory=memory)
    whiten_half = affine_coupling(partial(PriorNet, edge_bias=edge_bias), scale="exp")
    top = learned_prior(partial(PriorNet, edge_bias=edge_bias, num_classes=num_classes))

    bijector: Bijector = chain(squeeze(), steps, *([top] if learn_top else []))
    for _ in range(levels - 1):
        bijector = chain(squeeze(), steps, whiten_half, factor_out(bijector))
    return Flow(bijector, standard_normal(), event_shape)
