"""What every coupling has in common: one half of the channels says how the other is transformed.

z1 = x1, z2 = transform(h, x2) with h = net(x1).  Dinh et al. 2015 (NICE), section 3.2, arXiv:1410.8516.
The net is never inverted, so it may be anything; the transform is inverted for a given h.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax_glow.base import Bijector, LogDet, merge_trainable, split_channels, split_trainable
from flowjax_glow.bijectors.conditioner import MakeNet, apply_net, init_net

# (h, value) -> (value, logdet): value (batch, ..., channels), h (batch, ..., size * channels),
# logdet (batch,) in nats, of the map in the direction called.
Transform = Callable[[Array, Array], tuple[Array, LogDet]]


def coupling(make_net: MakeNet, size: int, forward: Transform, inverse: Transform) -> Bijector:
    """Bijector on (batch, ..., channels), channels even: the first half conditions and passes through.

    params: those of the network, make_net(size * channels // 2). Its inverse_and_vjp evaluates the
    network once, for the inversion and the vjp together.

    Args:
      make_net: as in bijectors.conditioner.
      size: how many numbers a channel the transform wants of the network.
      forward: transforms the second half, given the network's output. inverse: undoes it.

    Raises:
      ValueError: if the number of channels is odd.
    """

    def net(params, half, cond, key):
        return apply_net(make_net(size * half.shape[-1]), params, half, cond, key)

    def init(key, x, cond=None):
        x1, x2 = split_channels(x)
        return init_net(make_net(size * x2.shape[-1]), key, x1, cond)

    def apply(transform, params, value, cond, key):
        kept, changed = split_channels(value)
        changed, logdet = transform(net(params, kept, cond, key), changed)
        return jnp.concatenate([kept, changed], axis=-1), logdet

    def inverse_and_vjp(params, z, cond, key, z_bar, logdet_bar):
        (x1, z2), (z1_bar, z2_bar) = split_channels(z), split_channels(z_bar)
        trained, constants = split_trainable(params)
        cond, labels = split_trainable(cond)

        def net_of(trained, x1, cond):
            params = merge_trainable(trained, constants)
            return net(params, x1, merge_trainable(cond, labels), key)

        h, net_vjp = jax.vjp(net_of, trained, x1, cond)
        x2, _ = inverse(h, z2)
        h_bar, x2_bar = jax.vjp(forward, h, x2)[1]((z2_bar, logdet_bar))
        params_bar, x1_bar, cond_bar = net_vjp(h_bar)
        x, x_bar = (
            jnp.concatenate(halves, axis=-1) for halves in ((x1, x2), (z1_bar + x1_bar, x2_bar))
        )
        return x, x_bar, params_bar, cond_bar

    return Bijector(
        init,
        lambda params, x, cond=None, key=None: apply(forward, params, x, cond, key),
        lambda params, z, cond=None, key=None: apply(inverse, params, z, cond, key),
        inverse_and_vjp=inverse_and_vjp,
    )
