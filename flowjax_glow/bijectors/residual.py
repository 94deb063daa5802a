"""Residual bijector: the input plus a contraction of it, inverted by iteration.

z = x + g(x), log|det| = log det(I + J), J the Jacobian of g, whose Lipschitz constant is below 1.
Behrmann et al. 2019 (i-ResNet), arXiv:1811.00995; Chen et al. 2019 (Residual Flows), arXiv:1906.02735.

The log-determinant is the power series sum_k (-1)^(k+1) tr(J^k) / k. An estimate of it cuts the series
off after a random number of terms, divides each by the probability to get that far, and takes v^T J^k v
for the trace, with v of random signs: unbiased (section 3.1 there). Its gradient is estimated by the
series of tr((I + J)^-1 dJ), with the same v and number of terms (section 3.2): unbiased too, and no
deeper to differentiate than one product J w.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flowjax_glow.base import Bijector, sum_event
from flowjax_glow.bijectors.conditioner import MakeNet, apply_net, init_net
from flowjax_glow.bijectors.matrix import inverse_and_logdet

LOGDETS = ("exact", "estimate")


class _Terms(NamedTuple):
    """How many terms come after those always taken: draw(key), and P(draw >= m) for m >= 1."""

    draw: Callable[[Array], Array]
    reaches: Callable[[Array], Array]


TERMS = {
    "geometric": _Terms(
        draw=lambda key: jax.random.geometric(key, 0.5),
        reaches=lambda m: 0.5 ** (m - 1),
    ),
    "poisson": _Terms(
        draw=lambda key: jax.random.poisson(key, 2.0),
        reaches=lambda m: jax.scipy.special.gammainc(m, jnp.full_like(m, 2.0)),
    ),
}


def residual(
    make_net: MakeNet,
    *,
    logdet: str = "exact",
    exact_terms: int = 2,
    terms: str = "geometric",
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
) -> Bijector:
    """Bijector on (batch, ..., channels): adds make_net(channels) of the input, a contraction.

    params: those of the network. logdet: exact, from the whole Jacobian (dim products with it and an
    elimination, so for small dims), or with a key and logdet="estimate" an unbiased estimate, from two
    and a few products. inverse iterates x <- z - g(x), and is differentiated by the implicit function
    theorem, with the same iteration for the linear system. Both run the network at the highest
    precision: what it returns is part of z.

    Args:
      make_net: as in bijectors.conditioner; the net also has contract(params, event_shape), which
        returns the params that are used: with them its Lipschitz constant in x is below 1. See
        nets.lipschitz.LipschitzNet. It gets no key, for dropout would scale it up.
      logdet: "exact" or "estimate".
      exact_terms: of the series that are always taken: 2 in the released training, 20 in its
        evaluation. terms: how many more are drawn, one number for the batch: "geometric" (p = 0.5)
        or "poisson" (mean 2).
      tolerance: of the inverse: the largest |x + g(x) - z| of an example, as a share of the larger of 1
        and its largest |z|; no less than 16 roundings of the dtype. The error of x is at most
        1 / (1 - Lipschitz constant) times as large, in the Euclidean norm.
      max_iterations: of the inverse. An example that has not reached the tolerance by then is nan.

    Raises:
      ValueError: for an unknown logdet or terms, or a number below its least.
    """
    if logdet not in LOGDETS:
        raise ValueError(f"logdet must be one of {LOGDETS}; got {logdet!r}")
    if terms not in TERMS:
        raise ValueError(f"terms must be one of {sorted(TERMS)}; got {terms!r}")
    for name, value, least in (("exact_terms", exact_terms, 0), ("max_iterations", max_iterations, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}; got {value}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive; got {tolerance}")

    def contract(params, x):
        return make_net(x.shape[-1]).contract(params, x.shape[1:])

    def g(weights, x, cond):
        return apply_net(make_net(x.shape[-1]), weights, x, cond, None)

    def reaches(k):
        m = k - exact_terms
        return jnp.where(m > 0, TERMS[terms].reaches(jnp.maximum(m, 1)), 1)

    def init(key, x, cond=None):
        return init_net(make_net(x.shape[-1]), key, x, cond)

    def value_and_logdet(weights, x, cond, key):
        with jax.default_matmul_precision("highest"):
            if key is None or logdet == "exact":
                return _exact(lambda x: g(weights, x, cond), x)
            count_key, probe_key = jax.random.split(key)
            count = exact_terms + TERMS[terms].draw(count_key)
            probe = jax.random.rademacher(probe_key, x.shape, x.dtype)
            return _estimate(g, weights, x, cond, probe, count, reaches)

    def forward(params, x, cond=None, key=None):
        gx, logdet = value_and_logdet(contract(params, x), x, cond, key)
        return x + gx, logdet

    def inverse(params, z, cond=None, key=None):
        weights = contract(params, z)
        x = _solve(lambda x: x + g(weights, x, cond), z, tolerance, max_iterations)
        return x, -value_and_logdet(weights, x, cond, key)[1]

    return Bijector(init, forward, inverse, stochastic=logdet == "estimate")


def _exact(g, x):
    """g(x) and log|det(I + J)|; the Jacobian's columns are taken 64 at a time."""
    gx, jvp = jax.linearize(g, x)
    dim = x[0].size
    eye = jnp.eye(dim, dtype=x.dtype)

    def column(unit):
        return jvp(jnp.broadcast_to(unit.reshape(1, *x.shape[1:]), x.shape)).reshape(-1, dim)

    columns = jax.lax.map(column, eye, batch_size=min(dim, 64))
    return gx, jax.vmap(lambda j: inverse_and_logdet(eye + j)[1], in_axes=1)(columns)


