"""Images side by side, with names where wanted, as one picture; pictures as files."""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

# Small pictures are enlarged to about this many pixels a side, each pixel to a square.
_TILE_PIXELS = 64
_GAP = 2  # between them
_MARGIN = 10  # between an image and the picture's edge where there are labels, beside the label


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
    images = _enlarged(images, tile)
    n, height, width, _ = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    return _placed(images, columns, height, width)


def image_strip(
    rows: UInt8[np.ndarray, "rows columns height width channels"],
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    tile: int = _TILE_PIXELS,
) -> UInt8[np.ndarray, "strip_height strip_width 3"]:
    """Rows of images on white, with a name left of each row and one above each column.

    Images are moved apart where a label is larger than they are; without labels it is the image_grid.

    Args:
      row_labels, column_labels: one each; lines are parted by newlines. None: no margin for them.
      tile: as in image_grid.

    Raises:
      ValueError: for labels of another number, and images of other than 1 or 3 channels.
    """
    from PIL import Image, ImageDraw

    for name, labels, count in (
        ("row_labels", row_labels, rows.shape[0]),
        ("column_labels", column_labels, rows.shape[1]),
    ):
        if labels is not None and len(labels) != count:
            raise ValueError(f"{name} must be {count}, one each; got {len(labels)}: {list(labels)}")
    images = _enlarged(rows.reshape(-1, *rows.shape[2:]), tile)
    height, width = images.shape[1:3]
    label_width, label_height = _text_size(row_labels)
    name_width, name_height = _text_size(column_labels)
    height, width = max(height, label_height), max(width, name_width + _MARGIN // 2)
    left = label_width + _MARGIN if row_labels else 0
    top = name_height + _MARGIN // 2 if column_labels else 0
    strip = _placed(images, rows.shape[1], height, width)
    picture = Image.fromarray(np.pad(strip, ((top, 0), (left, 0), (0, 0)), constant_values=255))
    draw, style = ImageDraw.Draw(picture), {"fill": "black", "font": _font()}
    for i, label in enumerate(row_labels or ()):
        middle = top + _GAP + i * (height + _GAP) + height / 2
        draw.text((left - _MARGIN // 2, middle), label, anchor="rm", align="right", **style)
    for i, label in enumerate(column_labels or ()):
        middle = left + _GAP + i * (width + _GAP) + width / 2
        draw.text((middle, top - 1), label, anchor="md", align="center", **style)
    return np.asarray(picture)


def save_image(image: UInt8[np.ndarray, "height width 3"], path: str | os.PathLike[str]) -> None:
    """Writes a picture; the format is the file name's ending."""
    from PIL import Image

    Image.fromarray(image).save(path)


def gif(frames: Sequence[UInt8[np.ndarray, "height width 3"]], *, milliseconds: int = 80) -> bytes:
    """Pictures one after the other, each shown for some milliseconds, again and again: a GIF file.

    All have the 64 colours that suit the middle one.
    """
    from PIL import Image

    palette = Image.fromarray(frames[len(frames) // 2]).quantize(64)
    first, *others = (
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
    )
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    return file.getvalue()


def _enlarged(
    images: UInt8[np.ndarray, "n height width channels"], tile: int
) -> UInt8[np.ndarray, "n large_height large_width 3"]:
    n, height, width, channels = images.shape
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3; got {channels}")
    factor = max(1, tile // max(height, width))
    large = images.repeat(factor, axis=1).repeat(factor, axis=2)
    return np.broadcast_to(large, (n, height * factor, width * factor, 3))


def _placed(
    images: UInt8[np.ndarray, "n height width 3"], columns: int, cell_height: int, cell_width: int
) -> UInt8[np.ndarray, "grid_height grid_width 3"]:
    """Each image in the middle of its cell, row by row, on white."""
    n, height, width, _ = images.shape
    down, right = cell_height + _GAP, cell_width + _GAP
    grid = np.full((-(-n // columns) * down + _GAP, columns * right + _GAP, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top = _GAP + i // columns * down + (cell_height - height) // 2
        left = _GAP + i % columns * right + (cell_width - width) // 2
        grid[top : top + height, left : left + width] = image
    return grid


def _font() -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", 13)


def _text_size(labels: Sequence[str] | None) -> tuple[int, int]:
    """The largest width and height of the labels in pixels; of none, 0 and 0."""
    from PIL import Image, ImageDraw

    draw, font = ImageDraw.Draw(Image.new("RGB", (1, 1))), _font()
    boxes = [draw.textbbox((0, 0), label, font=font) for label in labels or ()]
    widths, heights = [box[2] for box in boxes], [box[3] for box in boxes]
    return math.ceil(max(widths, default=0)), math.ceil(max(heights, default=0))
