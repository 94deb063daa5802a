"""A network whose weights can be made small enough for it to shrink every distance.

The weights of every layer are divided by max(1, norm / coefficient), and the activation LipSwish,
x sigmoid(softplus(beta) x) / 1.1, has slopes of at most 1: the Lipschitz constant of n layers is at
most coefficient^n. Behrmann et al. 2019, section 2, arXiv:1811.00995; Chen et al. 2019,
section 3.3, arXiv:1906.02735.

The norm is not their power iteration, which comes from below and needs a vector that is kept between
steps, or from a fixed start 20 to 60 iterations for 1% and up to 400 for 0.1%. It is a bound from
above by repeated squaring of W^T W (Delattre et al. 2023, arXiv:2305.16173), a smooth function of the
weights: so g contracts for certain, and there is nothing to keep.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Inexact

from flowjax_glow.base import Batch, Params
from flowjax_glow.nets.cond import join
from flowjax_glow.nets.conv import affine, conv3x3
from flowjax_glow.nets.mlp import uniform

# W^T W squared 6 times: the bound is at most min(m, n)^(1 / 256) times the norm, 1.025 at 512 channels;
# of uniform weights it is 1.001 times.
SQUARINGS = 6
_HIGHEST = jax.lax.Precision.HIGHEST


def norm_bound(w: Inexact[Array, "*batch m n"]) -> Float[Array, "*batch"]:
    """An upper bound of the spectral norm of each matrix: its Schatten norm of order 4 * 2^SQUARINGS.

    That is the sum of sigma^256 over the singular values, to the power 1 / 256.
    """
    adjoint = jnp.conj(jnp.swapaxes(w, -1, -2))
    a, b = (w, adjoint) if w.shape[-2] <= w.shape[-1] else (adjoint, w)
    gram, log_norm = jnp.matmul(a, b, precision=_HIGHEST), 0.0
    for i in range(SQUARINGS):
        size = _frobenius(gram)
        log_norm = log_norm + jnp.log(size) / 2**i
        gram = gram / jnp.asarray(size[..., None, None], gram.dtype)
        gram = jnp.matmul(gram, gram, precision=_HIGHEST)
    log_norm = log_norm + jnp.log(_frobenius(gram)) / 2**SQUARINGS
    return jnp.exp(log_norm / 2)


def _frobenius(a):
    squares = jnp.real(a) ** 2 + jnp.imag(a) ** 2
    return jnp.sqrt(jnp.sum(squares, (-2, -1)) + jnp.finfo(squares.dtype).tiny)


def conv_norm_bound(
    kernel: Float[Array, "3 3 channels features"], height: int, width: int
) -> Float[Array, ""]:
    """An upper bound of the norm of a 3x3 convolution with zero padding on images of this size.

    Zero padding is a part of the convolution on a torus of height + 1 by width + 1, which the Fourier
    transform makes one matrix a frequency. The torus has more than the image: of random kernels 1.001
    times at 32x32, 1.02 at 8x8; of a kernel of ones 1.01 at 32x32, 1.09 at 8x8, 1.3 at 4x4, 2.3 at 2x2.
    """
    # Real kernels have the same norm at a frequency and its negative: half of the rows will do.
    rows, columns = np.arange((height + 1) // 2 + 1) / (height + 1), np.arange(width + 1) / (width + 1)
    taps = np.arange(-1, 2)
    turns = (rows[:, None, None, None] * taps[:, None]) + (columns[:, None, None] * taps)
    waves = np.exp(2j * math.pi * turns).reshape(-1, 9)

    def at(waves, kernel):
        flat = kernel.reshape(9, -1)
        flat = jax.lax.complex(flat, jnp.zeros_like(flat))
        return jnp.matmul(waves, flat, precision=_HIGHEST).reshape(-1, *kernel.shape[2:])

    waves = jnp.asarray(waves, jnp.complex64 if kernel.dtype == jnp.float32 else jnp.complex128)
    # The gradient is that of the largest alone, so only that one is computed with one.
    largest = jnp.argmax(norm_bound(at(waves, jax.lax.stop_gradient(kernel))))
    return norm_bound(at(waves[largest][None], kernel))[0]


class LipSwish(nn.Module):
    """x sigmoid(softplus(beta) x) / 1.1, with slopes in [-0.1, 1); beta is learned, from 0.5."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch *dims"]) -> Float[Array, "batch *dims"]:
        beta = self.param("beta", nn.initializers.constant(0.5), (), x.dtype)
        return x * jax.nn.sigmoid(jax.nn.softplus(beta) * x) / 1.1