def _estimate(g, weights, x, cond, probe, count, reaches):
    """g(x), and an estimate of log det(I + J) whose gradient is one of log det(I + J)'s gradient."""
    frozen_weights, frozen_x, frozen_cond = jax.lax.stop_gradient((weights, x, cond))
    _, jvp = jax.linearize(lambda x: g(frozen_weights, x, frozen_cond), frozen_x)

    def term(k, carry):
        value, inverse, power = carry
        k = jnp.asarray(k, x.dtype)
        power = -jvp(power)  # (-J)^k v
        return value - sum_event(probe * power) / (k * reaches(k)), inverse + power / reaches(k), power

    start = jnp.zeros_like(x, shape=x.shape[:1]), probe, probe
    value, inverse, _ = jax.lax.fori_loop(1, count + 1, term, start)
    # v^T dJ (I + J)^-1 v is the derivative of v^T J w at a w that is held fixed.
    gx, product = jax.jvp(lambda x: g(weights, x, cond), (x,), (inverse,))
    surrogate = sum_event(probe * product)
    return gx, value + (surrogate - jax.lax.stop_gradient(surrogate))


def _solve(h, z, tolerance, max_iterations):
    """The x with h(x) = z, where h is the identity plus a contraction; nan where it is not reached."""
    tolerance = max(tolerance, 16 * float(jnp.finfo(z.dtype).eps))

    def largest(x):
        return jnp.max(jnp.abs(x), axis=tuple(range(1, x.ndim)))

    def iterate(f, x, scale):
        def unfinished(state):
            i, _, error = state
            return jnp.any(largest(error) > tolerance * scale) & (i < max_iterations)

        def step(state):
            i, x, error = state
            return i + 1, x - error, f(x - error)

        _, x, error = jax.lax.while_loop(unfinished, step, (0, x, f(x)))
        reached = (largest(error) <= tolerance * scale).reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(reached, x, jnp.nan)

    def linear(matvec, b):
        return iterate(lambda w: matvec(w) - b, b, largest(b))

    with jax.default_matmul_precision("highest"):
        return jax.lax.custom_root(
            lambda x: h(x) - z,
            z,
            lambda f, x: iterate(f, x, jnp.maximum(largest(jax.lax.stop_gradient(z)), 1)),
            lambda matvec, b: jax.lax.custom_linear_solve(
                matvec, b, solve=linear, transpose_solve=linear
            ),
        )
