"""What every coupling has in common: one half of the input says how the other is transformed.

z1 = x1, z2 = transform(h, x2) with h = net(x1).  Dinh et al. 2015 (NICE), section 3.2, arXiv:1410.8516.
The net is never inverted, so it may be anything; the transform acts on each number alone and is
inverted for a given h.
"""

from collections.abc import Callable

import jax
from jaxtyping import Array

from flowjax_glow.base import Bijector, merge_trainable, split_trainable, sum_event
from flowjax_glow.bijectors.conditioner import MakeNet, apply_net, init_net
from flowjax_glow.bijectors.mask import MASKS, merge, split

# (h, value) -> (value, log_slope): value (batch, ..., channels), h (batch, ..., size * channels),
# log_slope like value: log |d value'/d value| of each number, in the direction called.
Transform = Callable[[Array, Array], tuple[Array, Array]]


def coupling(
    make_net: MakeNet,
    size: int,
    forward: Transform,
    inverse: Transform,
    *,
    mask: str = "channel",
    flip: bool = False,
) -> Bijector:
    """Bijector on (batch, ..., channels): one half conditions and passes through.

    params: those of the network, make_net(size * channels of the half that is changed), which reads
    the half that is kept, in the shape mask.split gives it. Its inverse_and_vjp evaluates the network
    once, for the inversion and the vjp together. logdet: the sum of log_slope over the event, nats.

    Args:
      make_net: as in bijectors.conditioner.
      size: how many numbers an entry the transform wants of the network.
      forward: transforms the other half, given the network's output. inverse: undoes it.
      mask: "channel" or "checkerboard". flip: swaps the halves' parts. See bijectors.mask.

    Raises:
      ValueError: for an unknown mask; when applied, for an input that does not divide in halves.
    """
    if mask not in MASKS:
        raise ValueError(f"mask must be one of {MASKS}; got {mask!r}")

    def net(params, kept, cond, key):
        # Both halves have the same number of channels.
        return apply_net(make_net(size * kept.shape[-1]), params, kept, cond, key)

    def init(key, x, cond=None):
        kept, changed = split(x, mask, flip)
        return init_net(make_net(size * changed.shape[-1]), key, kept, cond)

    def apply(transform, params, value, cond, key):
        kept, changed = split(value, mask, flip)
        changed, log_slope = transform(net(params, kept, cond, key), changed)
        return merge(kept, changed, mask, flip), sum_event(log_slope)

    def inverse_and_vjp(params, z, cond, key, z_bar, logdet_bar):
        (x1, z2), (z1_bar, z2_bar) = split(z, mask, flip), split(z_bar, mask, flip)
        trained, constants = split_trainable(params)
        cond, labels = split_trainable(cond)

        def net_of(trained, x1, cond):
            params = merge_trainable(trained, constants)
            return net(params, x1, merge_trainable(cond, labels), key)

        def forward_and_logdet(h, x2):
            z2, log_slope = forward(h, x2)
            return z2, sum_event(log_slope)

        h, net_vjp = jax.vjp(net_of, trained, x1, cond)
        x2, _ = inverse(h, z2)
        h_bar, x2_bar = jax.vjp(forward_and_logdet, h, x2)[1]((z2_bar, logdet_bar))
        params_bar, x1_bar, cond_bar = net_vjp(h_bar)
        x = merge(x1, x2, mask, flip)
        return x, merge(z1_bar + x1_bar, x2_bar, mask, flip), params_bar, cond_bar

    def log_slopes(params, x, cond=None):
        kept, changed = split(x, mask, flip)
        return forward(net(params, kept, cond, None), changed)[1]

    def to_z(params, x, cond=None, key=None):
        return apply(forward, params, x, cond, key)

    def to_x(params, z, cond=None, key=None):
        return apply(inverse, params, z, cond, key)

    to_z.__qualname__ = forward.__qualname__  # for name_of: "affine_coupling", not "coupling"
    return Bijector(init, to_z, to_x, inverse_and_vjp=inverse_and_vjp, log_slopes=log_slopes)
