"""A fully connected net of a vector and a time, for the dynamics of a continuous flow.

Each layer is dense(h) * sigmoid(gate(t)) + shift(t), gate and shift linear: the layer that Grathwohl et
al. 2019 (FFJORD), arXiv:1810.01367, released under the name concatsquash.
"""

import jax
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flowjax_glow.base import Batch
from flowjax_glow.nets.cond import join


class TimedMLP(nn.Module):
    """Hidden layers with softplus, smooth as solvers want it, and a zero-initialised last layer.

    (batch, ..., dim + 1) -> (batch, ..., out_channels). The last channel of the input is the time. At
    initialisation the output is 0.

    Attributes:
      out_channels: number of outputs.
      width: units of a hidden layer. depth: number of hidden layers.
      cond_channels: of cond, which is joined to the input as in nets.cond; None: cond is ignored.
      dtype: of the computation inside; None for that of the input.
    """

    out_channels: int
    width: int = 64
    depth: int = 3
    cond_channels: int | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, h: Float[Array, "batch *dims"], cond: Batch | None = None, deterministic: bool = True
    ) -> Float[Array, "batch *outs"]:
        del deterministic
        dense = {"dtype": self.dtype or h.dtype, "param_dtype": h.dtype}
        zeros = {"kernel_init": nn.initializers.zeros}

        def layer(x, features, **init):
            gate = jax.nn.sigmoid(nn.Dense(features, **dense)(t))
            shift = nn.Dense(features, use_bias=False, **init, **dense)(t)
            return nn.Dense(features, **init, **dense)(x) * gate + shift

        x, t = join(h[..., :-1], cond, self.cond_channels), h[..., -1:]
        for _ in range(self.depth):
            x = jax.nn.softplus(layer(x, self.width))
        return layer(x, self.out_channels, **zeros)
