"""Flow-based generative models with exact likelihood, functional to the core.

import flowjax_glow as fg

flow = fg.glow((32, 32, 3), levels=3, depth=32, width=512)
x = fg.dequantize(key, images, n_bins=256)
params = fg.init(flow, key, x)
fg.bits_per_dim(fg.log_prob(flow, params, x), flow.event_shape, n_bins=256)
"""

from flowjax_glow.base import Bijector, Params, merge_trainable, split_trainable
from flowjax_glow.bijectors.actnorm import actnorm
from flowjax_glow.bijectors.additive_coupling import additive_coupling
from flowjax_glow.bijectors.affine_coupling import affine_coupling
from flowjax_glow.bijectors.invertible_conv import invertible_conv
from flowjax_glow.bijectors.learned_prior import learned_prior
from flowjax_glow.bijectors.permute import reverse, shuffle
from flowjax_glow.bijectors.spline_coupling import spline_coupling
from flowjax_glow.bijectors.squeeze import squeeze
from flowjax_glow.combine import chain, factor_out, invert, repeat
from flowjax_glow.flow import (
    Flow,
    count_parameters,
    decode,
    encode,
    init,
    log_prob,
    prepare,
    sample,
)
from flowjax_glow.likelihood import bits_per_dim, dequantize, quantize, reduce_bits
from flowjax_glow.models.glow import glow
from flowjax_glow.priors import Prior, standard_normal

__version__ = "0.1.0"

__all__ = [
    "Bijector",
    "Flow",
    "Params",
    "Prior",
    "actnorm",
    "additive_coupling",
    "affine_coupling",
    "bits_per_dim",
    "chain",
    "count_parameters",
    "decode",
    "dequantize",
    "encode",
    "factor_out",
    "glow",
    "init",
    "invert",
    "invertible_conv",
    "learned_prior",
    "log_prob",
    "merge_trainable",
    "prepare",
    "quantize",
    "reduce_bits",
    "repeat",
    "reverse",
    "sample",
    "shuffle",
    "spline_coupling",
    "split_trainable",
    "squeeze",
    "standard_normal",
]
