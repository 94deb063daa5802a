"""Residual Flow: blocks that add a contraction of their input, with an estimated log-determinant.

Chen et al. 2019, arXiv:1906.02735. With the default arguments it is the network of the released code:
on 32x32x3 it has 25,174,129 trained parameters. The release counts 104 more, the parameters of the two
distributions of the number of terms in each of 52 blocks, which its training leaves as they are.
"""

import math
from functools import partial

from flowjax_glow.bijectors.actnorm import actnorm
from flowjax_glow.bijectors.logit import logit
from flowjax_glow.bijectors.reshape import reshape
from flowjax_glow.bijectors.residual import residual
from flowjax_glow.bijectors.squeeze import squeeze
from flowjax_glow.combine import chain
from flowjax_glow.depth import repeat
from flowjax_glow.flow import Flow
from flowjax_glow.nets.lipschitz import LipschitzNet
from flowjax_glow.priors import standard_normal


def residual_flow(
    event_shape: tuple[int, ...],
    *,
    levels: int = 3,
    depth: int = 16,
    width: int = 512,
    end_depth: int = 4,
    end_width: int = 128,
    coefficient: float = 0.98,
    margin: float = 0.05,
    logdet: str = "estimate",
    exact_terms: int = 2,
    terms: str = "poisson",
    tolerance: float = 1e-5,
    cond_channels: int | None = None,
    memory: str = "stored",
) -> Flow:
    """A Residual Flow on images (height, width, channels) in [-0.5, 0.5], or on vectors (dim,).

    Images go through the logit; then each level applies `depth` blocks, convolutions of size 3, 1 and 3
    with an actnorm after them, and all levels but the last end in a squeeze. No half leaves on the way.
    At the end stand `end_depth` blocks of three fully connected layers on the flattened image. encode
    returns vectors. A vector goes through `depth` such blocks of `width` units, and nothing else:
    levels, end_depth, end_width and margin are of no account.

    logdet="estimate" is what trains on images: with a key, log_prob is an unbiased estimate; see
    estimate_log_prob. Without one it is exact, which takes a Jacobian of dim x dim for every block: for
    small dims. The params fit any logdet, exact_terms and terms: the release trains with 2 exact terms,
    and evaluates with 20.

    Args:
      event_shape: height and width divisible by 2^(levels - 1).
      levels, depth, width: see above; width is the hidden channels of a block.
      end_depth: 0 for none; encode still returns vectors. end_width: their hidden units.
      coefficient: the largest norm of a layer; see nets.lipschitz.
      margin: of the logit.
      logdet, exact_terms, terms, tolerance: see bijectors.residual.
      cond_channels: makes every block depend on cond, as nets.cond describes; where there are end
        blocks, (batch, cond_channels).
      memory: what repeat keeps for the backward pass. "constant" inverts every block by iteration.

    Raises:
      ValueError: for a size that 2^(levels - 1) does not divide, an event that is neither image nor
        vector, a number below its least, and whatever the parts raise of the rest.
    """
    if len(event_shape) not in (1, 3):
        raise ValueError(f"event_shape must be (height, width, channels) or (dim,); got {event_shape}")
    for name, value, least in (("levels", levels, 1), ("depth", depth, 1), ("end_depth", end_depth, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}; got {value}")

    def block(width, kernels, activate_input=True):
        net = partial(
            LipschitzNet,
            width=width,
            kernels=kernels,
            coefficient=coefficient,
            activate_input=activate_input,
            cond_channels=cond_channels,
        )
        added = residual(net, logdet=logdet, exact_terms=exact_terms, terms=terms, tolerance=tolerance)
        return chain(added, actnorm())

    def blocks(width, kernels, depth):
        return [repeat(block(width, kernels), depth, memory=memory)] if depth else []

    def first_blocks(kernels):
        first = block(width, kernels, activate_input=False)
        return [actnorm(), first, *blocks(width, kernels, depth - 1)]

    if len(event_shape) == 1:
        return Flow(chain(*first_blocks((1, 1, 1))), standard_normal(), event_shape)

    height, width_px, _ = event_shape
    factor = 2 ** (levels - 1)
    if height % factor or width_px % factor:
        raise ValueError(
            f"height and width must be divisible by 2^(levels - 1) = {factor}; got {event_shape}"
        )
    parts = [logit(margin=margin, low=-0.5, high=0.5), *first_blocks((3, 1, 3))]
    for _ in range(levels - 1):
        parts += [squeeze(), *blocks(width, (3, 1, 3), depth)]
    last_shape = height // factor, width_px // factor, event_shape[2] * factor**2
    to_vector = reshape(last_shape, (math.prod(event_shape),))
    end = blocks(end_width, (1, 1, 1), end_depth)
    return Flow(chain(*parts, to_vector, *end), standard_normal(), event_shape)
