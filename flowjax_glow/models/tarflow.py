"""TarFlow: causal transformers over patches, each reading the image the other way round.

Zhai et al. 2024, arXiv:2412.06329. The defaults are the released model for 64x64x3 images,
460,142,784 trained parameters. What the paper does for better samples and not for likelihood (Gaussian
noise on the data, denoising, guidance) is not here.
"""

from functools import partial

from jax.typing import DTypeLike

from flowjax_glow.base import image_shape
from flowjax_glow.bijectors.causal_affine import causal_affine
from flowjax_glow.bijectors.mirror import mirror
from flowjax_glow.bijectors.patchify import patchify
from flowjax_glow.combine import chain, invert
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.nets.transformer import Transformer
from flowjax_glow.priors import standard_normal


def tarflow(
    event_shape: tuple[int, ...],
    *,
    patch: int = 2,
    width: int = 768,
    heads: int = 12,
    blocks: int = 8,
    layers: int = 8,
    num_classes: int | None = None,
    dtype: DTypeLike | None = None,
    memory: str = "stored",
) -> Flow:
    """A TarFlow on images of event_shape (height, width, channels).

    encode is one pass a block, decode one step a patch and block. The latent has the image's shape.

    Args:
      event_shape: height and width divisible by patch.
      patch: side of the patches that are the tokens.
      width: channels of the transformers, divisible by heads.
      blocks: causal affine maps, one transformer each. layers: of each transformer.
      num_classes: makes all blocks depend on the label, cond of shape (batch,); below 0 for none.
      dtype: of the computation inside the transformers; the flow itself keeps the data's.
      memory: what repeat keeps for the backward pass. "constant" takes one step a patch and block
        there too; "recompute" does not.

    Raises:
      ValueError: for blocks below 1 or an unknown memory; when applied, for images that patch and a
        width that heads does not divide.
    """
    make_net = partial(
        Transformer,
        width=width,
        heads=heads,
        layers=layers,
        causal=True,
        num_classes=num_classes,
        dtype=dtype,
    )
    image_shape(event_shape)
    to_patches = patchify(patch)
    block = chain(causal_affine(make_net), mirror(1, 2))
    bijector = chain(to_patches, repeat(block, blocks, memory=memory), invert(to_patches))
    return Flow(bijector, standard_normal(), event_shape)
