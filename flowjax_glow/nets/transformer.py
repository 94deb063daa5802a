"""A pre-norm transformer on the positions of its input: the conditioner of TarFlow and of Jet.

x = x + attention(norm(x)), x = x + mlp(norm(x)).  Zhai et al. 2024 (TarFlow), arXiv:2412.06329;
Kolesnikov et al. 2024 (Jet), arXiv:2412.15129. The parameters are those of the released codes; the
initialisation, gelu's tanh form and the norms' 1e-6 are Jet's for both.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from flowjax_glow.base import Batch, per_channel

Tokens = Float[Array, "batch tokens channels"]
Heads = Float[Array, "batch tokens heads head_dim"]


class Transformer(nn.Module):
    """Linear in, learned position embedding, attention and MLP layers, zero-initialised linear out.

    (batch, *positions, channels) -> (batch, *positions, out_channels), the positions in raster order
    being the tokens. At initialisation the output is 0. Where it is causal it is a net for
    bijectors.causal_affine: `step` gives the outputs one position after the other.

    Attributes:
      out_channels: number of output channels.
      width: channels of a token inside, divisible by heads; the MLPs are four times as wide.
      heads: of the attention. layers: number of attention and MLP pairs.
      causal: whether the output at a position depends on the positions up to it alone.
      final_norm: whether a layer norm stands before the last layer.
      num_classes: adds an embedding of the label to every token; cond holds the labels, (batch,)
        integers below num_classes. A label below 0 stands for none: the mean of all embeddings.
      dtype: of the computation inside, such as jnp.bfloat16; None for that of the input.

    Raises:
      ValueError: for a width that heads does not divide, layers below 1, or classes without labels.
    """

    out_channels: int
    width: int = 512
    heads: int = 8
    layers: int = 2
    causal: bool = False
    final_norm: bool = False
    num_classes: int | None = None
    dtype: DTypeLike | None = None

    def __call__(
        self,
        h: Float[Array, "batch *positions channels"],
        cond: Batch | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "batch *positions outs"]:
        del deterministic
        out, _ = self._extend(h.reshape(h.shape[0], -1, h.shape[-1]), cond)
        return out.reshape(*h.shape[:-1], self.out_channels)

    @nn.nowrap
    def empty_cache(self, batch: int, tokens: int, dtype: DTypeLike) -> Any:
        """What `step` is given at the first position: room for the keys and values of all layers."""
        shape = (batch, tokens, self.heads, self.width // self.heads)
        return [(jnp.zeros(shape, self.dtype or dtype),) * 2 for _ in range(self.layers)]

    def step(
        self,
        token: Float[Array, "batch channels"],
        cache: Any,
        index: Int[Array, ""],
        cond: Batch | None = None,
    ) -> tuple[Float[Array, "batch outs"], Any]:
        """The output at position `index`, and the cache for the next position."""
        out, cache = self._extend(token[:, None], cond, cache, index)
        return out[:, 0], cache

    @nn.compact
    def _extend(self, x: Tokens, cond: Batch | None, cache: Any = None, index: Any = 0):
        """The outputs at x's positions, which begin at index, and all layers' keys and values."""
        if self.width % self.heads:
            raise ValueError(f"width must be divisible by heads = {self.heads}; got {self.width}")
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1; got {self.layers}")
        new, total = x.shape[1], (x if cache is None else cache[0][0]).shape[1]
        dtype, param_dtype = self.dtype or x.dtype, x.dtype
        dense = partial(nn.Dense, dtype=dtype, param_dtype=param_dtype)

        init = nn.initializers.normal(self.width**-0.5)
        position = self.param("position", init, (total, self.width), param_dtype)
        position = jax.lax.dynamic_slice_in_dim(position, index, new)
        x = dense(self.width, name="in")(x) + position[None].astype(dtype)
        if self.num_classes is not None:
            init = nn.initializers.normal(0.01)
            classes = self.param("classes", init, (self.num_classes, self.width), param_dtype)
            x = x + _embed(classes, cond)[:, None].astype(dtype)

        mask = None
        if self.causal:
            at = index + jnp.arange(new, dtype=jnp.int32)
            mask = jnp.arange(total, dtype=jnp.int32)[None] <= at[:, None]
        past = [None] * self.layers if cache is None else cache
        kept = []
        for p in past:
            x, keys_and_values = _Layer(self.heads, dtype, param_dtype)(x, mask, p, index)
            kept.append(keys_and_values)

        if self.final_norm:
            x = _Norm(param_dtype, name="norm")(x)
        return dense(self.out_channels, kernel_init=nn.initializers.zeros, name="out")(x), kept


class _Layer(nn.Module):
    """Attention and MLP, each with a layer norm before it and a skip connection around it.

    Returns the tokens, and the keys and values they attended to: their own, or with a cache those in
    it, where their own take the places from index on.
    """

    heads: int
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x, mask, cache, index):
        width = x.shape[-1]
        dense = partial(nn.Dense, dtype=self.dtype, param_dtype=self.param_dtype)
        glorot = nn.initializers.glorot_uniform()
        glorot_of_each = nn.initializers.lecun_uniform()  # of query, key and value

        y = _Norm(self.param_dtype, name="norm_attention")(x)
        y = dense(3 * width, kernel_init=glorot_of_each, name="qkv")(y)
        query, *kept = jnp.moveaxis(y.reshape(*y.shape[:-1], 3, self.heads, -1), 2, 0)
        if cache is not None:
            kept = [
                jax.lax.dynamic_update_slice_in_dim(old, new, index, axis=1)
                for old, new in zip(cache, kept, strict=True)
            ]
        key, value = kept
        y = _attend(query, key, value, mask).reshape(x.shape)
        x = x + dense(width, kernel_init=glorot, name="proj")(y)

        y = _Norm(self.param_dtype, name="norm_mlp")(x)
        y = jax.nn.gelu(dense(4 * width, kernel_init=glorot, name="up")(y))
        return x + dense(width, kernel_init=glorot, name="down")(y), (key, value)


class _Norm(nn.Module):
    """Layer norm over the channels, in float32 at least; flax's own does not take float64 strictly."""

    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        y = _wide(x)
        y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(y**2, axis=-1, keepdims=True) + 1e-6)
        scale, bias = (per_channel(p, x).astype(x.dtype) for p in (scale, bias))
        return y.astype(x.dtype) * scale + bias


def _wide(x):
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def _attend(
    query: Heads,
    key: Float[Array, "batch all heads head_dim"],
    value: Float[Array, "batch all heads head_dim"],
    mask: Bool[Array, "tokens all"] | None,
) -> Heads:
    # Not jax.nn.dot_product_attention, whose softmax is in float32 also where the input is in float64.
    logits = jnp.einsum("bnhd,bmhd->bhnm", query * query.shape[-1] ** -0.5, key)
    if mask is not None:
        logits = jnp.where(mask[None, None], logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(_wide(logits), axis=-1).astype(value.dtype)
    return jnp.einsum("bhnm,bmhd->bnhd", weights, value)


def _embed(classes, labels):
    if labels is None:
        raise ValueError(f"a net of {len(classes)} classes needs labels as cond; got None")
    mean = jnp.mean(classes, axis=0, keepdims=True)
    return jnp.where(labels[:, None] < 0, mean, jnp.take(classes, labels, axis=0))
