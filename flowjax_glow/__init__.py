"""Flow-based generative models with exact likelihood, functional to the core.

import flowjax_glow as fg

flow = fg.glow((32, 32, 3), levels=3, depth=32, width=512)
x = fg.dequantize(key, images, n_bins=256)
params = fg.init(flow, key, x)
fg.bits_per_dim(fg.log_prob(flow, params, x), flow.event_shape, n_bins=256)
"""

from flowjax_glow import latents, pretrained
from flowjax_glow.base import Bijector, Params, merge_trainable, split_trainable
from flowjax_glow.bijectors.actnorm import actnorm
from flowjax_glow.bijectors.additive_coupling import additive_coupling
from flowjax_glow.bijectors.affine_autoregressive import affine_autoregressive
from flowjax_glow.bijectors.affine_coupling import affine_coupling
from flowjax_glow.bijectors.batch_norm import batch_norm
from flowjax_glow.bijectors.causal_affine import causal_affine
from flowjax_glow.bijectors.checkerboard_to_channels import checkerboard_to_channels
from flowjax_glow.bijectors.condition import condition
from flowjax_glow.bijectors.continuous import continuous
from flowjax_glow.bijectors.entrywise_actnorm import entrywise_actnorm
from flowjax_glow.bijectors.haar import haar
from flowjax_glow.bijectors.halves import halves, swap_halves
from flowjax_glow.bijectors.invertible_conv import invertible_conv
from flowjax_glow.bijectors.leaky_relu import leaky_relu
from flowjax_glow.bijectors.leaky_tanh import leaky_tanh
from flowjax_glow.bijectors.learned_prior import learned_prior
from flowjax_glow.bijectors.logit import logit
from flowjax_glow.bijectors.mirror import mirror
from flowjax_glow.bijectors.mixture_coupling import mixture_coupling
from flowjax_glow.bijectors.patchify import patchify
from flowjax_glow.bijectors.permute import permute, reverse, shuffle
from flowjax_glow.bijectors.planar import planar
from flowjax_glow.bijectors.radial import radial
from flowjax_glow.bijectors.reshape import reshape
from flowjax_glow.bijectors.residual import residual
from flowjax_glow.bijectors.scale import scale
from flowjax_glow.bijectors.softplus import softplus
from flowjax_glow.bijectors.spline_autoregressive import spline_autoregressive
from flowjax_glow.bijectors.spline_coupling import spline_coupling
from flowjax_glow.bijectors.squeeze import squeeze
from flowjax_glow.bijectors.sylvester import sylvester
from flowjax_glow.combine import chain, conjugate, factor_out, invert
from flowjax_glow.depth import repeat
from flowjax_glow.dequantization import (
    Dequantizer,
    importance_bound,
    uniform_dequantizer,
    variational_dequantizer,
)
from flowjax_glow.flow import (
    Estimate,
    Flow,
    count_parameters,
    decode,
    encode,
    estimate_log_prob,
    init,
    log_prob,
    prepare,
    sample,
)
from flowjax_glow.likelihood import bits_per_dim, dequantize, quantize, reduce_bits
from flowjax_glow.models.ffjord import ffjord
from flowjax_glow.models.flow_plus_plus import dequantization_flow, flow_plus_plus
from flowjax_glow.models.glow import glow
from flowjax_glow.models.iaf import iaf
from flowjax_glow.models.jet import jet
from flowjax_glow.models.maf import maf
from flowjax_glow.models.neural_spline_flow import neural_spline_flow
from flowjax_glow.models.nice import nice
from flowjax_glow.models.planar_flow import planar_flow
from flowjax_glow.models.real_nvp import real_nvp
from flowjax_glow.models.residual_flow import residual_flow
from flowjax_glow.models.tarflow import tarflow
from flowjax_glow.pretrained import load_pretrained
from flowjax_glow.priors import Prior, normal_mixture, standard_logistic, standard_normal

__version__ = "0.1.0"

__all__ = [
    "Bijector",
    "Dequantizer",
    "Estimate",
    "Flow",
    "Params",
    "Prior",
    "actnorm",
    "additive_coupling",
    "affine_autoregressive",
    "affine_coupling",
    "batch_norm",
    "bits_per_dim",
    "causal_affine",
    "chain",
    "checkerboard_to_channels",
    "condition",
    "conjugate",
    "continuous",
    "count_parameters",
    "decode",
    "dequantization_flow",
    "dequantize",
    "encode",
    "entrywise_actnorm",
    "estimate_log_prob",
    "factor_out",
    "ffjord",
    "flow_plus_plus",
    "glow",
    "haar",
    "halves",
    "iaf",
    "importance_bound",
    "init",
    "invert",
    "invertible_conv",
    "jet",
    "latents",
    "leaky_relu",
    "leaky_tanh",
    "learned_prior",
    "load_pretrained",
    "log_prob",
    "logit",
    "maf",
    "merge_trainable",
    "mirror",
    "mixture_coupling",
    "neural_spline_flow",
    "nice",
    "normal_mixture",
    "patchify",
    "permute",
    "planar",
    "planar_flow",
    "prepare",
    "pretrained",
    "quantize",
    "radial",
    "real_nvp",
    "reduce_bits",
    "repeat",
    "reshape",
    "residual",
    "residual_flow",
    "reverse",
    "sample",
    "scale",
    "shuffle",
    "softplus",
    "spline_autoregressive",
    "spline_coupling",
    "split_trainable",
    "squeeze",
    "standard_logistic",
    "standard_normal",
    "swap_halves",
    "sylvester",
    "tarflow",
    "uniform_dequantizer",
    "variational_dequantizer",
]
