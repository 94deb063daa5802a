"""Jet: affine couplings of patches by vision transformers, and nothing else.

Kolesnikov et al. 2024, arXiv:2412.15129. The defaults are the released model of 32 couplings with two
layers each for 64x64x3 images, 207,177,216 trained parameters, where every fifth coupling divides the
patches like a checkerboard. The released configuration goes on to stripes after two of those.
"""

from functools import partial

from jax.typing import DTypeLike

from flowjax_glow.base import image_shape
from flowjax_glow.bijectors.affine_coupling import affine_coupling
from flowjax_glow.bijectors.checkerboard_to_channels import checkerboard_to_channels
from flowjax_glow.bijectors.halves import swap_halves
from flowjax_glow.bijectors.patchify import patchify
from flowjax_glow.bijectors.permute import shuffle
from flowjax_glow.combine import chain, conjugate, invert
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.nets.transformer import Transformer
from flowjax_glow.priors import standard_normal

# Channel couplings before each spatial one.
CHANNEL = 4


def jet(
    event_shape: tuple[int, ...],
    *,
    patch: int = 4,
    width: int = 512,
    heads: int = 8,
    couplings: int = 32,
    layers: int = 2,
    num_classes: int | None = None,
    dtype: DTypeLike | None = None,
    memory: str = "stored",
) -> Flow:
    """A Jet on images of event_shape (height, width, channels).

    Four couplings divide the channels of each patch, by a permutation fixed at initialisation that is
    undone after; the fifth divides the patches, and so on. The latent has the image's shape.

    Args:
      event_shape: height and width divisible by patch, with an even number of patches in a row.
      patch: side of the patches that are the tokens.
      width: channels of the transformers, divisible by heads.
      couplings: number of couplings, one transformer each. layers: of each transformer.
      num_classes: makes all couplings depend on the label, cond of shape (batch,); below 0 for none.
      dtype: of the computation inside the transformers; the flow itself keeps the data's.
      memory: what repeat keeps for the backward pass.

    Raises:
      ValueError: for couplings below 1 or an unknown memory; when applied, for images that patch and a
        width that heads does not divide, or an odd number of channels or of patches in a row.
    """
    if couplings < 1:
        raise ValueError(f"couplings must be at least 1; got {couplings}")
    make_net = partial(
        Transformer,
        width=width,
        heads=heads,
        layers=layers,
        final_norm=True,
        num_classes=num_classes,
        dtype=dtype,
    )
    image_shape(event_shape)
    to_patches = patchify(patch)
    coupling = affine_coupling(make_net, scale="double_sigmoid")
    by_channels = conjugate(shuffle(), coupling)
    by_patches = conjugate(checkerboard_to_channels(), coupling)
    swap = swap_halves(mask="checkerboard")  # every second group changes the other colour
    group = chain(repeat(by_channels, CHANNEL, memory=memory), by_patches, swap)

    groups, rest = divmod(couplings, CHANNEL + 1)
    parts = [repeat(group, groups, memory=memory)] if groups else []
    if rest:
        parts.append(repeat(by_channels, rest, memory=memory))
    return Flow(chain(to_patches, *parts, invert(to_patches)), standard_normal(), event_shape)
