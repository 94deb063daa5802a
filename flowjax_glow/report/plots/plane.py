"""Points, densities and maps of the plane."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from flowjax_glow.report.plots.canvas import COLOURS, pixels


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
    return pixels(figure)


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
    return pixels(figure)


def grid_lines(
    reach: float, *, lines: int = 17, points: int = 101
) -> Float[np.ndarray, "lines points 2"]:
    """The lines of a grid over [-reach, reach]^2, upright ones first, each as points along it.

    lines: in either direction; there are twice as many. To be mapped, and given to warped_grid.
    """
    places, along = (np.linspace(-reach, reach, num) for num in (lines, points))
    upright = np.stack(np.broadcast_arrays(places[:, None], along[None]), axis=-1)
    return np.concatenate([upright, upright[..., ::-1]])


def warped_grid(
    grids: Mapping[str, Float[np.ndarray, "lines points 2"]],
    *,
    clouds: Sequence[Float[np.ndarray, "_ 2"]] = (),
    reach: float | None = None,
    size: float = 3.2,
) -> UInt8[np.ndarray, "height width 3"]:
    """What became of a grid, side by side, a panel for each map under its name.

    Lines that were upright are blue, those that lay are green, and points are red.

    Args:
      grids: of grid_lines, mapped.
      clouds: points, for each panel.
      reach: panels show [-reach, reach]^2; by default the square about 0 that holds all grids.
      size: of a panel, in hundreds of pixels.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    if clouds and len(clouds) != len(grids):
        raise ValueError(f"clouds must be {len(grids)}, one for each grid; got {len(clouds)}")
    reach = reach or 1.05 * max(float(np.abs(grid).max()) for grid in grids.values())
    figure = Figure(figsize=(size * len(grids), size), layout="constrained")
    panels = figure.subplots(1, len(grids), squeeze=False)[0]
    for i, (axes, (title, grid)) in enumerate(zip(panels, grids.items(), strict=True)):
        half = len(grid) // 2
        for lines, colour in ((grid[:half], COLOURS[0]), (grid[half:], COLOURS[2])):
            axes.add_collection(LineCollection(list(lines), colors=colour, linewidths=0.7))
        if clouds:
            axes.scatter(*clouds[i].T, s=2.0, color=COLOURS[1], linewidths=0, zorder=3)
        axes.set_title(title, fontsize=10)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_color("#cccccc")
    return pixels(figure)


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
