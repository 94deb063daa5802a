"""Pictures for people: arrays in, RGB pictures or files out."""

from flowjax_glow.report.plots.canvas import COLOURS
from flowjax_glow.report.plots.curves import density_curves, histograms, learning_curve, sweep_curves
from flowjax_glow.report.plots.images import gif, image_grid, image_strip, save_image, to_uint8
from flowjax_glow.report.plots.plane import grid_lines, heat_map, scatter, warped_grid

__all__ = [
    "COLOURS",
    "density_curves",
    "gif",
    "grid_lines",
    "heat_map",
    "histograms",
    "image_grid",
    "image_strip",
    "learning_curve",
    "save_image",
    "scatter",
    "sweep_curves",
    "to_uint8",
    "warped_grid",
]
