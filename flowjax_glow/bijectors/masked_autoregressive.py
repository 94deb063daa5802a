"""What every autoregressive bijector has in common: the entries before one say how it is transformed.

z_i = transform(h_i, x_i) with h_i = net(x)_i, a function of x_<i alone; so the Jacobian is triangular.
forward evaluates the net once, inverse once for each entry, first to last.  Papamakarios et al. 2017
(Masked Autoregressive Flow), section 3, arXiv:1705.07057.
"""

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, check_vectors, sum_event
from flowjax_glow.bijectors.conditioner import MakeNet, apply_net, init_net
from flowjax_glow.bijectors.coupling import Transform


def masked_autoregressive(
    make_net: MakeNet, size: int, forward: Transform, inverse: Transform
) -> Bijector:
    """Bijector on (batch, dim): each entry is transformed as the entries before it say.

    params: those of the network, make_net(dim * size). Its output, reshaped to (batch, dim, size), has
    at [:, i] the numbers for entry i, which may depend on the entries before i and on cond alone, as in
    nets.masked; with any other net inverse and logdet are wrong. logdet: the sum of log_slope over the
    event, nats. inverse takes dim passes of the network, as one scan: compile time does not grow with
    dim, but what a gradient of it keeps does.

    Args:
      make_net: as in bijectors.conditioner.
      size: how many numbers an entry the transform wants of the network.
      forward: transforms value, (batch, dim), given h, (batch, dim, size). inverse: undoes it; it is
        called with one entry at a time, dim = 1.

    Raises:
      ValueError: when applied, for an input that is not (batch, dim).
    """

    def net(params, x, cond, key):
        n, dim = check_vectors(x).shape
        return apply_net(make_net(dim * size), params, x, cond, key).reshape(n, dim, size)

    def init(key, x, cond=None):
        return init_net(make_net(check_vectors(x).shape[1] * size), key, x, cond)

    def to_z(params, x, cond=None, key=None):
        z, log_slope = forward(net(params, x, cond, key), x)
        return z, sum_event(log_slope)

    def to_x(params, z, cond=None, key=None):
        def entry(array, i):
            return jax.lax.dynamic_slice_in_dim(array, i, 1, axis=1)

        def step(carry, i):
            # x holds what is known, and zeros, which the masks keep from what is read. Only entry i is
            # inverted: of the others, whose h is not yet right, nothing may enter the gradient.
            x, logdet = carry
            x_i, log_slope = inverse(entry(net(params, x, cond, key), i), entry(z, i))
            x = jax.lax.dynamic_update_slice_in_dim(x, x_i, i, axis=1)
            return (x, logdet + sum_event(log_slope)), None

        nothing = jnp.zeros_like(check_vectors(z)), jnp.zeros((z.shape[0],), z.dtype)
        return jax.lax.scan(step, nothing, jnp.arange(z.shape[1]))[0]

    def log_slopes(params, x, cond=None):
        return forward(net(params, x, cond, None), x)[1]

    to_z.__qualname__ = forward.__qualname__  # for name_of: "affine_autoregressive"
    return Bijector(init, to_z, to_x, log_slopes=log_slopes)
