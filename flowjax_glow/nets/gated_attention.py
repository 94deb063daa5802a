"""The conditioners of Flow++: gated convolutions and multi-head self-attention over all positions.

Ho et al. 2019 (Flow++), section 3.3, arXiv:1902.00275, as in the released code (`conv2d`, `gated_conv`,
`gated_attn` and `MixLogisticAttnCoupling` of flows.py).
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from flowjax_glow.base import Batch, per_channel
from flowjax_glow.bijectors.mask import split
from flowjax_glow.nets.conv import Features, Image, affine, conv3x3

# Of the layers that add to the residual stream, and of the output, at initialisation.
_SMALL = 0.1


class FittedConv(nn.Module):
    """A convolution with bias, fitted to the batch at initialisation.

    (batch, height, width, channels) -> (batch, height, width, features). The weights are drawn from
    N(0, 0.05^2) and scaled, and the bias is set, so that every feature of the batch at initialisation
    has mean 0 and deviation init_scale. Salimans & Kingma 2016, section 3, arXiv:1602.07868, without
    its norms afterwards.

    Attributes:
      features: number of output channels. kernel_size: 1 or 3; 3 pads with zeros.
      init_scale: standard deviation of the output at initialisation.
    """

    features: int
    kernel_size: int
    init_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Image) -> Features:
        return _conv(x, **self.param("weights", self._fit, x))

    def _fit(self, key, x):
        window = (3, 3) if self.kernel_size == 3 else ()
        kernel = 0.05 * jax.random.normal(key, (*window, x.shape[-1], self.features), x.dtype)
        y = _conv(x, kernel, jnp.zeros((self.features,), x.dtype))
        axes = tuple(range(y.ndim - 1))
        scale = self.init_scale * jax.lax.rsqrt(jnp.var(y, axes) + 1e-8)
        return {"kernel": kernel * per_channel(scale, kernel), "bias": -jnp.mean(y, axes) * scale}


def _conv(x, kernel, bias):
    if kernel.ndim == 2:
        return affine(x, kernel, jnp.ones((1,) * x.ndim, x.dtype), bias[None])
    ones = jnp.zeros((3, 3, bias.size), x.dtype).at[1, 1].set(bias)
    return conv3x3(x, kernel, ones)


def _concat_elu(x: Array) -> Array:
    return jax.nn.elu(jnp.concatenate([x, -x], axis=-1))


def _gate(x: Array) -> Array:
    a, b = jnp.split(x, 2, axis=-1)
    return a * jax.nn.sigmoid(b)


class GatedConv(nn.Module):
    """x + gate(conv(dropout(concat_elu(conv3x3(concat_elu(x)) + conv1x1(concat_elu(cond)))))).

    Keeps the shape of x, (batch, height, width, channels). gate(a, b) = a sigmoid(b).

    Attributes:
      kernel_size: of the second convolution, 1 or 3. dropout: rate.
    """

    kernel_size: int
    dropout: float

    @nn.compact
    def __call__(self, x: Image, cond: Features | None, deterministic: bool) -> Image:
        width = x.shape[-1]
        y = FittedConv(width, 3, name="conv_in")(_concat_elu(x))
        if cond is not None:
            y = y + FittedConv(width, 1, name="conv_cond")(_concat_elu(cond))
        y = nn.Dropout(self.dropout)(_concat_elu(y), deterministic=deterministic)
        return x + _gate(FittedConv(2 * width, self.kernel_size, _SMALL, name="conv_out")(y))


class GatedAttention(nn.Module):
    """x + gate(conv1x1(dropout(attention(x + position)))), attention over all height * width positions.

    Keeps the shape of x, (batch, height, width, channels). Memory grows with (height * width)^2.

    Attributes:
      heads: number of heads; divides the channels. dropout: rate.
    """

    heads: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Image, position: Float[Array, "height width channels"], deterministic: bool
    ) -> Image:
        batch, height, width, channels = x.shape
        c = FittedConv(3 * channels, 1, name="project_in")(x + position[None])
        c = c.reshape(batch, height * width, 3, self.heads, channels // self.heads)
        query, key, value = jnp.moveaxis(c, 2, 0)
        scores = jnp.einsum("bthd,bshd->bhts", query, key) / math.sqrt(query.shape[-1])
        y = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), value).reshape(x.shape)
        y = nn.Dropout(self.dropout)(y, deterministic=deterministic)
        return x + _gate(FittedConv(2 * channels, 1, _SMALL, name="project_out")(y))


class _Block(nn.Module):
    heads: int
    dropout: float
    deterministic: bool

    @nn.compact
    def __call__(self, x: Image, position: Array, cond: Features | None) -> tuple[Image, None]:
        norm = functools.partial(
            nn.LayerNorm,
            epsilon=1e-5,
            param_dtype=x.dtype,
            use_fast_variance=False,
            force_float32_reductions=False,  # which asks for a promotion of float64
        )
        x = GatedConv(1, self.dropout, name="conv")(x, cond, self.deterministic)
        x = norm(name="norm_conv")(x)
        x = GatedAttention(self.heads, self.dropout, name="attention")(x, position, self.deterministic)
        return norm(name="norm_attention")(x), None


class GatedAttentionNet(nn.Module):
    """conv3x3, blocks of gated convolution and gated attention with layer norms behind, conv3x3.

    (batch, height, width, channels) -> (batch, height, width, out_channels). At initialisation every
    output channel of the batch has mean 0 and deviation 0.1. The blocks are one scan. The learned
    positions, (height, width, width of the net), tie the parameters to the size of the image.

    Attributes:
      out_channels: number of output channels.
      width: number of hidden channels. blocks: how many. heads: of the attention; divides width.
      cond_channels: of cond, (batch, height, width, cond_channels), which every block reads; None: cond
        is ignored.
      dropout: rate, in every gated layer.

    Raises:
      ValueError: for heads that do not divide width, an input that is no image, or a cond that is
        missing or of another shape.
    """

    out_channels: int
    width: int = 96
    blocks: int = 10
    heads: int = 4
    cond_channels: int | None = None
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, h: Float[Array, "batch *dims"], cond: Batch | None = None, deterministic: bool = True
    ) -> Float[Array, "batch *outs"]:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width; got {self.heads} and {self.width}")
        if h.ndim != 4:
            raise ValueError(f"h must be images (batch, height, width, channels); got shape {h.shape}")
        cond = self._features(h, cond)
        size = (*h.shape[1:3], self.width)
        position = self.param("position", nn.initializers.normal(0.01), size, h.dtype)
        x = FittedConv(self.width, 3, name="conv_in")(h)
        blocks = nn.scan(
            _Block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),  # type: ignore[reportArgumentType]
            length=self.blocks,
        )
        x, _ = blocks(self.heads, self.dropout, deterministic, name="blocks")(x, position, cond)
        return FittedConv(self.out_channels, 3, _SMALL, name="conv_out")(x)

    def _features(self, h, cond):
        if self.cond_channels is None:
            return None
        wanted = (*h.shape[:-1], self.cond_channels)
        shape = getattr(cond, "shape", None)
        if shape != wanted:
            raise ValueError(f"this net needs cond of shape {wanted}; got {shape}")
        return jnp.asarray(cond, h.dtype)


class GatedConvNet(nn.Module):
    """Features of an image at the positions of a checkerboard's halves: conv3x3 and gated convolutions.

    (batch, height, width, channels) -> (batch, height, width / 2, features): the two halves, as
    bijectors.mask divides them, are laid side by side as channels. cond is not used.

    Attributes:
      features: number of channels, hidden and out. depth: number of gated convolutions. dropout: rate.
    """

    features: int = 32
    depth: int = 3
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, h: Image, cond: Batch | None = None, deterministic: bool = True
    ) -> Float[Array, "batch height half features"]:
        del cond
        x = jnp.concatenate(split(h, "checkerboard"), axis=-1)
        x = FittedConv(self.features, 3, name="conv_in")(x)
        for _ in range(self.depth):
            x = GatedConv(3, self.dropout)(x, None, deterministic)
        return x
