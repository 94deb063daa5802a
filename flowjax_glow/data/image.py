"""Opening an image that a stranger has made.

What a file says of itself is looked at before any pixel is decoded. A few kilobytes may stand for
gigabytes of pixels; and of the formats that Pillow knows by their first bytes, whatever the file is
called, one starts another program (EPS), and most are read by hardly anybody.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 2**24  # 16.8 megapixels, 50 MB decoded


@contextlib.contextmanager
def open_image(file: str | os.PathLike[str] | io.BytesIO, name: object) -> Iterator[Any]:
    """A PIL image, within which it is decoded and used; closed at the end.

    Args:
      name: of the image in messages, such as its path.

    Raises:
      ValueError: with the name, for what is in none of FORMATS, is truncated or damaged, has more than
        MAX_PIXELS pixels or more than 8 bits a channel; and for a ValueError or OSError within.
    """
    from PIL import Image

    try:
        with Image.open(file, formats=FORMATS) as image:  # reads the header only
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"it has {width} x {height} pixels, and the most is {MAX_PIXELS}")
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"it must have 8 bits a channel; its mode is {image.mode}")
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot use the image {name}: {error}") from error