class Layer(nn.Module):
    """A 3x3 convolution (kernel_size 3, images) or an affine map of the channels (1).

    (batch, ..., channels) -> (batch, ..., features). Weights and bias start uniform within
    1 / sqrt(fan in).
    """

    features: int
    kernel_size: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch *dims"]) -> Float[Array, "batch *outs"]:
        window = (3, 3) if self.kernel_size == 3 else ()
        shape = (*window, x.shape[-1], self.features)
        init = uniform(math.prod(shape[:-1]) ** -0.5)
        kernel = self.param("kernel", init, shape, x.dtype)
        bias = self.param("bias", init, (self.features,), x.dtype)
        if window:
            return conv3x3(x, kernel, jnp.zeros((3, 3, self.features), x.dtype).at[1, 1].set(bias))
        return affine(x, kernel, jnp.ones((1,) * x.ndim, x.dtype), bias[None])


class LipschitzNet(nn.Module):
    """LipSwish and Layer in turns: a contraction of h, with the params that contract returns.

    (batch, ..., channels) -> (batch, ..., out_channels); images for a kernel of size 3. cond is joined
    to what the first layer reads.

    Attributes:
      out_channels: number of output channels. width: of hidden ones.
      kernels: sizes, 1 or 3, one a layer.
      coefficient: largest norm of a layer, in (0, 1).
      activate_input: whether a LipSwish stands before the first layer.
      cond_channels: of cond; None for a net without. See nets.cond.

    Raises:
      ValueError: for a coefficient or kernel outside these, for a kernel of size 3 on what is no image,
        and for a cond that is missing or of another shape.
    """

    out_channels: int
    width: int = 512
    kernels: tuple[int, ...] = (3, 1, 3)
    coefficient: float = 0.98
    activate_input: bool = True
    cond_channels: int | None = None

    @nn.compact
    def __call__(
        self, h: Float[Array, "batch *dims"], cond: Batch | None = None, deterministic: bool = True
    ) -> Float[Array, "batch *outs"]:
        del deterministic
        self._check(h)
        x = LipSwish()(h) if self.activate_input else h
        x = join(x, cond, self.cond_channels)
        *hidden, last = self.kernels
        for size in hidden:
            x = LipSwish()(Layer(self.width, size)(x))
        return Layer(self.out_channels, last)(x)

    @nn.nowrap
    def contract(self, params: Params, event_shape: tuple[int, ...]) -> Params:
        """The params with weights of norm coefficient at most, on events (..., channels) of this shape.

        With them the net's Lipschitz constant in h is at most coefficient^len(kernels).
        """

        def bounded(layer):
            kernel = layer["kernel"]
            conv = kernel.ndim == 4
            norm = conv_norm_bound(kernel, *event_shape[:2]) if conv else norm_bound(kernel)
            return layer | {"kernel": kernel / jnp.maximum(1, norm / self.coefficient)}

        return {name: bounded(p) if "kernel" in p else p for name, p in params.items()}

    @nn.nowrap
    def _check(self, h):
        if not 0 < self.coefficient < 1:
            raise ValueError(f"coefficient must be in (0, 1); got {self.coefficient}")
        if not self.kernels or not set(self.kernels) <= {1, 3}:
            raise ValueError(f"kernels must be of size 1 or 3; got {self.kernels}")
        if 3 in self.kernels and h.ndim != 4:
            raise ValueError(
                f"a kernel of size 3 needs (batch, height, width, channels); got shape {h.shape}"
            )
