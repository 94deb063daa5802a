"""The numeric columns of a user's own CSV or Parquet file, standardised, as vectors.

Which columns: of a Parquet file those of a numeric type; of a CSV file those in which any cell is a
number, and then every cell must be one. Others (text, dates, true and false) are left out. Columns are
taken as continuous: one of few distinct values has no density, and a flow finds spikes in it without
end; leave it out, or add noise to it.

Which split: a column "split" of train, valid and test says so. Without one it hangs on the row's
numbers alone, by the SHA-256 of its float64s (`split.hashed_split`): 80% to train, 10% valid, 10% test.
So rows added or removed never move another from one split to another, and equal rows are in one split.

x = (value - mean) / deviation, with mean and deviation of the train split. log p(values) in the
columns' own units is log p(x) minus the sum of the logs of the deviations.
"""

import functools
import hashlib
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from flowjax_glow.data.split import Column, Info, Split, hashed_split

_SPLITS = ("train", "valid", "test")
_LEAST_ROWS = {"train": 2, "valid": 1, "test": 1}


class _Table(NamedTuple):
    version: str
    columns: tuple[Column, ...]
    rows: dict[str, Float64[np.ndarray, "rows columns"]]  # by split, in their own units


def info(path: str | os.PathLike[str] | None) -> Info:
    """The columns, with means and deviations of the train split; version is a digest of the file."""
    table = _table(path)
    return Info(table.version, (len(table.columns),), None, None, table.columns)


def load(path: str | os.PathLike[str] | None, split: str) -> Split:
    """The rows of a split, standardised, in the order of the file.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: naming row and column (the first row below the header is row 1), for a cell that is
        not a finite number; for a constant column, no numeric column, fewer than 2 rows in train or
        none in another split, and a file in another format than its ending says.
    """
    table = _table(path)
    mean = np.array([[c.mean for c in table.columns]])
    deviation = np.array([[c.deviation for c in table.columns]])
    examples = ((table.rows[split] - mean) / deviation).astype(np.float32)
    return Split(examples, np.full(len(examples), -1, np.int32))


def _table(path: str | os.PathLike[str] | None) -> _Table:
    if not path:
        raise ValueError(f"path must name a CSV or Parquet file; got {path!r}")
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no table at {file}")
    if file.suffix.lower() not in _READ:
        raise ValueError(f"path must end in {' or '.join(_READ)}; got {file}")
    stat = file.stat()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=1)  # info and the splits of a run are of one file
def _read(file: Path, *_: int) -> _Table:
    import pyarrow as pa

    with file.open("rb") as stream:
        version = f"table/{hashlib.file_digest(stream, 'sha256').hexdigest()[:8]}"
    try:
        table = _READ[file.suffix.lower()](file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"cannot read the table {file}: {str(error).splitlines()[0]}") from error
    names = table.column_names
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"columns must have different names; {file} has {name!r} more than once")

    columns = {n: _numbers(table[n], n, file) for n in names if n != "split"}
    columns = {n: numbers for n, numbers in columns.items() if numbers is not None}
    if not columns:
        raise ValueError(f"a table must have a numeric column; {file} has {', '.join(names)}")
    rows = np.stack(list(columns.values()), axis=1)
    of_row = _given_splits(table["split"], file) if "split" in names else _hashed_splits(rows)
    splits = {name: rows[of_row == name] for name in _SPLITS}
    for name, least in _LEAST_ROWS.items():
        if len(splits[name]) < least:
            raise ValueError(
                f"{name} must have at least {least} rows; of the {len(rows)} of {file} it has "
                f"{len(splits[name])}"
            )
    train = zip(columns, splits["train"].T, strict=True)
    return _Table(version, tuple(_column(name, values, file) for name, values in train), splits)


def _read_csv(file: Path) -> Any:
    """Every cell as text, so that a cell that is not a number can be named."""
    import pyarrow as pa
    from pyarrow import csv

    with csv.open_csv(file) as reader:
        names = reader.schema.names
    if all(_is_number(name) for name in names):
        raise ValueError(f"the first line of {file} must name the columns; got {', '.join(names)}")
    as_text = csv.ConvertOptions(column_types={name: pa.string() for name in names})
    return csv.read_csv(file, convert_options=as_text)


def _read_parquet(file: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(file)


_READ = {".csv": _read_csv, ".parquet": _read_parquet}


def _numbers(column: Any, name: str, file: Path) -> Float64[np.ndarray, " rows"] | None:
    """The column as numbers; None where it is not a numeric one."""
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type
    if file.suffix.lower() == ".csv":
        cells = compute.call_function("utf8_trim_whitespace", [column])
        try:
            numbers = compute.cast(cells, pa.float64())
        except pa.ArrowInvalid:
            texts = cells.to_pylist()
            numeric = [_is_number(text) for text in texts]
            if not any(numeric):
                return None
            row = numeric.index(False)
            raise ValueError(_not_a_number(file, name, row, repr(texts[row]))) from None
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = compute.cast(column, pa.float64(), safe=False)
    else:
        return None
    values = numbers.to_numpy()  # nulls become nan
    finite = np.isfinite(values)
    if not finite.all():
        row = int(finite.argmin())
        cell = column[row].as_py()
        raise ValueError(_not_a_number(file, name, row, "nothing" if cell is None else repr(cell)))
    return values


def _not_a_number(file: Path, name: str, row: int, value: str) -> str:
    return f"column {name!r} of {file} must hold finite numbers; row {row + 1} has {value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _given_splits(column: Any, file: Path) -> np.ndarray:
    of_row = np.array([str(name).strip() for name in column.to_pylist()])
    bad = np.flatnonzero(~np.isin(of_row, _SPLITS))
    if bad.size:
        raise ValueError(
            f"column 'split' of {file} must hold {', '.join(_SPLITS)}; row {bad[0] + 1} has "
            f"{str(of_row[bad[0]])!r}"
        )
    return of_row


def _hashed_splits(rows: Float64[np.ndarray, "rows columns"]) -> np.ndarray:
    # Little-endian, and + 0.0 so that -0.0 is 0.0: equal numbers have equal bytes.
    return np.array([hashed_split(row.tobytes()) for row in (rows + 0.0).astype("<f8")])


def _column(name: str, values: Float64[np.ndarray, " rows"], file: Path) -> Column:
    mean, deviation = float(values.mean()), float(values.std())
    if values.min() == values.max() or not math.isfinite(deviation):
        raise ValueError(
            f"column {name!r} of {file} must vary in the train split; it goes from {values.min()} to "
            f"{values.max()}"
        )
    return Column(name, mean, deviation)
