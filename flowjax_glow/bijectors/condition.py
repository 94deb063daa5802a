"""Condition: a bijector that is given features of cond, computed once by a network, in place of cond.

z, logdet = bijector(x; net(cond)).  Ho et al. 2019 (Flow++), arXiv:1902.00275, released code: the
couplings of the dequantization flow share the features of the image.
"""

import jax
from flax import linen as nn

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.conditioner import apply_net, init_net


def condition(net: nn.Module, bijector: Bijector) -> Bijector:
    """`bijector` with net(cond) as its cond, where cond is a floating array, (batch, ...).

    params: {"net": those of net, "bijector": those of bijector}. logdet: that of bijector.

    Args:
      net: called as a conditioner is, with cond in the place of h: net(cond, None, deterministic). What
        it returns is cast to cond's dtype.

    Raises:
      ValueError: when applied, if cond is missing.
    """

    def features(params, cond, key):
        return apply_net(net, params, _needed(cond), None, key)

    def init(key, x, cond=None):
        net_key, bijector_key = jax.random.split(key)
        net_params = init_net(net, net_key, _needed(cond), None)
        params = bijector.init(bijector_key, x, features(net_params, cond, None))
        return {"net": net_params, "bijector": params}

    def apply(fn, params, value, cond, key):
        net_key, bijector_key = (None, None) if key is None else jax.random.split(key)
        return fn(params["bijector"], value, features(params["net"], cond, net_key), bijector_key)

    return Bijector(
        init,
        lambda params, x, cond=None, key=None: apply(bijector.forward, params, x, cond, key),
        lambda params, z, cond=None, key=None: apply(bijector.inverse, params, z, cond, key),
        lambda params: {**params, "bijector": bijector.prepare(params["bijector"])},
        stochastic=bijector.stochastic,
        rebuild=lambda replace: condition(net, replace("", bijector)),
    )


def _needed(cond):
    if cond is None:
        raise ValueError("condition needs cond, an array (batch, ...) for its net; got None")
    return cond
