"""Pictures of data, samples, densities and learning curves: arrays in, uint8 arrays or files out."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from flowjax_glow.likelihood import BITS_PER_DIM, Unit

# Small pictures are enlarged to about this many pixels a side, each pixel to a square.
_TILE_PIXELS = 64

# Okabe & Ito's colours, told apart by the colour-blind, without yellow, which is faint on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def to_uint8(levels: UInt8[np.ndarray, "*shape"], *, n_bins: int) -> UInt8[np.ndarray, "*shape"]:
    """Levels in [0, n_bins) as brightness in [0, 255]."""
    return np.round(levels * (255.0 / (n_bins - 1))).astype(np.uint8)


def image_grid(
    images: UInt8[np.ndarray, "n height width channels"],
    *,
    columns: int | None = None,
    tile: int = _TILE_PIXELS,
) -> UInt8[np.ndarray, "grid_height grid_width 3"]:
    """Images side by side in rows, on white, as one RGB picture.

    columns: how many in a row; by default as many as make it square. tile: pixels a side that small
    images are enlarged to, by a whole factor and without smoothing.
    """
    n, height, width, channels = images.shape
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3; got {channels}")
    factor, gap = max(1, tile // max(height, width)), 2
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    cell_height, cell_width = height * factor + gap, width * factor + gap
    grid = np.full((rows * cell_height + gap, columns * cell_width + gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * cell_height, gap + i % columns * cell_width
        large = image.repeat(factor, axis=0).repeat(factor, axis=1)
        grid[top : top + height * factor, left : left + width * factor] = large
    return grid


def save_image(image: UInt8[np.ndarray, "height width 3"], path: str | os.PathLike[str]) -> None:
    """Writes a picture; the format is the file name's ending."""
    from PIL import Image

    Image.fromarray(image).save(path)


def scatter(
    clouds: dict[str, Float[np.ndarray, "_ 2"]], columns: Sequence[str]
) -> UInt8[np.ndarray, "height width 3"]:
    """Points in the plane side by side, a panel each under its name, all in the window of the first."""
    from matplotlib.figure import Figure

    window = _window(next(iter(clouds.values())))
    figure = Figure(figsize=(5 * len(clouds), 5), layout="constrained")
    panels = figure.subplots(1, len(clouds), squeeze=False)[0]
    for axes, (title, points) in zip(panels, clouds.items(), strict=True):
        axes.scatter(*points.T, s=1.5, color="#1f4e8c", linewidths=0, rasterized=True)
        _dress(axes, title, columns, window)
    return _pixels(figure)


def heat_map(
    density: Callable[[Float[np.ndarray, "_ 2"]], Float[np.ndarray, " _"]],
    points: Float[np.ndarray, "_ 2"],
    title: str,
    columns: Sequence[str],
    *,
    cells: int = 300,
) -> UInt8[np.ndarray, "height width 3"]:
    """A density over the plane, in the window of some points, by cells x cells values of it."""
    from matplotlib.figure import Figure

    window = _window(points)
    x, y = (np.linspace(low, high, 2 * cells + 1)[1::2] for low, high in window)  # their middles
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        density(grid).reshape(cells, cells),
        cmap="magma",
        extent=(*window[0], *window[1]),
        origin="lower",
        aspect="auto",
        vmin=0.0,
    )
    _dress(axes, title, columns, window)
    return _pixels(figure)


