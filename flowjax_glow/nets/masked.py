"""MADE: a fully connected net whose i-th outputs depend on the inputs before the i-th alone.

Every weight matrix is multiplied by a fixed mask of zeros and ones. Germain et al. 2015, section 4,
arXiv:1502.03509; the residual form is that of Durkan et al. 2019 (Neural Spline Flows), section 5,
arXiv:1906.04032.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flowjax_glow.base import Batch
from flowjax_glow.nets.cond import join
from flowjax_glow.nets.mlp import uniform


class MaskedDense(nn.Module):
    """x @ (mask * kernel) + bias, (batch, inputs) -> (batch, outputs).

    Attributes:
      mask: (inputs, outputs), whether an output sees an input.
      param_dtype: of the params; the computation is in that of x.
      zero_init: True, everything starts at 0. False, normal weights of variance 1 / n and uniform
        biases in +-n^-1/2, with n the number of inputs that the output sees.
    """

    mask: Bool[np.ndarray, "inputs outputs"]
    param_dtype: DTypeLike
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        # Counted for each unit: of 784 inputs some see one, and would start 28 times too small.
        # That the biases are not 0 is what nets.mlp found best for nets with few inputs.
        deviation = np.maximum(self.mask.sum(0), 1) ** -0.5
        kernel = self._weights("kernel", jax.random.normal, self.mask.shape, deviation)
        bias = self._weights("bias", uniform(1.0), self.mask.shape[1:], deviation)
        kernel = jnp.where(self.mask, kernel, 0.0)
        return x @ kernel.astype(x.dtype) + bias[None].astype(x.dtype)

    def _weights(self, name, draw, shape, deviation):
        def init(key):
            if self.zero_init:
                return jnp.zeros(shape, self.param_dtype)
            scale = np.broadcast_to(deviation, shape)
            return draw(key, shape, self.param_dtype) * jnp.asarray(scale, self.param_dtype)

        return self.param(name, init)


class MADE(nn.Module):
    """Masked hidden layers with relu and dropout, and a zero-initialised masked last layer.

    (batch, dim) -> (batch, out_channels), out_channels = dim * size. Reshaped to (batch, dim, size) the
    output depends at [:, i] on the inputs [:, :i], and on cond. At initialisation it is 0.

    Attributes:
      out_channels: number of outputs, a multiple of dim.
      width: units of a hidden layer; with fewer than dim - 1, or dim where there is cond, some outputs
        do not see all inputs before them.
      depth: number of hidden layers; where residual, of blocks after the first hidden layer.
      residual: whether hidden layers come in blocks of two, x + layer(relu(layer(relu(x)))).
      cond_channels: of cond, (batch, cond_channels), which enters every hidden layer unmasked; None:
        cond is ignored.
      dropout: rate, after each relu.
      dtype: of the computation inside; None for that of the input.

    Raises:
      ValueError: if out_channels is no multiple of dim, depth is below 1, or cond is missing or of
        another shape.
    """

    out_channels: int
    width: int = 64
    depth: int = 2
    residual: bool = False
    cond_channels: int | None = None
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, h: Float[Array, "batch dim"], cond: Batch | None = None, deterministic: bool = True
    ) -> Float[Array, "batch outs"]:
        dim, dtype = h.shape[-1], self.dtype or h.dtype
        if self.out_channels % dim:
            raise ValueError(f"out_channels must be a multiple of dim = {dim}; got {self.out_channels}")
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1; got {self.depth}")
        given = None
        if self.cond_channels is not None:
            given = join(h[:, :0], cond, self.cond_channels).astype(dtype)
        inputs, outputs = np.arange(dim), np.repeat(np.arange(dim), self.out_channels // dim)
        degrees = _degrees(self.width, dim, conditional=given is not None)

        def hidden(x, mask):
            y = MaskedDense(mask, h.dtype)(x)
            if given is None:
                return y
            return y + nn.Dense(self.width, use_bias=False, dtype=dtype, param_dtype=h.dtype)(given)

        def active(x):
            return nn.Dropout(self.dropout)(jax.nn.relu(x), deterministic=deterministic)

        x = hidden(h.astype(dtype), inputs[:, None] < degrees)
        same = degrees[:, None] <= degrees
        if self.residual:
            for _ in range(self.depth):
                x = x + hidden(active(hidden(active(x), same)), same)
        else:
            for _ in range(self.depth - 1):
                x = hidden(active(x), same)
        last = degrees[:, None] <= outputs
        return MaskedDense(last, h.dtype, zero_init=True, name="out")(active(x))


def _degrees(width: int, dim: int, *, conditional: bool) -> Int[np.ndarray, " width"]:
    """How many of the inputs, counted from the first, each hidden unit may see.

    1 to dim - 1, as many units of each as of any other. Units that see no input are constants, unless
    there is cond: without them the first output would not depend on it, as in the released code.
    """
    lowest = 0 if conditional or dim == 1 else 1
    return lowest + np.arange(width) * (dim - lowest) // width
