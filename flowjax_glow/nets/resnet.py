"""The conditioner of RealNVP: a residual network with batch norm, weight norm and skip sums.

Dinh et al. 2017, section 4.1, arXiv:1605.08803, as in the released code. Batch norms take the batch's
statistics where `deterministic` is False, and running ones otherwise; see bijectors/batch_norm.py.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from flowjax_glow.base import RUNNING, Batch, per_channel, split_channels
from flowjax_glow.bijectors.batch_norm import follow, moments, normalize
from flowjax_glow.bijectors.mask import merge, split
from flowjax_glow.nets.cond import join
from flowjax_glow.nets.conv import Features, Image, affine, conv3x3


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) + bias, without a learned scale.

    params: {"running": {"mean", "variance"}, "bias"}, (channels,) each. At initialisation the running
    statistics are the batch's.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *dims"], deterministic: bool = True
    ) -> Float[Array, "batch *dims"]:
        running = self.param(RUNNING, lambda _: moments(x))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), x.dtype)
        used = follow(running, None if deterministic else moments(x))
        return normalize(x, used) + per_channel(bias, x)


class WeightNormConv(nn.Module):
    """Convolution of stride 1 by kernels of norm 1, one for each feature.

    Salimans & Kingma 2016, arXiv:1602.07868. Kernels are drawn uniform up to sqrt(2 / channels).

    Attributes:
      features: number of output channels. kernel_size: 1 or 3.
      magnitude: whether each feature's norm is learned, rather than 1. bias: whether there is one.
    """

    features: int
    kernel_size: int = 1
    magnitude: bool = True
    bias: bool = True

    @nn.compact
    def __call__(self, x: Image) -> Features:
        channels, zeros, dtype = x.shape[-1], nn.initializers.zeros, x.dtype
        window = (3, 3) if self.kernel_size == 3 else ()
        bound = math.sqrt(2 / channels)
        kernel = self.param("kernel", _uniform(bound), (*window, channels, self.features), dtype)
        norm = jnp.sqrt(jnp.sum(kernel**2, tuple(range(kernel.ndim - 1))))
        scale = 1 / norm
        if self.magnitude:
            first = nn.initializers.constant(bound * math.sqrt(channels * self.kernel_size**2 / 12))
            scale = self.param("magnitude", first, (self.features,), dtype) * scale
        kernel = kernel * per_channel(scale, kernel)
        bias = jnp.zeros((self.features,), dtype)
        if self.bias:
            bias = self.param("bias", zeros, (self.features,), dtype)
        if window:
            return conv3x3(x, kernel, jnp.zeros((3, 3, self.features), dtype).at[1, 1].set(bias))
        return affine(x, kernel, jnp.ones((1, 1, 1, 1), dtype), bias[None])


class _Block(nn.Module):
    """Adds batch norm, relu, conv3x3, batch norm, relu, conv3x3 of x to it; its conv1x1 to the sum."""

    width: int
    deterministic: bool

    @nn.compact
    def __call__(self, carry: tuple[Features, Features], _: None) -> tuple[Any, None]:
        x, total = carry
        conv = partial(WeightNormConv, self.width)
        y = jax.nn.relu(BatchNorm(name="norm_in")(x, self.deterministic))
        y = conv(3, magnitude=False, bias=False, name="conv_in")(y)
        y = jax.nn.relu(BatchNorm(name="norm_out")(y, self.deterministic))
        x = x + conv(3, name="conv_out")(y)
        return (x, total + conv(name="skip")(x)), None


class ResNet(nn.Module):
    """conv3x3, residual blocks, and of the sum of a conv1x1 of each: batch norm, relu, conv1x1.

    (batch, height, width, channels) -> (batch, height, width, out_channels). The blocks are one scan:
    their params have a leading axis of size `blocks`, and compile time does not grow with it.

    Attributes:
      out_channels: number of output channels.
      width: number of hidden channels. blocks: number of residual blocks.
      cond_channels: of cond, which is joined to the input as in nets.cond; None: cond is ignored.
    """

    out_channels: int
    width: int = 32
    blocks: int = 4
    cond_channels: int | None = None

    @nn.compact
    def __call__(self, h: Image, cond: Batch | None = None, deterministic: bool = True) -> Features:
        conv = partial(WeightNormConv, self.width)
        x = conv(3, magnitude=False, name="conv_in")(join(h, cond, self.cond_channels))
        total = conv(name="skip_in")(x)
        scanned = nn.scan(
            _Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.blocks
        )
        (_, total), _ = scanned(self.width, deterministic, name="blocks")((x, total), None)
        total = jax.nn.relu(BatchNorm(name="norm_out")(total, deterministic))
        return WeightNormConv(self.out_channels, name="conv_out")(total)


class RealNVPNet(nn.Module):
    """The net of RealNVP's affine couplings: a ResNet, before and after which the mask is seen to.

    Reads the half that a coupling keeps and returns the other's shift and log_scale, in the shapes
    mask.split gives them; log_scale is one learned number times tanh(.): for "checkerboard" the param
    "rescale", at first 0, and for "channel" the param "scale", at first 1. For
    affine_coupling(scale="exp") of the same mask and flip.

    The ResNet reads relu(y) and relu(-y), y being batch norm of the half. For "checkerboard" y is twice
    the batch norm of the whole image, with zeros in place of the other half, and the mask is read too.

    Attributes:
      out_channels: twice the channels of the other half.
      mask, flip: of the coupling; images only.
      width, blocks, cond_channels: as in ResNet.
    """

    out_channels: int
    mask: str
    flip: bool = False
    width: int = 32
    blocks: int = 4
    cond_channels: int | None = None

    @nn.compact
    def __call__(self, h: Image, cond: Batch | None = None, deterministic: bool = True) -> Features:
        norm = BatchNorm(name="norm_in")
        checkerboard = self.mask == "checkerboard"
        if checkerboard:
            y = 2 * norm(merge(h, jnp.zeros_like(h), self.mask, self.flip), deterministic)
            ones = jnp.ones_like(h[..., :1])
            parts = [y, -y, merge(ones, jnp.zeros_like(ones), self.mask, self.flip)]
        else:
            y = norm(h, deterministic)
            parts = [y, -y]
        x = jax.nn.relu(jnp.concatenate(parts, axis=-1))
        net = ResNet(self.out_channels, self.width, self.blocks, self.cond_channels, name="resnet")
        out = net(x, cond, deterministic)
        if checkerboard:
            out = split(out, self.mask, self.flip)[1]
        shift, log_scale = split_channels(out)
        # Two names, as in the released code, whose L2 is on the first: training/optimizers.py.
        name, first = ("rescale", 0.0) if checkerboard else ("scale", 1.0)
        scale = self.param(name, nn.initializers.constant(first), (), h.dtype)
        return jnp.concatenate([shift, scale * jnp.tanh(log_scale)], axis=-1)


def _uniform(bound):
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)
