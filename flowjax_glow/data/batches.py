"""The batch of a training step as a pure function of the step, so that there is no iterator state.

Example number step * batch_size + j of a run is row number % n of the order of epoch number // n, n
being the size of the split. So each example comes once an epoch, also where the batch does not
divide n: batches straddle epochs. Everything random is drawn for the global batch, from Philox
streams keyed by (seed, epoch) and (seed, step), and a process takes its rows of it: the global
batch is the same for any number of processes.
"""

import functools

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from flowjax_glow.data.split import Split

_ORDER, _AUGMENTATION, _CROP = 0, 1, 2  # streams of a seed


def batch_at(
    split: Split,
    step: int,
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    flip: bool = False,
    shift: float = 0.0,
    random_crop: int | None = None,
) -> dict[str, Shaped[np.ndarray, "share ..."]]:
    """A process's share of the global batch of `step`.

    Args:
      split: the examples, every process holding or reading all of them.
      step: counts from 0.
      batch_size: of the global batch, over all processes.
      seed: a non-negative integer.
      process_index: process p of P gets rows p * batch_size / P up to (p + 1) * batch_size / P.
      process_count: P.
      flip: mirrors images left and right with probability 1/2.
      shift: moves images by up to this fraction of the height and of the width (in whole pixels,
        rounded down), repeating the pixels at the edge.
      random_crop: cuts so many pixels a side out of images, before they are mirrored and moved.

    Returns:
      {"example": (share, *event), uint8 images or float32 vectors, "label": int32 (share,), "index":
      int32 (share,), the rows of the split}, with share = batch_size / process_count.

    Raises:
      ValueError: if the processes do not divide the batch, an argument is out of its range, or vectors
        are to be flipped, shifted or cropped.
    """
    n = len(split.examples)
    if n == 0:
        raise ValueError("a split must have at least one example; got 0")
    if len(split.labels) != n:
        raise ValueError(
            f"a split must have a label for each of its {n} examples; got {len(split.labels)}"
        )
    if seed < 0:
        raise ValueError(f"seed must not be negative; got {seed}")
    if step < 0:
        raise ValueError(f"step must not be negative; got {step}")
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size must be a positive multiple of process_count; "
            f"got {batch_size} and {process_count}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index must be in [0, process_count); got {process_index} of {process_count}"
        )
    if not 0.0 <= shift < 1.0:
        raise ValueError(f"shift must be in [0, 1); got {shift}")

    share = batch_size // process_count
    rows = slice(process_index * share, (process_index + 1) * share)
    index = _rows_of_batch(n, step, batch_size, seed)[rows]
    examples = split.examples[index]
    if flip or shift or random_crop is not None:
        if examples.ndim != 4:
            raise ValueError(
                f"flip, shift and random_crop are for images; got vectors of {examples.shape[1]}"
            )
        row, column = _drawn_pixels(
            examples.shape[1:3], step, batch_size, seed, flip=flip, shift=shift, random_crop=random_crop
        )
        examples = _taken(examples, row[rows], column[rows])
    return {"example": examples, "label": split.labels[index], "index": index}


def _rows_of_batch(n: int, step: int, batch_size: int, seed: int) -> Int[np.ndarray, " batch"]:
    epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), n)
    rows = [_order(n, seed, epoch)[places[epochs == epoch]] for epoch in np.unique(epochs).tolist()]
    return np.concatenate(rows)


@functools.lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> Int[np.ndarray, " examples"]:
    order = _generator(seed, _ORDER, epoch).permutation(n).astype(np.int32)
    order.flags.writeable = False
    return order


def _generator(seed: int, stream: int, count: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, stream, count))))


def _offsets(rng: np.random.Generator, most: int, size: int) -> Int[np.ndarray, " batch"]:
    return rng.integers(-most, most, size=size, endpoint=True)


def _drawn_pixels(
    size: tuple[int, int],
    step: int,
    batch_size: int,
    seed: int,
    *,
    flip: bool,
    shift: float,
    random_crop: int | None,
) -> tuple[Int[np.ndarray, "batch height"], Int[np.ndarray, "batch width"]]:
    """Of each image of the global batch, the rows and the columns that its pixels are taken from."""
    if random_crop is not None and not 1 <= random_crop <= min(size):
        raise ValueError(f"random_crop must be in 1 .. {min(size)}; got {random_crop}")
    height, width = size if random_crop is None else (random_crop, random_crop)
    rng = _generator(seed, _CROP, step)
    top = rng.integers(size[0] - height, size=batch_size, endpoint=True)
    left = rng.integers(size[1] - width, size=batch_size, endpoint=True)
    rng = _generator(seed, _AUGMENTATION, step)
    mirror = rng.integers(2, size=batch_size) * flip
    down = _offsets(rng, int(shift * height), batch_size)
    right = _offsets(rng, int(shift * width), batch_size)
    row = np.clip(np.arange(height) - down[:, None], 0, height - 1)
    column = np.clip(np.arange(width) - right[:, None], 0, width - 1)
    column = np.where(mirror[:, None], width - 1 - column, column)
    return row + top[:, None], column + left[:, None]


def _taken(
    images: UInt8[np.ndarray, "batch own_height own_width channels"],
    row: Int[np.ndarray, "batch height"],
    column: Int[np.ndarray, "batch width"],
) -> UInt8[np.ndarray, "batch height width channels"]:
    batch, height, width, channels = images.shape
    row = row + height * np.arange(batch)[:, None]
    # One take over flat pixels: 4 times as fast as indexing by image, row and column.
    pixels = row[:, :, None] * width + column[:, None, :]
    return images.reshape(-1, channels).take(pixels, axis=0)