def _window(points: Float[np.ndarray, "_ 2"]) -> list[tuple[float, float]]:
    """What the points span on each axis, and a tenth more on either side."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.1 * (high - low)
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


def _dress(axes: Any, title: str, columns: Sequence[str], window: list[tuple[float, float]]) -> None:
    axes.set_title(title)
    axes.set_xlabel(columns[0])
    axes.set_ylabel(columns[1])
    axes.set_xlim(window[0])
    axes.set_ylim(window[1])
    axes.spines[["top", "right"]].set_visible(False)


def _pixels(figure: Any) -> UInt8[np.ndarray, "height width 3"]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def learning_curve(
    metrics: Sequence[dict[str, Any]], path: str | os.PathLike[str], *, unit: Unit = BITS_PER_DIM
) -> None:
    """Plots the loss over the steps, of the training batches and of the valid split, to a file."""
    from matplotlib.figure import Figure

    train, valid = (
        [(r["step"], r[field]) for r in metrics if field in r]
        for field in (unit.field, f"valid_{unit.field}")
    )
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    if train:
        axes.plot(*zip(*train, strict=True), color="#9db4d0", lw=1, label="training batches")
    if valid:
        best_step, best = min(valid, key=lambda point: point[1])
        axes.plot(*zip(*valid, strict=True), color="#1f4e8c", marker=".", label="valid")
        axes.axhline(best, color="#c0392b", lw=0.8, ls=":")
        axes.annotate(
            f"best valid {best:.3f} at step {best_step:,}",
            (best_step, best),
            xytext=(0, 14),
            textcoords="offset points",
            ha="center",
            color="#c0392b",
            fontsize=9,
        )
        # The first steps are far above all that is of interest.
        low, high = min([best, *(b for _, b in train)]), max(b for _, b in valid)
        axes.set_ylim(low - 0.1, high + 0.35 * (high - low) + 0.1)
    axes.set_xlabel("step")
    axes.set_ylabel(unit.symbol)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def sweep_curves(
    groups: Mapping[tuple[str, ...], Sequence[Mapping[int, float]]],
    path: str | os.PathLike[str],
    *,
    unit: Unit = BITS_PER_DIM,
) -> None:
    """Plots the loss on valid of groups of runs over the steps, to a file.

    groups: of each label, the runs that differ by their seed alone, each as {step: loss}. A line is
    their mean at the steps that all of them have, its band is from the lowest to the highest, and its
    name stands at its end with the last mean. Where all labels have several parts, there is a panel for
    each first part; a line has the same colour in all.
    """
    from matplotlib.figure import Figure

    split = all(len(label) > 1 for label in groups)
    named = {label: (label[0] if split else "", ", ".join(label[split:])) for label in groups}
    titles, names = (list(dict.fromkeys(parts)) for parts in zip(*named.values(), strict=True))
    figure = Figure(figsize=(5.2 if len(titles) == 1 else 4.2 * len(titles), 3.8), layout="constrained")
    panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    low, high = math.inf, -math.inf
    for title, axes in zip(titles, panels, strict=True):
        for label in (label for label in groups if named[label][0] == title):
            steps, losses = _on_common_steps(groups[label])
            mean, least, most = losses.mean(axis=0), losses.min(axis=0), losses.max(axis=0)
            name = named[label][1]
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            axes.fill_between(steps, least, most, color=colour, alpha=0.2, lw=0)
            axes.plot(steps, mean, color=colour, lw=1.6, label=f"{name} {mean[-1]:.3f}".strip())
            # The first steps are far above all that is of interest.
            low, high = min(low, least.min()), max(high, most[steps >= steps[-1] / 4].max())
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(axis="y", color="#e8e8e8", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"valid, {unit.symbol}")
    panels[0].set_ylim(low - 0.05 * (high - low), high)
    for axes in panels:
        _name_lines(axes)
    figure.savefig(path, dpi=150)


def _on_common_steps(
    runs: Sequence[Mapping[int, float]],
) -> tuple[Int[np.ndarray, " steps"], Float[np.ndarray, "runs steps"]]:
    steps = sorted(set.intersection(*(set(run) for run in runs)))
    return np.array(steps), np.array([[run[step] for step in steps] for run in runs])


def _name_lines(axes: Any) -> None:
    """Writes the labels of the lines at their ends, from below, one no nearer than a line of text."""
    bottom, top = axes.get_ylim()
    at = -math.inf
    for line in sorted(axes.lines, key=lambda line: line.get_ydata()[-1]):
        x, y = line.get_xdata()[-1], line.get_ydata()[-1]
        at = max(at + 0.055 * (top - bottom), y)
        axes.annotate(
            line.get_label(),
            (x, at),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            fontsize=9,
            annotation_clip=False,
        )
