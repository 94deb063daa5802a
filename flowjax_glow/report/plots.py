"""Pictures of data, samples and learning curves: arrays in, uint8 arrays or files out."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

# Small pictures are enlarged to about this many pixels a side, each pixel to a square.
_TILE_PIXELS = 64


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


def learning_curve(metrics: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Plots bits/dim over the steps, of the training batches and of the valid split, to a file."""
    from matplotlib.figure import Figure

    train = [(r["step"], r["bits_per_dim"]) for r in metrics if "bits_per_dim" in r]
    valid = [(r["step"], r["valid_bits_per_dim"]) for r in metrics if "valid_bits_per_dim" in r]
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
    axes.set_ylabel("bits per dimension")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
