"""A conditioner that reads the class alone: a learned row of numbers for each."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from flowjax_glow.base import Batch


class Table(nn.Module):
    """A zero-initialised row of out_channels numbers, or one for each class.

    (batch, ..., channels) -> (batch, ..., out_channels), the same at every position; the input is not
    looked at. `learned_prior(Table)` is a normal with a learned mean and deviation for each dimension
    of a vector, or each channel of an image; `learned_prior(partial(Table, num_classes=10))` has ten.

    Attributes:
      out_channels: number of outputs.
      num_classes: makes cond the labels, (batch,) integers in [0, num_classes), and h may then have a
        batch of one. Any other label gives nan. None: cond is ignored.

    Raises:
      ValueError: if there are classes and cond is None.
    """

    out_channels: int
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self, h: Float[Array, "#batch *dims"], cond: Batch | None = None, deterministic: bool = True
    ) -> Float[Array, "#batch *outs"]:
        del deterministic
        shape = (self.num_classes or 1, self.out_channels)
        rows = self.param("rows", nn.initializers.zeros, shape, h.dtype)
        batch = h.shape[0]
        if self.num_classes is not None:
            if cond is None:
                raise ValueError(f"a table of {self.num_classes} classes needs cond, labels; got None")
            labels = jnp.where(cond < 0, self.num_classes, cond)  # else -1 would be the last class
            rows = jnp.take(rows, labels, axis=0, mode="fill")
            batch = cond.shape[0]
        rows = rows.reshape(rows.shape[0], *[1] * (h.ndim - 2), self.out_channels)
        return jnp.broadcast_to(rows, (batch, *h.shape[1:-1], self.out_channels))
