"""The table of bijectors that every mathematical test runs over: a row for each, and for each model."""

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
from flowjax_glow.testing import flat, perturb

__all__ = ["BATCH", "CASES", "Case", "conv_net", "flat", "make", "mlp", "perturb"]

BATCH = 3
Draw = Callable[[np.random.Generator], np.ndarray]


class Case(NamedTuple):
    """A bijector, and what it is tested on.

    event_shape: of x, which is normal unless `draw` makes it from a generator. cond: makes the cond.
    tolerance: of the inverse in float64, where it iterates to one. float32: how far float32 may be off.
    """

    bijector: fg.Bijector
    event_shape: tuple[int, ...]
    cond: Draw | None = None
    draw: Draw | None = None
    tolerance: float = 1e-9
    float32: float = 5e-5


def labels(num_classes: int) -> Draw:
    return lambda rng: rng.integers(num_classes, size=BATCH)


def unit(*event_shape: int) -> Draw:
    """Values inside (0, 1), away from its ends."""
    return lambda rng: rng.uniform(0.02, 0.98, size=(BATCH, *event_shape))


def normal(*shape: int) -> Draw:
    return lambda rng: rng.normal(size=(BATCH, *shape))


def _glow(event_shape=(8, 8, 3), **kwargs) -> Case:
    kwargs = {"levels": 2, "depth": 2, "width": 6, **kwargs}
    classes = kwargs.get("num_classes")
    return Case(fg.glow(event_shape, **kwargs).bijector, event_shape, classes and labels(classes))


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
    "additive_coupling, checkerboard, vector": Case(
        fg.additive_coupling(mlp, mask="checkerboard"), vector
    ),
    "affine_coupling, sigmoid": Case(fg.affine_coupling(conv_net), image),
    "affine_coupling, exp": Case(fg.affine_coupling(conv_net, scale="exp"), image),
    "affine_coupling, bounded": Case(fg.affine_coupling(mlp, scale="bounded"), vector),
    "affine_coupling, no edge": Case(fg.affine_coupling(partial(conv_net, edge_bias=False)), image),
    "affine_coupling, vector": Case(fg.affine_coupling(mlp), vector),
    "affine_coupling, checkerboard": Case(
        fg.affine_coupling(conv_net, mask="checkerboard", flip=True), image
    ),
    "affine_coupling, channel, flip": Case(fg.affine_coupling(conv_net, flip=True), image),
    "affine_coupling, cond": Case(
        fg.affine_coupling(partial(mlp, cond_channels=2)), vector, cond=normal(2)
    ),
    "affine_coupling, cond on images": Case(
        fg.affine_coupling(partial(conv_net, cond_channels=3)), image, cond=normal(8, 4, 3)
    ),
    "additive_coupling, cond on images": Case(
        fg.additive_coupling(partial(conv_net, cond_channels=2)), image, cond=normal(2)
    ),
    "spline_coupling": Case(fg.spline_coupling(conv_net, bins=4, bound=1.5), image),
    "spline_coupling, vector": Case(fg.spline_coupling(mlp), vector),
    "learned_prior": Case(fg.learned_prior(PriorNet), image),
    "learned_prior, classes": Case(
        fg.learned_prior(partial(PriorNet, num_classes=3)), image, cond=labels(3)
    ),
    "logit": Case(fg.logit(), image, draw=unit(*image)),
    "logit, no margin": Case(fg.logit(margin=0.0, low=-1.0, high=3.0), vector, draw=unit(*vector)),
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
    # models
    "glow": _glow(),
    "glow, plu, additive": _glow(permutation="plu", coupling="additive"),
    "glow, shuffle, three levels": _glow((16, 8, 3), permutation="shuffle", levels=3),
    "glow, reverse, grey, classes": _glow((8, 4, 1), permutation="reverse", num_classes=5),
    "glow, cond on images": Case(
        fg.glow((8, 4, 1), levels=2, depth=1, width=6, cond_channels=1).bijector,
        (8, 4, 1),
        cond=normal(8, 4, 1),
    ),
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
    x, cond = batch(case, dtype)
    params = perturb(jax.jit(case.bijector.init)(jax.random.key(0), x, cond))
    return Made(params, x, cond, jax.jit(case.bijector.forward), jax.jit(case.bijector.inverse))


def batch(case: Case, dtype: str) -> tuple[jax.Array, jax.Array | None]:
    """(x, cond) of a case, always the same."""
    rng = np.random.default_rng(0)
    x = jnp.asarray((case.draw or normal(*case.event_shape))(rng), dtype)
    if case.cond is None:
        return x, None
    cond = np.asarray(case.cond(rng))
    return x, jnp.asarray(cond, dtype if cond.dtype.kind == "f" else None)
