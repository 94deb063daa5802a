"""A split that stays on the disk: rows are read and decoded where it is indexed, and nowhere kept.

ArrayRecord gives any row for about the price of the next one, so a split larger than memory is indexed
as an array is, in any order and from many threads. There is no iterator, and so no state of one: which
rows a training step takes is a pure function of (seed, step), see batches.py, and the step in a
checkpoint is all that reading goes on from.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Shaped

_AT_ONCE = 1024  # encoded rows in memory


class Streamed:
    """An array over a source of records: shape (rows, *event_shape), read-only, indexed by rows.

    Rows are what numpy takes on the first axis: an integer, negative ones counting from the end, a
    slice, or an array of integers or of booleans. What comes back is a numpy array.
    """

    def __init__(
        self,
        source: Any,
        decode: Callable[[Any], Any],
        event_shape: tuple[int, ...],
        dtype: type[np.generic],
    ):
        """An array of decode(record), of event_shape, for each record of a source.

        source: of tfds, or what else has __len__ and __getitems__(list of rows).
        """
        self._source, self._decode = source, decode
        self.shape = (len(source), *event_shape)
        self.dtype = np.dtype(dtype)
        self._rows = np.arange(len(source))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Of all rows, decoded."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Shaped[np.ndarray, "..."]:
        index = np.asarray(self._rows[rows])
        flat, event_shape = index.ravel().tolist(), self.shape[1:]
        values = np.empty((len(flat), *event_shape), self.dtype)
        for start in range(0, len(flat), _AT_ONCE):
            records = self._source.__getitems__(flat[start : start + _AT_ONCE])
            for i, record in enumerate(records, start):
                with naming_row(flat[i]):
                    values[i] = self._decode(record)
        return values.reshape((*index.shape, *event_shape))

    def map(self, function: Callable[[Any], Any]) -> "Streamed":
        """function(row) for each row, computed when the row is read."""
        event = function(np.zeros(self.shape[1:], self.dtype))
        decode = self._decode
        return Streamed(self._source, lambda r: function(decode(r)), event.shape, event.dtype.type)


@contextlib.contextmanager
def naming_row(row: int) -> Iterator[None]:
    """A ValueError within says of which row of the split it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"row {row} of the split: {error}") from error
