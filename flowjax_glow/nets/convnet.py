"""The conditioners of Glow: the three-layer convolutional net, and the zero-initialised layers.

Kingma & Dhariwal 2018, sections 3.3 and 5, arXiv:1807.03039, as in the released code (`f`,
`conv2d_zeros` and `linear_zeros` of model.py and tfops.py).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from flowjax_glow.base import Batch, per_channel
from flowjax_glow.bijectors.actnorm import actnorm
from flowjax_glow.nets.conv import Conv, Features, Image, matmul

# A zero-initialised layer ends with a factor exp(3 log_scale), log_scale trained from 0.
ZERO_LAYER_FACTOR = 3.0


class ConvNet(nn.Module):
    """conv3x3, actnorm, relu, conv1x1, actnorm, relu, zero-initialised conv3x3.

    (batch, height, width, channels) -> (batch, height, width, out_channels). At initialisation the
    output is 0 and both actnorms are fitted to the batch. cond is not used.

    Attributes:
      out_channels: number of output channels.
      width: number of hidden channels.
      edge_bias: whether the 3x3 convolutions know the border; see Conv.
      dropout: rate, after each relu.
      dtype: of the computation inside, such as jnp.bfloat16; None for that of the input.
    """

    out_channels: int
    width: int = 512
    edge_bias: bool = True
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, h: Image, cond: Batch | None = None, deterministic: bool = True) -> Features:
        del cond
        param_dtype = h.dtype
        x = h.astype(self.dtype or h.dtype)
        x = Conv(self.width, self.edge_bias, param_dtype, name="conv_in")(x)
        x = self._normalize(x, "actnorm_in", param_dtype, deterministic)
        mix = self.param("mix", nn.initializers.normal(0.05), (self.width,) * 2, param_dtype)
        x = matmul(x, mix.astype(x.dtype))
        x = self._normalize(x, "actnorm_mix", param_dtype, deterministic)
        return ZeroConv(self.out_channels, self.edge_bias, param_dtype, name="conv_out")(x)

    def _normalize(self, x, name, param_dtype, deterministic):
        layer = actnorm()
        params = self.param(name, lambda key: layer.init(key, x.astype(param_dtype)))
        x, _ = layer.forward(jax.tree.map(lambda p: p.astype(x.dtype), params), x)
        return nn.Dropout(self.dropout)(jax.nn.relu(x), deterministic=deterministic)


class ZeroConv(nn.Module):
    """Zero-initialised 3x3 convolution, (conv(x) + bias) * exp(3 log_scale)."""

    features: int
    edge_bias: bool
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Image) -> Features:
        y = Conv(self.features, self.edge_bias, self.param_dtype, zero_init=True, name="conv")(x)
        return _bias_and_scale(self, y)


class ZeroDense(nn.Module):
    """Zero-initialised linear layer, (x W + bias) * exp(3 log_scale)."""

    features: int
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch dim"]) -> Float[Array, "batch features"]:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.zeros, shape, self.param_dtype)
        return _bias_and_scale(self, matmul(x, kernel.astype(x.dtype)))


def _bias_and_scale(layer: ZeroConv | ZeroDense, y: Array) -> Array:
    shape, zeros = (layer.features,), nn.initializers.zeros
    bias = layer.param("bias", zeros, shape, layer.param_dtype)
    log_scale = layer.param("log_scale", zeros, shape, layer.param_dtype)
    scale = jnp.exp(ZERO_LAYER_FACTOR * log_scale)
    return (y + per_channel(bias.astype(y.dtype), y)) * per_channel(scale.astype(y.dtype), y)


class PriorNet(nn.Module):
    """The net of a learned prior: one zero-initialised layer, and one of the class where there are any.

    (batch, height, width, channels) -> (batch, height, width, out_channels). With num_classes, h may
    have a batch of one, and cond holds the labels, (batch,) integers in [0, num_classes); the class
    adds the same to every position.

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
        cond: Int[Array, " batch"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "#batch height width features"]:
        del deterministic
        y = ZeroConv(self.out_channels, self.edge_bias, h.dtype, name="conv")(h)
        if self.num_classes is None:
            return y
        if cond is None:
            raise ValueError(f"a prior of {self.num_classes} classes needs labels as cond; got None")
        one_hot = jax.nn.one_hot(cond, self.num_classes, dtype=h.dtype)
        by_class = ZeroDense(self.out_channels, h.dtype, name="classes")(one_hot)
        shape = (cond.shape[0], *y.shape[1:])
        return jnp.broadcast_to(y, shape) + jnp.broadcast_to(by_class[:, None, None, :], shape)
