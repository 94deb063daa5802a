"""Lossless compression of images by a flow: what the exact likelihood promises, in bytes."""

from flowjax_glow.compression.coder import Coded, Coder
from flowjax_glow.compression.container import Header, read_file, write_file
from flowjax_glow.compression.pictures import read_images, write_images

__all__ = ["Coded", "Coder", "Header", "read_file", "read_images", "write_file", "write_images"]
