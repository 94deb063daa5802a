"""The table of bijectors that every mathematical test runs over."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import flowjax_glow as fg
from flowjax_glow.nets.convnet import ConvNet, PriorNet
from flowjax_glow.nets.mlp import MLP

BATCH = 3


class Case(NamedTuple):
    bijector: fg.Bijector
    event_shape: tuple[int, ...]
    num_classes: int | None = None


def _glow(event_shape=(8, 8, 3), **kwargs) -> Case:
    kwargs = {"levels": 2, "depth": 2, "width": 6, **kwargs}
    return Case(fg.glow(event_shape, **kwargs).bijector, event_shape, kwargs.get("num_classes"))


conv_net = partial(ConvNet, width=6)
mlp = partial(MLP, width=8)
step = fg.chain(fg.actnorm(), fg.invertible_conv(), fg.affine_coupling(conv_net))
image, vector = (4, 2, 4), (6,)

CASES: dict[str, Case] = {
    "actnorm": Case(fg.actnorm(), image),
    "actnorm, vector": Case(fg.actnorm(), vector),
    "invertible_conv, dense": Case(fg.invertible_conv(), image),
    "invertible_conv, plu": Case(fg.invertible_conv(parametrization="plu"), image),
    "invertible_conv, plu, vector": Case(fg.invertible_conv(parametrization="plu"), vector),
    "additive_coupling": Case(fg.additive_coupling(conv_net), image),
    "additive_coupling, vector": Case(fg.additive_coupling(mlp), vector),
    "affine_coupling, sigmoid": Case(fg.affine_coupling(conv_net), image),
    "affine_coupling, exp": Case(fg.affine_coupling(conv_net, scale="exp"), image),
    "affine_coupling, bounded": Case(fg.affine_coupling(mlp, scale="bounded"), vector),
    "affine_coupling, no edge": Case(fg.affine_coupling(partial(conv_net, edge_bias=False)), image),
    "affine_coupling, vector": Case(fg.affine_coupling(mlp), vector),
    "spline_coupling": Case(fg.spline_coupling(conv_net, bins=4, bound=1.5), image),
    "spline_coupling, vector": Case(fg.spline_coupling(mlp), vector),
    "learned_prior": Case(fg.learned_prior(PriorNet), image),
    "learned_prior, classes": Case(
        fg.learned_prior(partial(PriorNet, num_classes=3)), image, num_classes=3
    ),
    "squeeze": Case(fg.squeeze(), image),
    "reverse": Case(fg.reverse(), image),
    "shuffle": Case(fg.shuffle(), image),
    "chain": Case(step, image),
    "chain of nothing": Case(fg.chain(), image),
    "invert": Case(fg.invert(step), image),
    "repeat": Case(fg.repeat(step, 3), image),
    "repeat, recompute": Case(fg.repeat(step, 3, memory="recompute"), image),
    "repeat, constant": Case(fg.repeat(step, 3, memory="constant"), image),
    "repeat of repeat": Case(fg.repeat(fg.repeat(fg.chain(fg.shuffle(), step), 2), 2), image),
    "factor_out": Case(fg.factor_out(fg.factor_out(fg.actnorm())), image),
    "glow": _glow(),
    "glow, plu, additive": _glow(permutation="plu", coupling="additive"),
    "glow, shuffle, three levels": _glow((16, 8, 3), permutation="shuffle", levels=3),
    "glow, reverse, grey, classes": _glow((8, 4, 1), permutation="reverse", num_classes=5),
    "glow, bare": _glow(learn_top=False, edge_bias=False, levels=1),
}


class Made(NamedTuple):
    """A case with a batch, perturbed params, so that nothing is an identity, and jitted functions."""

    params: Any
    x: jax.Array
    cond: jax.Array | None
    forward: Callable[..., Any]
    inverse: Callable[..., Any]


@functools.cache
def make(name: str, dtype: str) -> Made:
    """Makes a case once for all tests of its worker; call it where dtype is the default one."""
    case = CASES[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(BATCH, *case.event_shape)), dtype)
    cond = None
    if case.num_classes is not None:
        cond = jnp.asarray(rng.integers(case.num_classes, size=BATCH))
    params = perturb(jax.jit(case.bijector.init)(jax.random.key(0), x, cond))
    return Made(params, x, cond, jax.jit(case.bijector.forward), jax.jit(case.bijector.inverse))


def perturb(params: Any, scale: float = 0.04, seed: int = 0) -> Any:
    """Adds noise to every trained leaf."""
    rng = np.random.default_rng(seed)  # compiles nothing

    def noisy(leaf):
        return leaf + jnp.asarray(rng.normal(scale=scale, size=leaf.shape), leaf.dtype)

    trained, constants = fg.split_trainable(params)
    return fg.merge_trainable(jax.tree.map(noisy, trained), constants)


def flat(value: Any) -> jax.Array:
    """An array or a pytree of arrays, one row an example."""
    leaves = jax.tree.leaves(value)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)
