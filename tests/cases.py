"""The table of bijectors that every mathematical test runs over: a row for each, and for each model."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import flowjax_glow as fg
from flowjax_glow.nets.convnet import ConvNet, PriorNet
from flowjax_glow.nets.gated_attention import GatedAttentionNet
from flowjax_glow.nets.lipschitz import LipschitzNet
from flowjax_glow.nets.masked import MADE
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.nets.residual_mlp import ResidualMLP
from flowjax_glow.nets.resnet import RealNVPNet, ResNet
from flowjax_glow.nets.table import Table
from flowjax_glow.nets.timed_mlp import TimedMLP
from flowjax_glow.nets.transformer import Transformer
from flowjax_glow.testing import flat, perturb

__all__ = ["BATCH", "CASES", "Case", "batch", "conv_net", "flat", "function", "mlp", "perturb"]

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


def pixels(*event_shape: int) -> Draw:
    """Values inside (-0.5, 0.5), as dequantize returns them."""
    return lambda rng: rng.uniform(-0.49, 0.49, size=(BATCH, *event_shape))


def normal(*shape: int) -> Draw:
    return lambda rng: rng.normal(size=(BATCH, *shape))


def _glow(event_shape=(8, 8, 3), **kwargs) -> Case:
    kwargs = {"levels": 2, "depth": 2, "width": 6, **kwargs}
    classes = kwargs.get("num_classes")
    return Case(fg.glow(event_shape, **kwargs).bijector, event_shape, classes and labels(classes))


conv_net = partial(ConvNet, width=6)
mlp = partial(MLP, width=8)
made = partial(MADE, width=8)
transformer = partial(Transformer, width=8, heads=2, layers=1)
attention_net = partial(GatedAttentionNet, width=4, blocks=1, heads=2)
lipschitz_mlp = partial(LipschitzNet, width=8, kernels=(1, 1))
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
    "sigmoid": Case(fg.invert(fg.logit(margin=0.0)), vector),
    "softplus": Case(fg.softplus(), image),
    "softplus, invert": Case(fg.invert(fg.softplus()), vector, draw=unit(*vector)),
    "leaky_relu": Case(fg.leaky_relu(slope=0.3), image),
    "leaky_tanh": Case(fg.leaky_tanh(bound=0.8), image),
    "scale": Case(fg.scale(), image),
    "scale, vector": Case(fg.scale(), vector),
    "reshape": Case(fg.reshape(image, (4, 8)), image),
    "permute": Case(fg.permute([2, 0, 3, 1]), image),
    "haar": Case(fg.haar(), image),
    "invertible_conv, householder": Case(fg.invertible_conv(parametrization="householder"), (2, 2, 3)),
    "learned_prior, table": Case(fg.learned_prior(Table), image),
    "learned_prior, table, classes": Case(
        fg.learned_prior(partial(Table, num_classes=3)), vector, cond=labels(3)
    ),
    "spline_coupling, residual, cond": Case(
        fg.spline_coupling(partial(ResidualMLP, width=8, depth=1, cond_channels=2), bins=4),
        vector,
        cond=normal(2),
    ),
    "squeeze": Case(fg.squeeze(), image),
    "squeeze, diagonal": Case(fg.squeeze(order="diagonal"), image),
    "batch_norm": Case(fg.batch_norm(), image),
    "batch_norm, vector, half": Case(fg.batch_norm(mask="channel"), vector),
    "batch_norm, checkerboard": Case(fg.batch_norm(mask="checkerboard", flip=True), image),
    "affine_coupling, resnet, cond": Case(
        fg.affine_coupling(partial(ResNet, width=4, blocks=1, cond_channels=2)), image, cond=normal(2)
    ),
    "affine_coupling, real_nvp": Case(
        fg.affine_coupling(
            partial(RealNVPNet, mask="checkerboard", flip=True, width=4, blocks=1),
            scale="exp",
            mask="checkerboard",
            flip=True,
        ),
        image,
    ),
    "reverse": Case(fg.reverse(), image),
    "shuffle": Case(fg.shuffle(), image),
    "planar": Case(fg.planar(), vector),
    "radial": Case(fg.radial(), vector),
    "sylvester": Case(fg.sylvester(2), vector),
    "continuous, estimate, cond": Case(
        fg.continuous(
            partial(TimedMLP, width=4, depth=1, cond_channels=2), trace="estimate", rtol=1e-7, atol=1e-8
        ),
        (3,),
        cond=normal(2),
        tolerance=1e-5,
    ),
    "chain": Case(step, image),
    "chain of nothing": Case(fg.chain(), image),
    "invert": Case(fg.invert(step), image),
    "conjugate": Case(fg.conjugate(fg.invertible_conv(), fg.affine_coupling(conv_net)), image),
    "repeat": Case(fg.repeat(step, 3), image),
    "repeat, recompute": Case(fg.repeat(step, 3, memory="recompute"), image),
    "repeat, constant": Case(fg.repeat(step, 3, memory="constant"), image),
    "repeat of repeat": Case(fg.repeat(fg.repeat(fg.chain(fg.shuffle(), step), 2), 2), image),
    "factor_out": Case(fg.factor_out(fg.factor_out(fg.actnorm())), image),
    "mixture_coupling": Case(
        fg.mixture_coupling(attention_net, components=3, mask="checkerboard"), image
    ),
    "mixture_coupling, vector, cond": Case(
        fg.mixture_coupling(partial(mlp, cond_channels=2), components=4, flip=True),
        vector,
        cond=normal(2),
    ),
    "entrywise_actnorm": Case(fg.entrywise_actnorm(), image),
    "halves": Case(fg.halves(fg.invertible_conv(), mask="checkerboard"), image),
    "halves, vector": Case(fg.halves(fg.entrywise_actnorm()), vector),
    "swap_halves": Case(fg.swap_halves(mask="checkerboard"), image),
    "condition": Case(
        fg.condition(MLP(3, width=4), fg.affine_coupling(partial(mlp, cond_channels=3))),
        vector,
        cond=normal(2),
    ),
    "affine_autoregressive": Case(fg.affine_autoregressive(made), vector),
    "affine_autoregressive, exp, residual": Case(
        fg.affine_autoregressive(partial(made, residual=True, depth=1), scale="exp"), (3,)
    ),
    "affine_autoregressive, one entry, cond": Case(
        fg.affine_autoregressive(partial(made, cond_channels=2)), (1,), cond=normal(2)
    ),
    "affine_autoregressive, invert": Case(fg.invert(fg.affine_autoregressive(made)), vector),
    "spline_autoregressive": Case(fg.spline_autoregressive(made, bins=4), vector),
    "patchify": Case(fg.patchify(2), image),
    "mirror": Case(fg.mirror(1, -1), image),
    "checkerboard_to_channels": Case(fg.checkerboard_to_channels(), image),
    "affine_coupling, double_sigmoid": Case(fg.affine_coupling(mlp, scale="double_sigmoid"), vector),
    "affine_coupling, transformer": Case(
        fg.affine_coupling(partial(transformer, num_classes=3, final_norm=True)), image, cond=labels(3)
    ),
    "causal_affine": Case(fg.causal_affine(partial(transformer, causal=True), bound=0.5), image),
    "residual": Case(fg.residual(lipschitz_mlp, tolerance=1e-12), vector),
    "residual, estimate, cond": Case(
        fg.residual(partial(lipschitz_mlp, cond_channels=2), logdet="estimate", tolerance=1e-12),
        (4,),
        cond=normal(2),
    ),
    "residual, image": Case(
        fg.residual(partial(LipschitzNet, width=4, kernels=(3, 1)), tolerance=1e-12), (2, 3, 2)
    ),
    # models
    "glow": _glow((8, 4, 3)),
    "glow, householder, spline, cond on images": Case(
        fg.glow(
            (4, 4, 1),
            levels=1,
            depth=1,
            width=6,
            permutation="householder",
            coupling="spline",
            cond_channels=1,
        ).bijector,
        (4, 4, 1),
        cond=normal(4, 4, 1),
    ),
    "glow, plu, additive, bare": _glow(
        (4, 4, 2),
        levels=1,
        permutation="plu",
        coupling="additive",
        learn_top=False,
        edge_bias=False,
    ),
    "glow, shuffle, three levels": _glow((8, 8, 1), permutation="shuffle", levels=3, depth=1),
    "glow, reverse, grey, classes": _glow((4, 4, 1), levels=1, permutation="reverse", num_classes=5),
    "real_nvp, cond": Case(
        fg.real_nvp((4, 4, 2), scales=1, width=4, blocks=1, cond_channels=2).bijector,
        (4, 4, 2),
        cond=normal(2),
        draw=pixels(4, 4, 2),
    ),
    "nice": Case(
        fg.nice((2, 3, 2), depths=(1, 2, 1), width=8, channels_first=True).bijector, (2, 3, 2)
    ),
    "nice, vector, cond": Case(
        fg.nice(vector, depths=(1, 1), width=8, mask="channel", cond_channels=2).bijector,
        vector,
        cond=normal(2),
    ),
    "neural_spline_flow, cond": Case(
        fg.neural_spline_flow((4,), depth=2, width=8, blocks=1, bins=3, cond_channels=2).bijector,
        (4,),
        cond=normal(2),
    ),
    "flow_plus_plus": Case(
        fg.flow_plus_plus(
            (2, 4, 1), depths=(0, 1, 0), blocks=1, width=4, heads=2, components=2
        ).bijector,
        (2, 4, 1),
        draw=pixels(2, 4, 1),
    ),
    "dequantization_flow": Case(
        fg.dequantization_flow(depth=1, blocks=1, width=4, heads=2, components=2, features=2),
        (2, 2, 1),
        cond=pixels(2, 2, 1),
    ),
    "maf": Case(fg.maf(vector, depth=2, width=8).bijector, vector),
    "maf, residual splines, cond": Case(
        fg.maf(
            vector,
            depth=2,
            width=8,
            hidden_layers=1,
            residual=True,
            transform="spline",
            bins=4,
            normalize=None,
            cond_channels=2,
        ).bijector,
        vector,
        cond=normal(2),
    ),
    "maf on images, constant": Case(
        fg.maf((2, 2, 1), depth=2, width=8, memory="constant").bijector, (2, 2, 1)
    ),
    "iaf, cond": Case(fg.iaf((4,), depth=2, width=8, cond_channels=2).bijector, (4,), cond=normal(2)),
    "tarflow, classes": Case(
        fg.tarflow((4, 4, 1), width=8, heads=2, blocks=2, layers=1, num_classes=3).bijector,
        (4, 4, 1),
        cond=labels(3),
    ),
    "jet": Case(
        fg.jet((4, 4, 1), patch=2, width=8, heads=2, couplings=5, layers=1).bijector, (4, 4, 1)
    ),
    "planar_flow": Case(fg.planar_flow((3,), depth=2).bijector, (3,)),
    "ffjord": Case(
        fg.ffjord((2,), width=4, hidden_layers=1, trace="exact", rtol=1e-7, atol=1e-8).bijector,
        (2,),
        tolerance=1e-5,
    ),
    "residual_flow": Case(
        fg.residual_flow(
            (2, 3, 1),
            levels=1,
            depth=1,
            width=4,
            end_depth=1,
            end_width=4,
            logdet="exact",
            tolerance=1e-12,
        ).bijector,
        (2, 3, 1),
        draw=pixels(2, 3, 1),
    ),
    "residual_flow, vector": Case(
        fg.residual_flow((3,), depth=2, width=6, logdet="exact", tolerance=1e-12).bijector, (3,)
    ),
}


def function(name: str) -> str:
    """The function that makes a case, the first word of its name."""
    return name.replace(",", " ").split()[0]


def batch(case: Case, dtype: str) -> tuple[jax.Array, jax.Array | None]:
    """(x, cond) of a case, always the same."""
    rng = np.random.default_rng(0)
    x = jnp.asarray((case.draw or normal(*case.event_shape))(rng), dtype)
    if case.cond is None:
        return x, None
    cond = np.asarray(case.cond(rng))
    return x, jnp.asarray(cond, dtype if cond.dtype.kind == "f" else None)
