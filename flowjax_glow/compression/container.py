"""The file of compressed images.

    bytes 0 .. 7    b"FGLOWIM" and the version of the format, 1
    4 bytes         length of the header, little-endian
    header          a JSON object in UTF-8, compressed by zlib: the fields of Header
    words           the stack of bits, the bottom first: 32-bit words, little-endian
    last 32 bytes   SHA-256 of all before

Nothing of a file is believed before its SHA-256 is right, and no size in it before it is bounded: a
right SHA-256 says that a file is whole, and not who made it.
"""

import hashlib
import json
import math
import os
import struct
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from flowjax_glow.compression.stack import Words

_MAGIC = b"FGLOWIM"
_VERSION = 1
_FRONT = len(_MAGIC) + 1 + 4
_DIGEST = 32

_MOST_HEADER = 2**26  # bytes, unpacked: some million names
_MOST_NUMBERS = 2**31  # of all images
_MOST_NAME = 240  # bytes of a part of a name; file systems take 255


class Header(NamedTuple):
    """What has to be known besides the words.

    images: how many. event_shape: of each. n_bins, batch_size, fingerprint: the coder's. initial_bits:
    of the words. pixels: SHA-256 of the images' bytes. weights: which of the run's the coder had,
    "average" or "raw". names: of the images, relative paths of PNG files; None where they had none.
    """

    images: int
    event_shape: tuple[int, ...]
    n_bins: int
    batch_size: int
    initial_bits: int
    fingerprint: dict[str, str]
    pixels: str
    weights: str
    names: tuple[str, ...] | None


class Sizes(NamedTuple):
    """Bytes of a file: of the words, and of all else in it."""

    words: int
    rest: int


def write_file(path: str | os.PathLike[str], header: Header, words: Words) -> Sizes:
    """Writes a file whole, or not at all.

    Raises:
      ValueError: for a header that read_file would refuse.
    """
    _check(header, len(words))
    text = zlib.compress(json.dumps(header._asdict(), separators=(",", ":")).encode(), 9)
    front = _MAGIC + bytes([_VERSION]) + struct.pack("<I", len(text))
    body = front + text + words.astype("<u4").tobytes()
    path = Path(path)
    partial = path.with_name(path.name + ".tmp")
    partial.write_bytes(body + hashlib.sha256(body).digest())
    partial.replace(path)
    return Sizes(4 * len(words), len(front) + len(text) + _DIGEST)


def read_file(path: str | os.PathLike[str]) -> tuple[Header, Words]:
    """What write_file wrote.

    Raises:
      FileNotFoundError: where there is none.
      ValueError: for what is no such file, is cut short or damaged, or holds what cannot be.
    """
    content = Path(path).read_bytes()
    if content[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"{path} must be a file that experiments.compress made; it begins otherwise")
    if len(content) <= _FRONT + _DIGEST:
        raise ValueError(f"{path} is cut short: it has {len(content)} bytes")
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError(f"{path} is cut short or damaged: its SHA-256 is not what it was")
    if body[len(_MAGIC)] != _VERSION:
        raise ValueError(f"{path} must be of version {_VERSION}; got {body[len(_MAGIC)]}")
    (length,) = struct.unpack_from("<I", body, _FRONT - 4)
    text, rest = body[_FRONT : _FRONT + length], body[_FRONT + length :]
    try:
        header = _header_of(text)
        words = np.frombuffer(rest, "<u4").astype(np.uint32)
        _check(header, len(words))
    except (ValueError, TypeError, KeyError, zlib.error, RecursionError) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    return header, words


def _header_of(text: bytes) -> Header:
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(text, _MOST_HEADER)
    if not unpacker.eof:
        raise ValueError(f"its header must be at most {_MOST_HEADER} bytes")
    fields = json.loads(plain)
    if not isinstance(fields, dict) or set(fields) != set(Header._fields):
        raise ValueError("its header must have the fields of Header")
    for name in ("event_shape", "names"):
        if fields[name] is not None:
            fields[name] = tuple(fields[name])
    return Header(**fields)


def _check(header: Header, words: int) -> None:
    """Whether a header can be true, before anything is made of the sizes in it."""
    shape, h = header.event_shape, header
    counts: list[Any] = [h.images, h.batch_size, h.n_bins, *shape]
    if not all(type(n) is int and 0 < n <= _MOST_NUMBERS for n in counts) or len(shape) != 3:
        raise ValueError(f"its counts must be whole and positive; got {counts}")
    if h.images * math.prod(shape) > _MOST_NUMBERS:
        raise ValueError(f"it must hold at most {_MOST_NUMBERS} numbers; got {h.images} of {shape}")
    if h.batch_size > h.images:
        raise ValueError(f"batch_size must be at most {h.images}, its images; got {h.batch_size}")
    if type(h.initial_bits) is not int or h.initial_bits % 32 or h.initial_bits <= 0:
        raise ValueError(f"initial_bits must be a multiple of 32; got {h.initial_bits}")
    if words < 2:
        raise ValueError(f"it must hold at least 2 words; got {words}")
    if not isinstance(h.fingerprint, dict):
        raise ValueError("its fingerprint must be an object")
    texts = [h.pixels, h.weights, *h.fingerprint.keys(), *h.fingerprint.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its texts must be texts")
    if h.names is not None:
        check_names(h.names)
        if len(h.names) != h.images:
            raise ValueError(f"it must have a name for each of {h.images} images; got {len(h.names)}")


def check_names(names: tuple[str, ...]) -> None:
    """Whether names are those of PNG files inside a folder, that can all be written on any system.

    Raises:
      ValueError: for others: one that leads out of the folder, the same twice, a file inside a file.
    """
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"a name must be a text; got {name!r}")
        parts = name.split("/")
        for part in parts:
            bad = part.startswith(".") or part.endswith((" ", ".")) or set(part) & set('\\:*?"<>|')
            if not part or bad or not part.isprintable() or len(part.encode()) > _MOST_NAME:
                raise ValueError(f"a name must be a plain path inside a folder; got {name!r}")
        if not name.lower().endswith(".png"):
            raise ValueError(f"a name must end in .png; got {name!r}")
        if name.casefold() in seen:
            raise ValueError(f"no name may be there twice, in letters of either size; got {name!r}")
        seen.add(name.casefold())
    for name in names:
        for folder in PurePosixPath(name.casefold()).parents:
            if str(folder) in seen:
                raise ValueError(f"a file cannot be a folder too; got {name!r}")
