"""A learned normal prior, as the bijector that whitens it.

z = (x + shift) * exp(log_scale) with shift = -mean and log_scale = -log sd: under a standard normal
z, x has the learned mean and standard deviation, its cost is part of logdet, and every latent of the
model stays standard normal. Glow's learned top prior (`prior` in the released model.py).
"""

import jax.numpy as jnp

from flowjax_glow.base import Bijector, split_channels, sum_event
from flowjax_glow.bijectors.affine import affine
from flowjax_glow.bijectors.conditioner import MakeNet, apply_net, init_net


def learned_prior(make_net: MakeNet) -> Bijector:
    """Element-wise affine bijector on (batch, ..., channels) that does not look at x.

    make_net(2 * channels), PriorNet of nets.convnet or Table of nets.table, reads zeros, (1, ...,
    2 * channels), and cond, such as class labels: a prior for each class. It returns the shifts and
    then the log_scales, (1 or batch, ..., 2 * channels). params: those of the network. logdet: the sum
    of log_scale over the event, nats.
    """
    to_z, to_x = affine("exp")

    def nothing(x):
        return jnp.zeros((1, *x.shape[1:-1], 2 * x.shape[-1]), x.dtype)

    def shift_and_log_scale(params, x, cond, key):
        h = apply_net(make_net(2 * x.shape[-1]), params, nothing(x), cond, key)
        h = jnp.broadcast_to(h, (x.shape[0], *h.shape[1:]))
        return split_channels(h)

    def init(key, x, cond=None):
        return init_net(make_net(2 * x.shape[-1]), key, nothing(x), cond)

    def forward(params, x, cond=None, key=None):
        z, log_slope = to_z(*shift_and_log_scale(params, x, cond, key), x)
        return z, sum_event(log_slope)

    def inverse(params, z, cond=None, key=None):
        x, log_slope = to_x(*shift_and_log_scale(params, z, cond, key), z)
        return x, sum_event(log_slope)

    return Bijector(init, forward, inverse)
