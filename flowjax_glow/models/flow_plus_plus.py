"""Flow++: mixture-of-logistics couplings with attention, and the flow that dequantizes its data.

Ho et al. 2019, arXiv:1902.00275. With the default arguments both are the released code's for CIFAR-10:
27,976,464 trained parameters in the flow and 3,466,976 in the dequantization flow, 31,443,440 together.
The released code divides an image into its even and odd columns where the paper and this model take a
checkerboard.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, image_shape
from flowjax_glow.bijectors.condition import condition
from flowjax_glow.bijectors.entrywise_actnorm import entrywise_actnorm
from flowjax_glow.bijectors.halves import halves, swap_halves
from flowjax_glow.bijectors.invertible_conv import invertible_conv
from flowjax_glow.bijectors.logit import logit
from flowjax_glow.bijectors.mixture_coupling import mixture_coupling
from flowjax_glow.bijectors.permute import permute
from flowjax_glow.bijectors.squeeze import squeeze
from flowjax_glow.combine import chain
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.nets.gated_attention import GatedAttentionNet, GatedConvNet
from flowjax_glow.priors import standard_normal


def flow_plus_plus(
    event_shape: tuple[int, ...],
    *,
    depths: Sequence[int] = (4, 2, 3),
    blocks: int = 10,
    width: int = 96,
    heads: int = 4,
    components: int = 32,
    dropout: float = 0.2,
    memory: str = "stored",
) -> Flow:
    """A Flow++ on images of event_shape (height, width, channels), with values in [-0.5, 0.5].

    The logit of 0.05 + 0.9 (x + 0.5), couplings over a checkerboard, squeeze, couplings over channels,
    couplings over a checkerboard again. One latent, (height / 2, width / 2, 4 channels). Initialise it
    on a large batch: every entry has a scale of its own.

    Args:
      event_shape: height even, width a multiple of 4.
      depths: how many couplings of each of the three kinds; 0 leaves a kind out.
      blocks, width, heads: of the conditioners; see nets.gated_attention.
      components: of the mixtures.
      dropout: rate in the conditioners, where a key is given.
      memory: what repeat keeps for the backward pass.

    Raises:
      ValueError: for a size that does not divide, other than three depths, or a negative one.
    """
    rows, columns, channels = image_shape(event_shape)
    if rows % 2 or columns % 4:
        raise ValueError(f"height must be even and width a multiple of 4; got {event_shape}")
    if len(depths) != 3:
        raise ValueError(f"depths must be three numbers; got {depths}")
    make_net = partial(GatedAttentionNet, width=width, blocks=blocks, heads=heads, dropout=dropout)

    def couplings(mask, depth):
        step = _step(make_net, components, mask)
        return repeat(step, depth, memory=memory) if depth else chain()

    first, second, third = depths
    bijector = chain(
        logit(margin=0.05, low=-0.5, high=0.5),
        couplings("checkerboard", first),
        squeeze(),
        _pixels_first(channels),
        couplings("channel", second),
        couplings("checkerboard", third),
    )
    return Flow(bijector, standard_normal(), event_shape)


def dequantization_flow(
    *,
    depth: int = 4,
    blocks: int = 2,
    width: int = 96,
    heads: int = 4,
    components: int = 32,
    features: int = 32,
    dropout: float = 0.2,
    memory: str = "stored",
) -> Bijector:
    """Flow++'s bijector from normal noise to the logit of dequantization noise, for images as cond.

    To be handed to dequantization.variational_dequantizer. forward goes from the noise, (batch, height,
    width, channels), to the logits, because a dequantizer draws and never inverts; cond is an image of
    the same shape, in [-0.5, 0.5]. Couplings over a checkerboard, which all read the same features of
    the image.

    Args:
      depth: number of couplings, at least 1.
      blocks, width, heads: of the conditioners; see nets.gated_attention.
      components: of the mixtures.
      features: channels of what the couplings are told of the image.
      dropout: rate in the networks, where a key is given.
      memory: what repeat keeps for the backward pass.

    Raises:
      ValueError: for a depth below 1; when applied, for an odd width, or if cond is missing.
    """
    make_net = partial(
        GatedAttentionNet,
        width=width,
        blocks=blocks,
        heads=heads,
        cond_channels=features,
        dropout=dropout,
    )
    couplings = repeat(_step(make_net, components, "checkerboard"), depth, memory=memory)
    return condition(GatedConvNet(features, dropout=dropout), couplings)


def _step(make_net, components, mask):
    return chain(
        entrywise_actnorm(),
        halves(_near_identity(), mask=mask),
        mixture_coupling(make_net, components=components, mask=mask),
        swap_halves(mask=mask),
    )


def _near_identity():
    """A 1x1 convolution that starts as the identity plus N(0, 0.001^2), as released."""

    def init(key, x, cond=None):
        del cond
        channels = x.shape[-1]
        noise = jax.random.normal(key, (channels, channels), x.dtype)
        return {"kernel": jnp.eye(channels, dtype=x.dtype) + 0.001 * noise}

    return invertible_conv()._replace(init=init)


def _pixels_first(channels):
    """From squeeze's order, channel by channel, to the released code's, pixel by pixel.

    The halves of the channels are then the upper and the lower row of each 2x2 block, in all colors.
    """
    return permute([4 * channel + pixel for pixel in range(4) for channel in range(channels)])
