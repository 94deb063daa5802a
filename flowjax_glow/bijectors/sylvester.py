"""Sylvester map: a planar map with several directions at a time.

z = x + Q R tanh(S Q^T x + b), Q with orthonormal columns, R and S upper triangular;
logdet = sum(log(1 + r_i s_i tanh'(S Q^T x + b)_i)), r and s the diagonals of R and S.  Van den Berg et
al. 2018, section 3, arXiv:1803.05649 (where S is written as R with a tilde). It is invertible where
every r_i s_i > -1, which a tanh on both diagonals sees to. Q is a product of Householder reflections,
section 4.2; of any number of columns.
"""

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, check_vectors, per_channel
from flowjax_glow.bijectors.matrix import householder, matmul
from flowjax_glow.bijectors.solve import solve_increasing

# The largest entry of a diagonal: the least slope is 1 - 0.999^2, close to planar's.
MAX_DIAGONAL = 0.999


def sylvester(columns: int) -> Bijector:
    """Bijector on (batch, dim); cond is ignored, since there is no network.

    params: {"reflections": (columns, dim), "triangles": (columns, columns + 1), "b": (columns,)}. Row i
    of the reflections is a v of I - 2 v v^T / |v|^2, of any length but 0; Q is the first columns of
    their product. triangles holds S^T on and below its diagonal and R above it, their own diagonals
    before the tanh. init draws the reflections and b from a standard normal, the triangles near 0.

    forward is the formula. inverse solves for the entries of Q^T x from the last to the first, each an
    increasing equation of one unknown, to the dtype's resolution (bijectors.solve). Where samples have
    to be fast, as in variational inference, take invert(sylvester(columns)), whose inverse is the
    formula.

    Args:
      columns: of Q, between 1 and dim; how many directions are bent.

    Raises:
      ValueError: for columns below 1; when applied, for an input that is not (batch, dim), or a dim
        below columns, for which no inverse is known.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1; got {columns}")

    def init(key, x, cond=None):
        del cond
        check(x)
        q_key, r_key, b_key = jax.random.split(key, 3)
        return {
            "reflections": jax.random.normal(q_key, (columns, x.shape[1]), x.dtype),
            "triangles": 0.01 * jax.random.normal(r_key, (columns, columns + 1), x.dtype),
            "b": jax.random.normal(b_key, (columns,), x.dtype),
        }

    def forward(params, x, cond=None, key=None):
        del cond, key
        check(x)
        q, r, s = _matrices(prepare(params))
        t = jnp.tanh(matmul(matmul(x, q), s.T) + per_channel(params["b"], x))
        return x + matmul(matmul(t, r.T), q.T), _logdet(r, s, t)

    def inverse(params, z, cond=None, key=None):
        del cond, key
        check(z)
        q, r, s = _matrices(prepare(params))
        t = _solve(r, s, params["b"], matmul(z, q))
        return z - matmul(matmul(t, r.T), q.T), -_logdet(r, s, t)

    def prepare(params):
        return params if "q" in params else {**params, "q": householder(params["reflections"], columns)}

    def check(x):
        if check_vectors(x).shape[1] < columns:
            raise ValueError(f"columns must be at most dim; got {columns} columns, dim {x.shape[1]}")

    return Bijector(init, forward, inverse, prepare)


def _matrices(params):
    def bounded(m):
        diagonal = jnp.diag(m)
        return m + jnp.diag(MAX_DIAGONAL * jnp.tanh(diagonal) - diagonal)

    packed = params["triangles"]
    return params["q"], bounded(jnp.triu(packed[:, 1:])), bounded(jnp.tril(packed[:, :-1]).T)


def _solve(r, s, b, y):
    """The t = tanh(S v + b) of the v with v + R t = y; y, v and t are (batch, columns)."""

    def step(carry, row):
        v, t = carry
        i, r_row, s_row, b_i, y_i = row
        # Of v and t what is not known yet is 0, and so are R and S left of the diagonal.
        y_i = y_i - matmul(t, r_row[:, None])[:, 0]
        shift = matmul(v, s_row[:, None])[:, 0] + b_i
        r_i, s_i = r_row[i], s_row[i]
        v_i = solve_increasing(
            lambda a: a + r_i * jnp.tanh(s_i * a + shift), y_i, y_i - jnp.abs(r_i), y_i + jnp.abs(r_i)
        )
        t_i = jnp.tanh(s_i * v_i + shift)
        return (v.at[:, i].set(v_i), t.at[:, i].set(t_i)), None

    nothing = jnp.zeros_like(y)
    rows = jnp.arange(y.shape[1]), r, s, b, y.T
    return jax.lax.scan(step, (nothing, nothing), rows, reverse=True)[0][1]


def _logdet(r, s, t):
    product = per_channel(jnp.diag(r) * jnp.diag(s), t)
    # 1 + product tanh', tanh' = 1 - t^2, as a sum of what is not negative: nothing cancels.
    return jnp.sum(jnp.log(t**2 + (1 + product) * (1 - t**2)), axis=1)
