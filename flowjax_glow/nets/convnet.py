"""The conditioners of Glow: the three-layer convolutional net, and that of the priors.

Kingma & Dhariwal 2018, sections 3.3 and 5, arXiv:1807.03039, as in the released code (`f`,
`conv2d_zeros` and `linear_zeros` of model.py and tfops.py).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from flowjax_glow.base import Batch, per_channel
from flowjax_glow.bijectors.actnorm import LOG_SCALE_FACTOR, actnorm
from flowjax_glow.nets.cond import join
from flowjax_glow.nets.conv import Features, Image, affine, conv3x3


class ScaledConv(nn.Module):
    """(conv(x) + bias) * exp(3 log_scale): the one kind of layer that Glow's nets are made of.

    (batch, ..., channels) -> (batch, ..., features). Where the output is wide the scale goes into the
    weights and the bias, which are small: the same function, less memory traffic.

    Attributes:
      features: number of output channels. kernel_size: 1 or 3; 3 wants images.
      edge_bias: for size 3, as the released code has it, the zero padding carries a channel of its own
        that is 1 on the padding and 0 inside.
      param_dtype: of the params; the computation is in that of x.
      zero_init: True, everything starts at 0. False, weights N(0, 0.05^2), and bias and scale such that
        the batch at initialisation comes out with mean 0 and variance 1, which is actnorm's init.
    """

    features: int
    kernel_size: int
    edge_bias: bool
    param_dtype: DTypeLike
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "batch *dims"]) -> Float[Array, "batch *outs"]:
        window = (3, 3) if self.kernel_size == 3 else ()
        weights = {"kernel": self._weights("kernel", (*window, x.shape[-1], self.features))}
        if window and self.edge_bias:
            weights["edge"] = self._weights("edge", (*window, self.features))

        affine = self.param("affine", lambda _: self._fit(weights, x))
        log_scale = LOG_SCALE_FACTOR * affine["log_scale"]
        return _conv(x, **weights, bias=affine["bias"], scale=jnp.exp(log_scale))

    def _weights(self, name, shape):
        init = nn.initializers.zeros if self.zero_init else nn.initializers.normal(0.05)
        return self.param(name, init, shape, self.param_dtype)

    def _fit(self, weights, x):
        if self.zero_init:
            zeros = jnp.zeros((self.features,), self.param_dtype)
            return {"bias": zeros, "log_scale": zeros}
        return actnorm().init(jax.random.key(0), _conv(x, **weights).astype(self.param_dtype))


def _conv(x, kernel, edge=None, bias=None, scale=None):
    features, dtype = kernel.shape[-1], x.dtype
    bias = jnp.zeros((features,), kernel.dtype) if bias is None else bias
    edge = jnp.zeros((3, 3, features), kernel.dtype) if edge is None else edge
    narrows = kernel.ndim == 4 and features < kernel.shape[-2]
    if scale is not None and not narrows:
        kernel, edge = kernel * per_channel(scale, kernel), edge * per_channel(scale, edge)
        bias = bias * scale
    if kernel.ndim == 2:
        one = jnp.ones((1,) * x.ndim, dtype)
        return affine(x, kernel.astype(dtype), one, bias[None].astype(dtype))
    # What is 1 on the padding and 0 inside is 1 everywhere less what is 1 inside.
    ones = (-edge).at[1, 1].add(bias + jnp.sum(edge, (0, 1)))
    y = conv3x3(x, kernel.astype(dtype), ones.astype(dtype))
    if scale is None or not narrows:
        return y
    # As a product, because XLA on a CPU would sum the nine shifts again for every use of an element.
    return jnp.matmul(y, jnp.diag(scale).astype(dtype), precision=jax.lax.Precision.HIGHEST)


class ConvNet(nn.Module):
    """conv3x3, actnorm, relu, conv1x1, actnorm, relu, zero-initialised conv3x3.

    (batch, height, width, channels) -> (batch, height, width, out_channels). At initialisation the
    output is 0 and both actnorms are fitted to the batch.

    Attributes:
      out_channels: number of output channels.
      width: number of hidden channels.
      edge_bias: whether the 3x3 convolutions know the border; see ScaledConv.
      cond_channels: of cond, which is joined to the input as in nets.cond; None: cond is ignored.
      dropout: rate, after each relu.
      dtype: of the computation inside, such as jnp.bfloat16; None for that of the input.
    """

    out_channels: int
    width: int = 512
    edge_bias: bool = True
    cond_channels: int | None = None
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, h: Image, cond: Batch | None = None, deterministic: bool = True) -> Features:
        edge, dtype = self.edge_bias, h.dtype
        x = join(h, cond, self.cond_channels).astype(self.dtype or h.dtype)
        for size, name in ((3, "conv_in"), (1, "mix")):
            x = jax.nn.relu(ScaledConv(self.width, size, edge, dtype, name=name)(x))
            x = nn.Dropout(self.dropout)(x, deterministic=deterministic)
        return ScaledConv(self.out_channels, 3, edge, dtype, zero_init=True, name="conv_out")(x)


class PriorNet(nn.Module):
    """The net of a learned prior: one zero-initialised layer, and one of the class where there are any.

    (batch, height, width, channels) -> (batch, height, width, out_channels). With num_classes, h may
    have a batch of one, and cond holds the labels, (batch,) integers in [0, num_classes); the class
    adds the same to every position. Any other label gives nan.

    Raises:
      ValueError: if there are classes and cond is None.
    """

    out_channels: int
    edge_bias: bool = True
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        h: Float[Array, "#batch height width channels"],
        cond: Batch | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "#batch height width features"]:
        del deterministic
        y = ScaledConv(self.out_channels, 3, self.edge_bias, h.dtype, zero_init=True, name="conv")(h)
        if self.num_classes is None:
            return y
        labels = getattr(cond, "shape", None)
        if cond is None or labels is None or len(labels) != 1:
            raise ValueError(
                f"a prior of {self.num_classes} classes needs labels (batch,) as cond; got {labels}"
            )
        one_hot = jax.nn.one_hot(cond, self.num_classes, dtype=h.dtype)
        by_class = ScaledConv(self.out_channels, 1, False, h.dtype, zero_init=True, name="classes")(
            one_hot
        )
        known = ((cond >= 0) & (cond < self.num_classes))[:, None]
        by_class = jnp.where(known, by_class, jnp.nan)
        shape = (*labels, *y.shape[1:])
        return jnp.broadcast_to(y, shape) + jnp.broadcast_to(by_class[:, None, None, :], shape)
