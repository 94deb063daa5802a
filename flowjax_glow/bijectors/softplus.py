"""Softplus: the line to the positive numbers.

z = log(1 + exp(x)), logdet = sum(log sigmoid(x)).  Dugas et al. 2001, "Incorporating second-order
functional knowledge for better option pricing".
"""

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, sum_event


def softplus() -> Bijector:
    """Element-wise bijector from the line to the positive numbers. No params.

    Data that are positive want `invert(softplus())`, which leaves large numbers almost as they are, and
    takes the logarithm of small ones. logdet: the sum over the event of log sigmoid(x), nats. Where
    exp(x) underflows z is 0, which comes back as -inf.
    """

    def init(key, x, cond=None):
        del key, x, cond
        return {}

    def forward(params, x, cond=None, key=None):
        del params, cond, key
        return jax.nn.softplus(x), sum_event(jax.nn.log_sigmoid(x))

    def inverse(params, z, cond=None, key=None):
        del params, cond, key
        # log(exp(z) - 1), in a form that does not overflow; its slope is 1 / sigmoid(x).
        log_sigmoid = jnp.log(-jnp.expm1(-z))
        return z + log_sigmoid, -sum_event(log_sigmoid)

    return Bijector(init, forward, inverse)
