"""Densities on the line, as curves and as histograms, and the loss over the steps of training."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from flowjax_glow.likelihood import BITS_PER_DIM, Unit
from flowjax_glow.report.plots.canvas import COLOURS, pixels


def density_curves(
    x: Float[np.ndarray, " points"], densities: Mapping[str, Float[np.ndarray, " points"]], xlabel: str
) -> UInt8[np.ndarray, "height width 3"]:
    """Densities on the line over the points x, by name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    for i, (name, density) in enumerate(densities.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.fill_between(x, density, color=colour, alpha=0.15, lw=0)
        axes.plot(x, density, color=colour, lw=1.6, label=name)
    axes.set_xlabel(xlabel)
    axes.set_xlim(x.min(), x.max())
    axes.set_ylim(0.0, None)
    axes.spines[["top", "right"]].set_visible(False)
    _name_above(figure)
    return pixels(figure)


def histograms(
    values: Mapping[str, Float[np.ndarray, " _"]], xlabel: str
) -> UInt8[np.ndarray, "height width 3"]:
    """How each set of numbers is distributed: densities over bins that all sets share, by name.

    Raises:
      ValueError: for a set that is empty, or has numbers that are not finite.
    """
    from matplotlib.figure import Figure

    for name, of_set in values.items():
        if not (of_set.size and np.isfinite(of_set).all()):
            raise ValueError(f"values must be finite, and some; got {name!r}: {of_set}")
    # Fine enough for the narrowest set.
    together = np.concatenate(list(values.values()))
    finest = min(np.diff(np.histogram_bin_edges(v, "fd")[:2])[0] for v in values.values())
    count = int(np.clip(np.ptp(together) / finest, 20, 200))
    edges = np.histogram_bin_edges(together, count)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for i, (name, of_set) in enumerate(values.items()):
        colour = COLOURS[i % len(COLOURS)]
        density, _ = np.histogram(of_set, edges, density=True)
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(density, edges, color=colour, label=f"{name}, mean {of_set.mean():.3g}")
    axes.set_xlabel(xlabel)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    _name_above(figure)
    return pixels(figure)


def _name_above(figure: Any) -> None:
    """The names of the curves above them, since beside them there may be no place."""
    figure.legend(loc="outside upper center", ncols=3, frameon=False)


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
            colour = COLOURS[names.index(name) % len(COLOURS)]
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
