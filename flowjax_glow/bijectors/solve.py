"""Inverts increasing functions of one number, element by element, where no formula does.

fn(x) = y by Newton's method inside a bracket, which is halved wherever Newton's step is more than half
of the last one (Press et al., Numerical Recipes, section 9.4). Derivatives are those of the implicit
function theorem, dx = (dy - d fn) / fn'(x), and not those of the iteration.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def solve_increasing(
    fn: Callable[[Array], Array],
    y: Float[Array, "*shape"],
    low: Float[Array, "*shape"] | float | None = None,
    high: Float[Array, "*shape"] | float | None = None,
    *,
    tolerance: float = 0.0,
) -> Float[Array, "*shape"]:
    """The x with fn(x) = y, like y in shape and dtype.

    Differentiable in forward and reverse mode, any number of times, with respect to y and to all that
    fn closes over; low and high have no part in it.

    Args:
      fn: strictly increasing, element by element: entry i of fn(x) depends on entry i of x alone.
      low: at most x; high: at least x. None: found by doubling the distance from y. Where y is not
        between fn(low) and fn(high), the nearer of the two comes back; where there is no x and no
        bracket was given, nan.
      tolerance: in units of x. An entry is done after a step no longer than this or than the dtype
        resolves at x and at 1.
    """

    def residual(x):
        return fn(x) - y

    def solve(residual, start):
        def bound(end, sign):
            if end is None:
                return _double(residual, start, sign)
            return jnp.broadcast_to(jnp.asarray(end, y.dtype), y.shape)

        return _newton(residual, bound(low, -1), bound(high, 1), tolerance)

    def divide(linear, residual):
        return residual / linear(jnp.ones_like(residual))

    return jax.lax.custom_root(residual, jax.lax.stop_gradient(y), solve, divide)


def _double(residual, start, sign):
    """A point on the side `sign` of the root, start + sign * a power of 2; nan where there is none."""

    def short(x):
        return (sign * residual(x) < 0) & jnp.isfinite(x)

    def step(carry):
        x, distance = carry
        return jnp.where(short(x), start + sign * distance, x), 2 * distance

    begin = start, jnp.ones_like(start)
    end, _ = jax.lax.while_loop(lambda carry: jnp.any(short(carry[0])), step, begin)
    return jnp.where(jnp.isfinite(end), end, jnp.nan)


def _newton(residual, low, high, tolerance):
    resolution = jnp.finfo(low.dtype).eps

    def moving(x, moved):
        return moved > jnp.maximum(tolerance, resolution * jnp.maximum(1.0, jnp.abs(x)))

    def step(carry):
        low, high, x, moved = carry
        error, slope = jax.jvp(residual, (x,), (jnp.ones_like(x),))
        low, high = jnp.where(error <= 0, x, low), jnp.where(error >= 0, x, high)
        newton = x - error / slope
        good = (newton >= low) & (newton <= high) & (2 * jnp.abs(newton - x) <= moved)
        # A root that has been found stays: a step of rounding errors alone would be called a bad one.
        to = jnp.where(moving(x, moved), jnp.where(good, newton, low + (high - low) / 2), x)
        return low, high, to, jnp.abs(to - x)

    begin = low, high, low + (high - low) / 2, high - low
    return jax.lax.while_loop(lambda carry: jnp.any(moving(*carry[2:])), step, begin)[2]
