"""Draws the figures of the explanations and the tutorial, by the library itself, into docs/images.

python docs/figures.py [NAME ...]
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

import flowjax_glow as fg
from flowjax_glow import data, latents
from flowjax_glow.flow import latent_shapes
from flowjax_glow.layers import layers
from flowjax_glow.report import plots

IMAGES = Path(__file__).parent / "images"
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"

plt.rcParams |= {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 150,
}


def change_of_variables():
    """A density through softplus, in bands of equal mass."""
    flow = fg.Flow(fg.invert(fg.softplus()), fg.standard_normal(), (1,))
    x = jnp.linspace(1e-3, 3.2, 600)[:, None]
    params = flow.bijector.init(jax.random.key(0), x)
    z = np.ravel(fg.encode(flow, params, x))
    density = np.exp(fg.log_prob(flow, params, x))
    x = np.ravel(x)

    figure = plt.figure(figsize=(6.2, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 3), height_ratios=(3, 1.4))
    curve = figure.add_subplot(grid[0, 1])
    left = figure.add_subplot(grid[0, 0], sharey=curve)
    below = figure.add_subplot(grid[1, 1], sharex=curve)

    line = np.linspace(-3.0, 3.2, 600)
    normal = np.exp(-0.5 * line**2) / np.sqrt(2 * np.pi)
    mass = np.cumsum(normal) / normal.sum()
    ends_z = [-3.0, *np.interp(np.arange(1, 8) / 8, mass, line), 3.2]
    ends_x = [0.0, *np.log1p(np.exp(ends_z[1:-1])), 3.2]
    for i in range(8):
        colour = (BLUE, ORANGE)[i % 2]
        at_z = (line >= ends_z[i]) & (line <= ends_z[i + 1])
        at_x = (x >= ends_x[i]) & (x <= ends_x[i + 1])
        left.fill_betweenx(line[at_z], normal[at_z], color=colour, alpha=0.55, lw=0)
        below.fill_between(x[at_x], density[at_x], color=colour, alpha=0.55, lw=0)
    for end_x, end_z in zip(ends_x[1:-1], ends_z[1:-1], strict=True):
        curve.plot([0, end_x, end_x], [end_z, end_z, -3.0], color="#bbbbbb", lw=0.8)
    curve.plot(x, z, color="black", lw=1.8)
    left.plot(normal, line, color="black", lw=1.2)
    below.plot(x, density, color="black", lw=1.2)
    curve.set(xlim=(0, 3.2), ylim=(-3.0, 3.2), title="z = f(x)")
    left.set(xlabel="p(z)", ylabel="latent z")
    below.set(xlabel="data x", ylabel="p(x)", ylim=(0, None))
    left.invert_xaxis()
    for axes in (curve, left):
        axes.tick_params(labelbottom=False)
    curve.tick_params(labelleft=False)
    return figure


def dequantization():
    """A density over the bins of eight levels: the mass of each, and the mean of its logarithm."""
    n, x = 8, np.linspace(-0.5, 0.5, 8_001)[:-1] + 0.5 / 8_000
    density = 0.65 * np.exp(-0.5 * ((x + 0.14) / 0.09) ** 2) / 0.09
    density += 0.35 * np.exp(-0.5 * ((x - 0.27) / 0.07) ** 2) / 0.07
    density /= np.sqrt(2 * np.pi)
    by_bin = density.reshape(n, -1)
    exact = by_bin.mean(1) / n
    bound = np.exp(np.log(by_bin).mean(1)) / n
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(6.4, 4.4), sharex=True, layout="constrained", height_ratios=(3, 2)
    )
    above.plot(x, density, color="black", lw=1.5)
    for i, part in enumerate(np.split(x, n)):
        above.fill_between(part, by_bin[i], color=(BLUE, ORANGE)[i % 2], alpha=0.45, lw=0)
    above.set(ylabel="p(x)", ylim=(0, None), title="a density, cut into the bins of the levels")
    middles = (np.arange(n) + 0.5) / n - 0.5
    below.bar(middles - 0.018, exact, 0.034, color=BLUE, label="mass of the bin, P(v)")
    below.bar(middles + 0.018, bound, 0.034, color=GREEN, label="exp E[log p(x)] / n")
    below.set(xlabel="x, and below each bin its level", ylabel="probability")
    below.set_xticks(middles, [f"{m:+.2f}\n{i}" for i, m in enumerate(middles)])
    below.legend(frameon=False, fontsize=9)
    return figure


def multi_scale():
    """The levels of a Glow with their shapes, and a step of flow."""
    flow = fg.glow((32, 32, 3), levels=3, depth=1, width=8)
    params = jax.eval_shape(
        flow.bijector.init, jax.random.key(0), jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    )
    shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(latent_shapes(flow, params, 1))]
    figure = plt.figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.add_subplot(xlim=(0, 15.4), ylim=(1.2, 11.2), aspect="equal")
    axes.axis("off")

    def box(x, y, width, height, text, colour):
        axes.add_patch(
            FancyBboxPatch(
                (x, y), width, height, boxstyle="round,pad=0.06", fc=_pale(colour), ec="none", zorder=3
            )
        )
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, zorder=4)

    def arrow(x0, y0, x1, y1):
        axes.annotate(
            "", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "-|>", "lw": 1.1, "color": "#444444"}
        )

    def note(x, y, text, **how):
        axes.text(x, y, text, fontsize=9, va="center", family="monospace", **how)

    def written(shape):
        return " x ".join(map(str, shape))

    side, channels, y = 32, 3, 10.6
    note(1.9, y, f"x  {written((side, side, channels))}", ha="center")
    for level, out in enumerate(shapes):
        side, channels = side // 2, channels * 4
        last = level == len(shapes) - 1
        arrow(1.9, y - 0.3, 1.9, y - 0.75)
        box(0.2, y - 1.5, 3.4, 0.65, "squeeze", PINK)
        arrow(1.9, y - 1.6, 1.9, y - 1.95)
        note(2.1, y - 1.75, written((side, side, channels)), ha="left")
        box(0.2, y - 2.7, 3.4, 0.65, "K steps of flow", BLUE)
        if last:
            arrow(3.7, y - 2.35, 5.0, y - 2.35)
            note(5.2, y - 2.35, f"z{level + 1}  {written(out)}", ha="left")
        else:
            arrow(1.9, y - 2.8, 1.9, y - 3.0)
            y -= 3.35
            axes.text(1.9, y + 0.15, "split", ha="center", va="center", fontsize=9)
            arrow(2.5, y + 0.15, 5.0, y + 0.15)
            note(5.2, y + 0.15, f"z{level + 1}  {written(out)}", ha="left")
            channels //= 2
            note(2.1, y - 0.28, written((side, side, channels)), ha="left")
            y += 0.1

    axes.text(12.2, 10.6, "one step of flow", ha="center", fontsize=10, weight="bold")
    box(10.0, 8.9, 4.4, 0.9, "actnorm", GREEN)
    arrow(12.2, 8.75, 12.2, 8.1)
    box(10.0, 7.1, 4.4, 0.9, "1x1 convolution", GREEN)
    arrow(11.0, 6.95, 11.0, 3.2)
    arrow(14.1, 6.95, 14.1, 3.2)
    note(10.8, 6.4, "x_a", ha="right")
    note(14.3, 6.4, "x_b", ha="left")
    box(10.2, 4.6, 1.6, 0.8, "scale, shift", ORANGE)
    box(12.35, 4.6, 1.25, 0.8, "network", ORANGE)
    arrow(14.1, 5.0, 13.65, 5.0)
    arrow(12.3, 5.0, 11.85, 5.0)
    note(11.0, 2.85, "z_a", ha="center")
    note(14.1, 2.85, "z_b = x_b", ha="center")
    axes.text(12.2, 1.9, "coupling: the half that passes\nsays what happens to the other", ha="center",
              va="center", fontsize=9)  # fmt: skip
    return figure


def _pale(colour):
    return tuple(1 - 0.28 * (1 - part) for part in mpl.colors.to_rgb(colour))


def memory():
    """Temporaries of the gradient by depth, as XLA accounts for them."""
    jax.config.update("jax_disable_most_optimizations", False)
    shape, depths = (16, 16, 3), (2, 4, 8, 16, 32)
    figure, axes = plt.subplots(figsize=(6.2, 3.6), layout="constrained")
    modes = (("stored", ORANGE, "center"), ("recompute", BLUE, "bottom"), ("constant", GREEN, "top"))
    for mode, colour, side in modes:
        sizes = []
        for depth in depths:
            flow = fg.glow(shape, levels=2, depth=depth, width=32, memory=mode)
            x = jax.ShapeDtypeStruct((32, *shape), jnp.float32)
            params = jax.eval_shape(flow.bijector.init, jax.random.key(0), x)
            mean = lambda p, x, flow=flow: fg.log_prob(flow, p, x).mean()  # noqa: E731
            compiled = jax.jit(jax.grad(mean)).lower(params, x).compile()
            sizes.append(compiled.memory_analysis().temp_size_in_bytes / 2**20)
        print(mode, [f"{size:.1f}" for size in sizes])
        axes.plot(depths, sizes, "o-", color=colour, lw=1.6, ms=4)
        axes.annotate(
            mode, (depths[-1], sizes[-1]), xytext=(6, 0), textcoords="offset points", va=side,
            color=colour,
        )  # fmt: skip
    axes.set(xlabel="steps of flow in a level", ylabel="temporaries, MiB", ylim=(0, None))
    axes.set_xticks(depths[1:])
    axes.grid(axis="y", color="#e8e8e8", lw=0.6)
    return figure


def precision():
    """Errors on the way back: by the scale of couplings, and by layer of a trained Glow."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.4), layout="constrained")
    scales = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    depth, dim = 32, 64
    errors = []
    for scale in scales:
        x = jax.random.normal(jax.random.key(0), (256, dim))
        mixes = jax.random.orthogonal(jax.random.key(1), dim, (depth,))
        h = x
        for mix in mixes:
            h = (h @ mix) * jnp.where(jnp.arange(dim) < dim // 2, scale, 1.0)
        for mix in mixes[::-1]:
            h = (h / jnp.where(jnp.arange(dim) < dim // 2, scale, 1.0)) @ mix.T
        errors.append(float(jnp.abs(h - x).max()))
    left.semilogy(scales, errors, "o-", color=BLUE, lw=1.6, ms=4)
    left.axhline(0.5 / 256, color=ORANGE, lw=1.0)
    left.annotate("half a level of 256", (0.98, 0.5 / 256), xytext=(0, 4), textcoords="offset points",
                  color=ORANGE, fontsize=9, ha="left")  # fmt: skip
    left.set(xlabel="scale s of each layer", ylabel="largest error of x", title="32 layers")
    left.invert_xaxis()

    flow, params = fg.load_pretrained("glow_digits")
    images = jnp.asarray(data.load("digits", "test").images[:128])
    x = fg.dequantize(None, images, n_bins=17)
    z, there = layers(flow.bijector, params, x, look=lambda layer: layer.x)
    _, back = layers(flow.bijector, params, z, inverse=True, look=lambda layer: layer.x)
    errors = [_relative(b, a) for a, b in zip(there, back[::-1], strict=True)]
    right.semilogy(range(len(errors), 0, -1), errors, ".", color=BLUE, ms=4)
    right.set(xlabel="layers from the latents back", title="trained Glow on digits")
    right.set_ylabel("relative error")
    print("largest relative error", max(errors))
    for axes in (left, right):
        axes.grid(axis="y", color="#e8e8e8", lw=0.6)
    return figure


def _relative(found, expected):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)


def interpolation():
    """The tutorial's strips."""
    flow, params = fg.load_pretrained("glow_digits")
    test = jnp.asarray(data.load("digits", "test").images)
    x = fg.dequantize(None, test, n_bins=17)
    between = jax.jit(lambda a, b: latents.interpolate(flow, params, a, b, 8))
    strips = fg.quantize(between(x[:6], x[6:12]), n_bins=17)
    picture = plots.image_strip(plots.to_uint8(jax.device_get(strips), n_bins=17))
    plots.save_image(picture, IMAGES / "interpolation.png")


FIGURES = (change_of_variables, dequantization, multi_scale, memory, precision, interpolation)


def main(names):
    """Draws those that are named, or all."""
    for draw in FIGURES:
        if names and draw.__name__ not in names:
            continue
        figure = draw()
        if figure is not None:
            figure.savefig(IMAGES / f"{draw.__name__}.png", dpi=150)
        print(draw.__name__, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
