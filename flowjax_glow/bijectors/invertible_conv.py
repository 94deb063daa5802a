"""Invertible 1x1 convolution: a learned linear mix of the channels, the same at every position.

z = x W, logdet = positions * log|det W|.  Kingma & Dhariwal 2018, section 3.2, arXiv:1807.03039.

Three parametrisations. "dense" is W itself, as Glow's released code trains it. "plu" is
W = P L (U + diag(sign * exp(log_s))), P fixed: log|det W| is a sum, and W stays invertible.
"householder" is a product of as many reflections I - 2 v v^T / |v|^2 as there are channels: W stays
orthogonal, logdet = 0. Tomczak & Welling 2016, arXiv:1611.09630; in 1x1 convolutions, Hoogeboom et al.
2019, arXiv:1901.11137.

W, its inverse and its log-determinant depend on params alone, so `prepare` computes them, once a call
and for all depths of a repeat at a time, in matrix products: LAPACK has no place in a training step
(jaxlib 0.10's batched triangular solves can deadlock on a CPU with few cores).
"""

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector
from flowjax_glow.bijectors.matrix import householder, inverse_and_logdet, inverse_triangular, matmul


def invertible_conv(*, parametrization: str = "dense") -> Bijector:
    """Channel-mixing bijector on (batch, ..., channels); init draws W at random, orthogonal.

    params, dense: {"kernel": (channels, channels)}, indexed (in, out). plu: {"lu": (channels,
    channels), "permutation": (channels,) int32, "sign": (channels,) int32}; lu holds L strictly below
    the diagonal, U strictly above it and log|s| on it, and the last two are constants. householder:
    {"reflections": (channels, channels)}, a v in each row, of any length but 0.

    Raises:
      ValueError: for an unknown parametrization.
    """
    if parametrization not in _PREPARE:
        raise ValueError(f"parametrization must be one of {sorted(_PREPARE)}; got {parametrization!r}")

    def init(key, x, cond=None):
        del cond
        channels = x.shape[-1]
        if parametrization == "householder":
            return {"reflections": jax.random.normal(key, (channels, channels), x.dtype)}
        kernel = jax.random.orthogonal(key, channels, dtype=x.dtype)
        return {"kernel": kernel} if parametrization == "dense" else _factorize(kernel)

    def forward(params, x, cond=None, key=None):
        del cond, key
        params = prepare(params)
        return matmul(x, params["kernel"]), _logdet(x, params["logdet"])

    def inverse(params, z, cond=None, key=None):
        del cond, key
        params = prepare(params)
        return matmul(z, params["inverse"]), _logdet(z, -params["logdet"])

    def prepare(params):
        if "inverse" in params:
            return params
        return _PREPARE[parametrization](**params)

    return Bijector(init, forward, inverse, prepare)


def _logdet(x, logdet):
    return jnp.full((x.shape[0],), (x[0].size // x.shape[-1]) * logdet)


def _dense(kernel):
    inverse, logdet = inverse_and_logdet(kernel)
    return {"kernel": kernel, "inverse": inverse, "logdet": logdet}


def _factorize(kernel):
    lu, _, rows = jax.lax.linalg.lu(kernel)  # kernel[rows] = L U
    s = jnp.diag(lu)
    return {
        "lu": lu + jnp.diag(jnp.log(jnp.abs(s)) - s),
        "permutation": jnp.argsort(rows).astype(jnp.int32),
        "sign": jnp.sign(s).astype(jnp.int32),
    }


def _multiply(lu, permutation, sign):
    eye = jnp.eye(lu.shape[-1], dtype=lu.dtype)
    log_s = jnp.diag(lu)
    s = sign.astype(lu.dtype) * jnp.exp(log_s)
    lower, upper = jnp.tril(lu, -1) + eye, jnp.triu(lu, 1) + jnp.diag(s)
    inverse = matmul(inverse_triangular(upper.T).T, inverse_triangular(lower))[:, permutation]
    return {
        "kernel": matmul(lower, upper)[permutation],
        "inverse": inverse,
        "logdet": jnp.sum(log_s),
    }


def _reflect(reflections):
    kernel = householder(reflections, reflections.shape[-1])
    return {"kernel": kernel, "inverse": kernel.T, "logdet": jnp.zeros((), kernel.dtype)}


_PREPARE = {"dense": _dense, "plu": _multiply, "householder": _reflect}
