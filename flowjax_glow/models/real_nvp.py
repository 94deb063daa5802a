"""RealNVP: affine couplings with checkerboard and channel masks, batch norm, and several scales.

Dinh et al. 2017, arXiv:1605.08803. With the default arguments it is the network that the released code
trains on ImageNet32: 46,220,359 trained parameters. The paper's for CIFAR-10 is scales=2, width=64,
blocks=8, of 19,609,545.
"""

from functools import partial

from flowjax_glow.base import Bijector, image_shape
from flowjax_glow.bijectors.affine_coupling import affine_coupling
from flowjax_glow.bijectors.batch_norm import batch_norm
from flowjax_glow.bijectors.logit import logit
from flowjax_glow.bijectors.squeeze import squeeze
from flowjax_glow.combine import chain, factor_out, invert
from flowjax_glow.flow import Flow
from flowjax_glow.nets.resnet import RealNVPNet
from flowjax_glow.priors import standard_normal


def real_nvp(
    event_shape: tuple[int, ...],
    *,
    scales: int = 4,
    width: int = 32,
    blocks: int = 4,
    cond_channels: int | None = None,
    logit_margin: float | None = 0.05,
) -> Flow:
    """A RealNVP on images of event_shape (height, width, channels).

    Each scale has three couplings with checkerboard masks, and three with channel masks on the squeezed
    image; then half of it leaves, one colour of the checkerboard. The last scale has four couplings,
    with checkerboard masks. Every coupling is followed by batch norm of the half it changed. encode
    returns a tuple of `scales` latents, finest first; of one scale, an array.

    Trained with a key, by the batch's statistics; the density of the model is the one without.

    Args:
      event_shape: height divisible by 2^(scales - 1), width by 2^scales.
      scales: how many. width: hidden channels of the first scale's nets; they double with every scale,
        and the nets of channel masks have those of the next. blocks: residual blocks of a net.
      cond_channels: makes every coupling depend on cond, (batch, cond_channels) or an image of that
        many channels, as in nets.cond.
      logit_margin: of the logit that pixels in [-0.5, 0.5] go through first; None for no logit.

    Raises:
      ValueError: for a size that the scales do not divide, or a width or blocks below 1.
    """
    height, width_px, _ = image_shape(event_shape)
    if scales < 1 or height % 2 ** (scales - 1) or width_px % 2**scales:
        raise ValueError(
            f"height must be divisible by 2^(scales - 1) and width by 2^scales, scales at least 1; got "
            f"{event_shape} and scales = {scales}"
        )
    if width < 1 or blocks < 1:
        raise ValueError(f"width and blocks must be at least 1; got {width} and {blocks}")

    def couplings(mask: str, width: int, flips: tuple[bool, ...]) -> Bijector:
        net = partial(RealNVPNet, mask=mask, width=width, blocks=blocks, cond_channels=cond_channels)
        return chain(
            *(
                chain(
                    affine_coupling(partial(net, flip=flip), scale="exp", mask=mask, flip=flip),
                    batch_norm(mask=mask, flip=flip),
                )
                for flip in flips
            )
        )

    widths = [width * 2**scale for scale in range(scales)]
    bijector = couplings("checkerboard", widths[-1], (False, True, False, True))
    for wide in reversed(widths[:-1]):
        bijector = chain(
            couplings("checkerboard", wide, (False, True, False)),
            squeeze(),
            couplings("channel", 2 * wide, (False, True, False)),
            invert(squeeze()),
            squeeze(order="diagonal"),
            factor_out(bijector),
        )
    if logit_margin is not None:
        bijector = chain(logit(margin=logit_margin, low=-0.5, high=0.5), bijector)
    return Flow(bijector, standard_normal(), event_shape)
