"""Mixture coupling: one half of the input bends the other by the CDF of a mixture of logistics.

z1 = x1, z2 = logit(F(x2)) exp(s) + t with F(x) = sum_k pi_k sigmoid((x - mu_k) exp(-a_k)) and
logdet = sum(log f(x2) - log F(x2) - log(1 - F(x2)) + s).  Ho et al. 2019 (Flow++), section 3.2,
arXiv:1902.00275; s is bounded, and the network's outputs are in order, as in the released code.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.conditioner import MakeNet
from flowjax_glow.bijectors.coupling import coupling
from flowjax_glow.bijectors.solve import solve_increasing

# The largest |a|. Released code bounds a from below alone; a component as wide as exp(7) is as good as
# flat wherever the data is, and without the bound its width overflows.
MAX_LOG_WIDTH = 7.0


def mixture_coupling(
    make_net: MakeNet, *, components: int = 32, mask: str = "channel", flip: bool = False
) -> Bijector:
    """Bijector on (batch, ..., channels).

    One half conditions and passes through; each number of the other goes through the CDF, the logit,
    the scale and the shift. Of make_net((2 + 3 components) * its channels) the outputs for an entry are
    s before its tanh, t, the logits of pi, mu, and a before it is clipped to +-7. Where the net gives 0
    the map is the identity. params: those of the network. logdet: the sum over the event of the log
    slopes, nats.

    inverse has no formula: bijectors.solve finds x2 to the dtype's resolution, between the least and
    the largest mu_k + exp(a_k) y, where y = (z2 - t) exp(-s).

    Args:
      make_net: as in bijectors.conditioner.
      components: of each mixture, at least 1.
      mask: "channel" or "checkerboard". flip: swaps the halves' parts. See bijectors.mask.

    Raises:
      ValueError: for no components or an unknown mask; when applied, for an input that does not divide
        in halves.
    """
    if components < 1:
        raise ValueError(f"components must be at least 1; got {components}")

    def forward(h, x):
        m = _mixture(h, x)
        y, log_slope = _logit_cdf(m, x)
        return y * jnp.exp(m.log_scale) + m.shift, log_slope + m.log_scale

    def inverse(h, z):
        m = _mixture(h, z)
        y = (z - m.shift) * jnp.exp(-m.log_scale)
        # Where each component alone would be at y; the mixture is there between the first and the last.
        ends = m.mean + jnp.exp(m.log_width) * y[..., None]
        low, high = jnp.min(ends, -1), jnp.max(ends, -1)
        x = solve_increasing(lambda x: _logit_cdf(m, x)[0], y, low, high)
        return x, -(_logit_cdf(m, x)[1] + m.log_scale)

    return coupling(make_net, 2 + 3 * components, forward, inverse, mask=mask, flip=flip)


class _Mixture(NamedTuple):
    """A mixture an entry, (..., components), and the scale and shift that follow, (...)."""

    log_scale: Array
    shift: Array
    log_weight: Array
    mean: Array
    log_width: Array


def _mixture(h, value):
    """h, (..., channels * (2 + 3 components)), for value, (..., channels)."""
    h = h.reshape(*value.shape, -1)
    logits, mean, log_width = jnp.split(h[..., 2:], 3, axis=-1)
    return _Mixture(
        jnp.tanh(h[..., 0]),
        h[..., 1],
        jax.nn.log_softmax(logits),
        mean,
        jnp.clip(log_width, -MAX_LOG_WIDTH, MAX_LOG_WIDTH),
    )


def _logit_cdf(m, x):
    """logit(F(x)) and the log of its slope.

    F and 1 - F are both sums in the log domain, so that neither end is ever rounded to 0 or 1. The
    slope f / (F (1 - F)) is the sum of w_k v_k / (pi_k exp(a_k)), w_k and v_k the components' shares of
    F and of 1 - F: those stay of size 1 in the tails, where log f and log F are large and nearly equal.
    """
    t = (x[..., None] - m.mean) * jnp.exp(-m.log_width)
    below = m.log_weight + jax.nn.log_sigmoid(t)
    above = m.log_weight + jax.nn.log_sigmoid(-t)
    shares = jax.nn.log_softmax(below) + jax.nn.log_softmax(above)
    log_slope = jax.nn.logsumexp(shares - m.log_weight - m.log_width, axis=-1)
    return jax.nn.logsumexp(below, axis=-1) - jax.nn.logsumexp(above, axis=-1), log_slope
