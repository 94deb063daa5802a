"""Continuous flow: the data move along a learned velocity from time 0 to time 1.

dx/dt = f(x, t), logdet = the integral of trace(df/dx) dt.  Chen et al. 2018, section 4,
arXiv:1806.07366; with an estimate of the trace, Grathwohl et al. 2019 (FFJORD), section 3,
arXiv:1810.01367: trace(J) = E[e^T J e] for an e of independent signs, the same one at all times.
"""

from functools import partial

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, sum_event
from flowjax_glow.bijectors.conditioner import MakeNet, apply_net, init_net

TRACES = ("exact", "estimate")
MAX_STEPS = 4096


def continuous(
    make_net: MakeNet, *, trace: str = "exact", rtol: float = 1e-5, atol: float = 1e-5
) -> Bijector:
    """Bijector on (batch, ..., channels), solved by diffrax with an adaptive Dopri5.

    make_net(channels) is f, and should be smooth. It reads x with the time as one more channel behind
    the others, (batch, ..., channels + 1). Where it gives 0 the map is the identity. params: those of
    the network.

    Every step is so short that the estimated error of each number, and of each logdet, is at most atol
    + rtol * its size. Over the solve these add up: round trips and logdets are exact to some multiple
    of them. Examples of a batch share their steps. A solve of more than 4096 steps gives nan. It runs,
    f too, at the highest precision. Backward, the steps are differentiated as they were taken, from
    checkpoints; there is no forward-mode derivative.

    Args:
      make_net: as in bijectors.conditioner.
      trace: "exact" takes as many derivatives of f at every step as x has dimensions. "estimate" takes
        one where there is a key: logdet is then an unbiased estimate, by one e for each example. It
        costs as much as "exact" where there is no key.
      rtol, atol: of the solver, for x and logdet. Raise them for speed; below about 1e-6 they want
        float64.

    Raises:
      ValueError: for an unknown trace, or a tolerance that is not positive.
    """
    if trace not in TRACES:
        raise ValueError(f"trace must be one of {TRACES}; got {trace!r}")
    if rtol <= 0 or atol <= 0:
        raise ValueError(f"rtol and atol must be positive; got {rtol} and {atol}")

    def init(key, x, cond=None):
        return init_net(make_net(x.shape[-1]), key, _with_time(x, 0.0), cond)

    def move(start, end, params, x, cond=None, key=None):
        signs = None
        if trace == "estimate" and key is not None:
            key, sign_key = jax.random.split(key)
            signs = jax.random.rademacher(sign_key, x.shape, x.dtype)

        def velocity(t, state, given):
            params, cond, key, signs = given
            net = make_net(x.shape[-1])

            def f(x):
                return apply_net(net, params, _with_time(x, t), cond, key)

            return _exact(f, state[0]) if signs is None else _estimate(f, state[0], signs)

        state = x, jnp.zeros((x.shape[0],), x.dtype)
        return _solve(velocity, start, end, state, (params, cond, key, signs), rtol, atol)

    forward, inverse = partial(move, 0.0, 1.0), partial(move, 1.0, 0.0)
    return Bijector(init, forward, inverse, stochastic=trace == "estimate")


def _with_time(x, t):
    return jnp.concatenate([x, jnp.full_like(x[..., :1], t)], axis=-1)


def _exact(f, x):
    """f(x) and the trace of its Jacobian, for each example: one derivative a dimension."""
    value, derivative = jax.linearize(f, x)

    def diagonal(unit):
        # An example's f depends on no other example: one tangent serves the whole batch.
        return sum_event(derivative(jnp.broadcast_to(unit, x.shape)) * unit)

    size = x[0].size
    units = jnp.eye(size, dtype=x.dtype).reshape(size, 1, *x.shape[1:])
    return value, jnp.sum(jax.vmap(diagonal)(units), axis=0)


def _estimate(f, x, signs):
    value, tangent = jax.jvp(f, (x,), (signs,))
    return value, sum_event(signs * tangent)


def _solve(velocity, start, end, state, given, rtol, atol):
    import diffrax
    import optimistix

    dtype = state[0].dtype
    # A velocity that is rounded to TF32 or bfloat16 jumps by more than any tolerance given here.
    with jax.default_matmul_precision("highest"):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            diffrax.Dopri5(),
            t0=jnp.asarray(start, dtype),
            t1=jnp.asarray(end, dtype),
            dt0=None,
            y0=state,
            args=given,
            stepsize_controller=diffrax.PIDController(rtol, atol, norm=optimistix.max_norm),
            max_steps=MAX_STEPS,
            throw=False,  # an error would need the host in the middle of a step
        )
    done = solution.result == diffrax.RESULTS.successful
    return jax.tree.map(lambda y: jnp.where(done, y[0], jnp.nan), solution.ys)
