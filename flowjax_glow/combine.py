"""Bijectors made of bijectors: chain, invert, conjugate, factor_out. One many times: depth.py."""

from typing import Any

import jax
import jax.numpy as jnp

from flowjax_glow.base import (
    Batch,
    Bijector,
    PRNGKey,
    inverse_and_vjp,
    name_of,
    split_channels,
    split_trainable,
)

# What factor_out calls its part: as often as it stands in a path, so many levels are above.
DEEPER = "deeper"


def fold(key: PRNGKey | None, index: Any) -> PRNGKey | None:
    """The key of a part; None of None."""
    return None if key is None else jax.random.fold_in(key, index)


def zero_logdet(x: Batch) -> jax.Array:
    """(batch,) zeros in the dtype of x, to which logdets are added."""
    leaf = jax.tree.leaves(x)[0]
    return jnp.zeros((leaf.shape[0],), leaf.dtype)


def chain(*bijectors: Bijector) -> Bijector:
    """Applies bijectors one after the other, data side first; logdets add up.

    params: a tuple, one entry a bijector. init pushes the batch through the bijectors it has
    initialised, so that each one sees the activations it will see. The key is folded with the
    bijector's position.
    """

    def init(key, x, cond=None):
        params = []
        keys = jax.random.split(key, max(len(bijectors), 1))
        for i, b in enumerate(bijectors):
            if i > 0:  # what comes out of the last one nobody sees
                x, _ = bijectors[i - 1].forward(params[-1], x, cond)
            params.append(b.init(keys[i], x, cond))
        return tuple(params)

    def forward(params, x, cond=None, key=None):
        logdet = zero_logdet(x)
        for i, b in enumerate(bijectors):
            x, ld = b.forward(params[i], x, cond, fold(key, i))
            logdet = logdet + ld
        return x, logdet

    def inverse(params, z, cond=None, key=None):
        logdet = zero_logdet(z)
        for i, b in reversed(tuple(enumerate(bijectors))):
            z, ld = b.inverse(params[i], z, cond, fold(key, i))
            logdet = logdet + ld
        return z, logdet

    def prepare(params):
        return tuple(b.prepare(p) for b, p in zip(bijectors, params, strict=True))

    def back(params, z, cond, key, z_bar, logdet_bar):
        params_bar = []
        cond_bar = jax.tree.map(jnp.zeros_like, split_trainable(cond)[0])
        for i, b in reversed(tuple(enumerate(bijectors))):
            z, z_bar, p_bar, c_bar = inverse_and_vjp(
                b, params[i], z, cond, fold(key, i), z_bar, logdet_bar
            )
            params_bar.insert(0, p_bar)
            cond_bar = jax.tree.map(jnp.add, cond_bar, c_bar)
        return z, z_bar, tuple(params_bar), cond_bar

    def rebuild(replace):
        kinds = [name_of(b) for b in bijectors]
        place = "part {} of {}".format  # said only where the kind does not tell which it is
        names = [
            place(i + 1, len(kinds)) if kinds.count(kind) > 1 else "" for i, kind in enumerate(kinds)
        ]
        return chain(*map(replace, names, bijectors))

    stochastic = any(b.stochastic for b in bijectors)
    return Bijector(init, forward, inverse, prepare, back, stochastic, rebuild)


def invert(bijector: Bijector) -> Bijector:
    """Swaps forward and inverse.

    init hands its batch to the inner init as it is: the two sides must have the same shape, and
    statistics the inner bijector takes from it are those of its own data side.
    """
    return Bijector(
        bijector.init,
        bijector.inverse,
        bijector.forward,
        bijector.prepare,
        stochastic=bijector.stochastic,
        rebuild=lambda replace: invert(replace("inverse", bijector)),
    )


def conjugate(outer: Bijector, inner: Bijector) -> Bijector:
    """Applies outer, then inner, then the inverse of outer, with the same params as before.

    So inner acts in the coordinates of outer, and what comes out is in those of x again; where outer
    has dropout, by another mask than the first time.
    params: {"outer": those of outer, "inner": those of inner}.
    """
    whole = chain(outer, inner, invert(outer))

    def tied(params):
        return params["outer"], params["inner"], params["outer"]

    def init(key, x, cond=None):
        keys = jax.random.split(key)
        params = outer.init(keys[0], x, cond)
        return {"outer": params, "inner": inner.init(keys[1], outer.forward(params, x, cond)[0], cond)}

    def forward(params, x, cond=None, key=None):
        return whole.forward(tied(params), x, cond, key)

    def inverse(params, z, cond=None, key=None):
        return whole.inverse(tied(params), z, cond, key)

    def prepare(params):
        return {"outer": outer.prepare(params["outer"]), "inner": inner.prepare(params["inner"])}

    def back(params, *args):
        x, x_bar, tied_bar, cond_bar = inverse_and_vjp(whole, tied(params), *args)
        before, inner_bar, after = tied_bar
        params_bar = {"outer": jax.tree.map(jnp.add, before, after), "inner": inner_bar}
        return x, x_bar, params_bar, cond_bar

    def rebuild(replace):
        return conjugate(replace("outer", outer), replace("inner", inner))

    return Bijector(init, forward, inverse, prepare, back, whole.stochastic, rebuild)


def factor_out(rest: Bijector) -> Bijector:
    """Sends half of the channels on through `rest` and lets the other half leave as latents.

    x, (batch, ..., channels), channels even; the first half goes on. z is a flat tuple: the half that
    leaves here first, then the latents of rest; in a multi-scale model, finest level first. Let an
    affine coupling that reads the first half stand before it, and the half that leaves is whitened
    given the one that stays: the learned conditional prior of Glow. Dinh et al. 2017, section 3.6,
    arXiv:1605.08803; Kingma & Dhariwal 2018, section 3, arXiv:1807.03039.
    """

    def init(key, x, cond=None):
        return rest.init(key, split_channels(x)[0], cond)

    def forward(params, x, cond=None, key=None):
        stays, leaves = split_channels(x)
        z, logdet = rest.forward(params, stays, cond, key)
        return (leaves, *(z if isinstance(z, tuple) else (z,))), logdet

    def inverse(params, z, cond=None, key=None):
        leaves, *deeper = z
        stays, logdet = rest.inverse(params, tuple(deeper) if len(deeper) > 1 else deeper[0], cond, key)
        return jnp.concatenate([stays, leaves], axis=-1), logdet

    return Bijector(
        init,
        forward,
        inverse,
        rest.prepare,
        stochastic=rest.stochastic,
        rebuild=lambda replace: factor_out(replace(DEEPER, rest)),
    )
