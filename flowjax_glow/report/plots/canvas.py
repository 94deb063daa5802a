"""What all plots share: colours, and how a figure becomes pixels."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

# Okabe & Ito's colours, told apart by the colour-blind, without yellow, which is faint on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def pixels(figure: Any) -> UInt8[np.ndarray, "height width 3"]:
    """A matplotlib figure as RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
