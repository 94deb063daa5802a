"""Causal affine: each token is shifted and scaled by what a net makes of the tokens before it.

z_t = (x_t + shift(x_<t)) * exp(log_scale(x_<t)), z_0 = x_0, logdet = sum(log_scale).  Zhai et al. 2024
(TarFlow), arXiv:2412.06329, where shift = -mu and log_scale = -alpha. A masked autoregressive flow
over vectors: forward is one pass of the net, inverse one step a token.

The net is a conditioner (bijectors.conditioner) on tokens, (batch, tokens, channels), whose output at t
depends on the tokens up to t alone, and which can give its outputs one after the other:

    net.empty_cache(batch, tokens, dtype) -> cache            a pytree of arrays; needs no params
    net.step(token, cache, index, cond) -> (out, cache)       (batch, channels) -> (batch, out_channels)

step's out is the net's output at position index, an int32 scalar, where the cache comes from the steps
at all positions before. The net is called as deterministic in both directions: it has no dropout.
"""

import jax
import jax.numpy as jnp

from flowjax_glow.base import Bijector, sum_event
from flowjax_glow.bijectors.affine import affine
from flowjax_glow.bijectors.conditioner import MakeNet, apply_net, init_net


def causal_affine(make_net: MakeNet, *, bound: float = 10.0) -> Bijector:
    """Bijector on (batch, ..., channels), whose positions in raster order are the tokens.

    params: those of the network, make_net(2 * channels), whose output at t is the shift and then h for
    token t + 1; log_scale = bound tanh(h / bound). The first token stays as it is. logdet: the sum of
    log_scale over the event, nats. inverse takes as many steps as there are tokens, each of which costs
    one token's share of the net; it undoes forward as far as the net gives the same output in both:
    errors grow from token to token. So float32 is multiplied at the highest precision; in bfloat16 it
    is not far.

    Args:
      make_net: of a causal net, as in this module's docstring.
      bound: the largest |log_scale|. The released code has none, and overflows where alpha is below
        -88; up to |alpha| = 2 a bound of 10 changes it by 1.3% at most.

    Raises:
      ValueError: for a bound that is not positive, and for vectors.
    """
    if bound <= 0:
        raise ValueError(f"bound must be positive; got {bound}")
    forward_token, inverse_token = affine("exp")

    def shift_and_log_scale(out):
        shift, h = jnp.split(out, 2, axis=-1)
        return shift, bound * jnp.tanh(h / bound)

    def init(key, x, cond=None):
        return init_net(make_net(2 * x.shape[-1]), key, _tokens(x), cond)

    def forward(params, x, cond=None, key=None):
        del key
        tokens = _tokens(x)
        with jax.default_matmul_precision("highest"):
            out = apply_net(make_net(2 * x.shape[-1]), params, tokens, cond, None)
        out = jnp.pad(out, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        z, log_slope = forward_token(*shift_and_log_scale(out), tokens)
        return z.reshape(x.shape), sum_event(log_slope)

    def inverse(params, z, cond=None, key=None):
        del key
        tokens = _tokens(z)
        batch, length, channels = tokens.shape
        net = make_net(2 * channels)

        def step(carry, at):
            (out, cache), (index, token) = carry, at
            x, log_slope = inverse_token(*shift_and_log_scale(out), token)
            with jax.default_matmul_precision("highest"):
                out, cache = net.apply({"params": params}, x, cache, index, cond, method="step")
            return (jnp.asarray(out, z.dtype), cache), (x, log_slope)

        first = jnp.zeros((batch, 2 * channels), z.dtype), net.empty_cache(batch, length, z.dtype)
        each = jnp.arange(length, dtype=jnp.int32), jnp.moveaxis(tokens, 1, 0)
        _, (x, log_slope) = jax.lax.scan(step, first, each)
        return jnp.moveaxis(x, 0, 1).reshape(z.shape), jnp.sum(log_slope, axis=(0, 2))

    return Bijector(init, forward, inverse)


def _tokens(x):
    if x.ndim < 3:
        raise ValueError(
            f"causal_affine needs (batch, ..., channels) of rank 3 at least; got {x.shape}"
        )
    return x.reshape(x.shape[0], -1, x.shape[-1])
