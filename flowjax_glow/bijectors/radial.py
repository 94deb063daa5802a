"""Radial map: draws space in to a centre, or drives it away.

z = c + (x - c) (1 + beta / (alpha + r)), r = |x - c|.  Rezende & Mohamed 2015, section 4.1,
arXiv:1505.05770. It is invertible where beta > -alpha; with gamma = alpha + beta, alpha and gamma
positive, the factor is (r + gamma) / (r + alpha): gamma / alpha at the centre and 1 far from it.

logdet = (dim - 1) log((r + gamma) / (r + alpha)) + log((r^2 + 2 alpha r + alpha gamma) / (r + alpha)^2)

The inverse is the root of a quadratic equation, |z - c| (r + alpha) = r (r + gamma).
"""

import math

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, check_vectors, per_channel

# The least alpha and gamma: a distance in units of x, below which nothing is bent.
MIN_DISTANCE = 1e-3


def radial() -> Bijector:
    """Bijector on (batch, dim), with formulas both ways; cond is ignored, since there is no network.

    params: {"center": (dim,), "alpha": (), "gamma": ()}, of which alpha and gamma go through a
    softplus. init takes an example of the batch as the center, and alpha = gamma = 1: the identity.

    Raises:
      ValueError: when applied, for an input that is not (batch, dim).
    """

    def init(key, x, cond=None):
        del cond
        center = jax.random.choice(key, check_vectors(x))
        one = jnp.asarray(math.log(math.expm1(1 - MIN_DISTANCE)), x.dtype)
        return {"center": center, "alpha": one, "gamma": one}

    def forward(params, x, cond=None, key=None):
        del cond, key
        center, alpha, gamma = _constrained(params, x)
        r = _norm(x - center)
        return _scale(x, center, (r + gamma) / (r + alpha)), _logdet(x, r, alpha, gamma)

    def inverse(params, z, cond=None, key=None):
        del cond, key
        center, alpha, gamma = _constrained(params, z)
        far = _norm(z - center)
        # r^2 - 2 half r - far alpha = 0; of its root the form in which nothing cancels.
        half = (far - gamma) / 2
        root = jnp.sqrt(half**2 + far * alpha)
        r = jnp.where(half > 0, half + root, far * alpha / (root + jnp.abs(half)))
        return _scale(z, center, (r + alpha) / (r + gamma)), -_logdet(z, r, alpha, gamma)

    return Bijector(init, forward, inverse)


def _constrained(params, x):
    alpha, gamma = (MIN_DISTANCE + jax.nn.softplus(params[name]) for name in ("alpha", "gamma"))
    return per_channel(params["center"], check_vectors(x)), alpha, gamma


def _norm(x):
    # At 0 the root has no derivative; this one's is 0.
    return jnp.sqrt(jnp.maximum(jnp.sum(x**2, axis=1), jnp.finfo(x.dtype).tiny))


def _scale(x, center, factor):
    return center + (x - center) * factor[:, None]


def _logdet(x, r, alpha, gamma):
    across = jnp.log(r + gamma) - jnp.log(r + alpha)
    along = jnp.log(r**2 + 2 * alpha * r + alpha * gamma) - 2 * jnp.log(r + alpha)
    return (x.shape[1] - 1) * across + along
