"""Inverses and determinants of small matrices without LAPACK, in any dtype and on any backend.

Every product runs at the highest precision: a W that is rounded to TF32 or bfloat16 on its way would
spoil the pixels that come back.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def matmul(a: Float[Array, "*batch m k"], b: Float[Array, "k n"]) -> Float[Array, "*batch m n"]:
    """A @ b at the highest precision the backend has for the dtype."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def inverse_and_logdet(w: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """The inverse of a square matrix and log|det|, by one Gauss-Jordan elimination with row pivots.

    One step of Newton's iteration, X (2 I - W X), then takes the inverse to the dtype's accuracy.
    Derivatives: d inverse = -inverse dW inverse and d logdet = trace(inverse dW), of any order.
    A singular matrix gives values that are not finite.
    """
    n = w.shape[0]
    rows = jnp.arange(n)

    def eliminate(k, carry):
        m, logdet = carry
        pivot_row = jnp.argmax(jnp.where(rows >= k, jnp.abs(m[:, k]), -1.0))
        swapped = jnp.where(rows == k, pivot_row, jnp.where(rows == pivot_row, k, rows))
        m = m[swapped]
        pivot = m[k, k]
        row = m[k] / pivot
        m = m - jnp.where(rows == k, 0.0, m[:, k])[:, None] * row[None, :]
        m = jnp.where((rows == k)[:, None], row[None, :], m)
        return m, logdet + jnp.log(jnp.abs(pivot))

    eye = jnp.eye(n, dtype=w.dtype)
    m, logdet = jax.lax.fori_loop(
        0, n, eliminate, (jnp.concatenate([w, eye], axis=1), jnp.zeros((), w.dtype))
    )
    inverse = m[:, n:]
    return inverse + matmul(inverse, eye - matmul(w, inverse)), logdet


@inverse_and_logdet.defjvp
def _inverse_and_logdet_jvp(primals, tangents):
    (w,), (dw,) = primals, tangents
    inverse, logdet = inverse_and_logdet(w)
    d_inverse = -matmul(matmul(inverse, dw), inverse)
    return (inverse, logdet), (d_inverse, jnp.sum(inverse.T * dw))


def householder(reflections: Float[Array, "k n"], columns: int) -> Float[Array, "n columns"]:
    """The first columns of an orthogonal matrix, the product of k reflections I - 2 v v^T / |v|^2.

    The rows of reflections are the v, of any length but 0. All at once the product is I - V^T T V,
    where the inverse of T is upper triangular, with 1/2 on the diagonal and the products of the unit
    vectors above it. Joffrain et al. 2006, "Accumulating Householder transformations, revisited".
    """
    k, n = reflections.shape
    v = reflections / jnp.sqrt(jnp.sum(reflections**2, axis=1, keepdims=True))
    half = 0.5 * jnp.eye(k, dtype=v.dtype)
    t = inverse_triangular((jnp.triu(matmul(v, v.T), 1) + half).T).T
    return jnp.eye(n, columns, dtype=v.dtype) - matmul(v.T, matmul(t, v[:, :columns]))


def inverse_triangular(m: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of a lower triangular matrix, by halves: log2(n) rounds of matrix products."""
    n = m.shape[0]
    if n == 1:
        return 1.0 / m
    k = n // 2
    a, d = inverse_triangular(m[:k, :k]), inverse_triangular(m[k:, k:])
    c = -matmul(matmul(d, m[k:, :k]), a)
    top = jnp.concatenate([a, jnp.zeros((k, n - k), m.dtype)], axis=1)
    return jnp.concatenate([top, jnp.concatenate([c, d], axis=1)], axis=0)
