"""A fully connected residual conditioner, for vectors.

Pre-activation blocks, He et al. 2016, arXiv:1603.05027, as in the released code of Durkan et al. 2019
(Neural Spline Flows), arXiv:1906.04032.
"""

import jax
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flowjax_glow.base import Batch
from flowjax_glow.nets.cond import join
from flowjax_glow.nets.mlp import uniform

# Of the last layer of a block, as released: every block starts close to the identity.
_SMALL = 1e-3


class ResidualMLP(nn.Module):
    """A dense layer, blocks x + dense(dropout(relu(dense(relu(x))))), a zero-initialised dense layer.

    (batch, ..., dim) -> (batch, ..., out_channels). At initialisation the output is 0; that of the
    released net is not.

    Attributes:
      out_channels: number of outputs.
      width: units of every hidden layer. depth: number of blocks.
      cond_channels: of cond, which is joined to the input as in nets.cond; None: cond is ignored.
      dropout: rate, before the second layer of each block.
      dtype: of the computation inside; None for that of the input.
    """

    out_channels: int
    width: int = 256
    depth: int = 2
    cond_channels: int | None = None
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, h: Float[Array, "batch *dims"], cond: Batch | None = None, deterministic: bool = True
    ) -> Float[Array, "batch *outs"]:
        dense = {"dtype": self.dtype or h.dtype, "param_dtype": h.dtype}
        x = join(h, cond, self.cond_channels)
        small = {"kernel_init": uniform(_SMALL), "bias_init": uniform(_SMALL)}
        bias = uniform(x.shape[-1] ** -0.5)
        x = nn.Dense(self.width, bias_init=bias, **dense)(x)
        for _ in range(self.depth):
            y = nn.Dense(self.width, bias_init=uniform(self.width**-0.5), **dense)(jax.nn.relu(x))
            y = nn.Dropout(self.dropout)(jax.nn.relu(y), deterministic=deterministic)
            x = x + nn.Dense(self.width, **small, **dense)(y)
        return nn.Dense(self.out_channels, kernel_init=nn.initializers.zeros, **dense)(x)
