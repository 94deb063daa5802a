"""Downloading a tensorflow-datasets set and writing it as ArrayRecord, once for each folder of sets.

tfds writes beside the folder of the set and renames it at the end, so that a set is there as a whole or
not at all, whenever the writing is stopped; and a file that was downloaded as a whole is not downloaded
again. A file is taken only with the SHA-256 that tfds has for it, and none without one.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

from flowjax_glow.data import bundled
from flowjax_glow.data.without_tensorflow import (
    TensorFlowNeededError,
    has_tensorflow,
    read_lsun_by_lmdb,
    without_tensorflow,
)


def is_prepared(builder: Any) -> bool:
    """Whether the set of a tfds builder is there to be read."""
    return builder.data_path.exists()


def prepare(builder: Any) -> Any:
    """The builder of the prepared set; which is downloaded and written first, if it is not there.

    Raises:
      ValueError: for a file with another checksum than tfds has for it, or one that tfds has none for,
        and for a package that is missing.
      FileNotFoundError: for what cannot be downloaded.
    """
    import tensorflow_datasets as tfds

    if is_prepared(builder):
        return builder
    start = time.perf_counter()
    # Bundled sets do without TensorFlow, which takes long to load.
    alone = builder.name in bundled.N_BINS or not has_tensorflow()
    try:
        if builder.name == "lsun":
            read_lsun_by_lmdb(builder)
        with without_tensorflow() if alone else contextlib.nullcontext():
            builder.download_and_prepare(
                file_format=tfds.core.FileFormat.ARRAY_RECORD,
                download_config=tfds.download.DownloadConfig(
                    try_download_gcs=False, force_checksums_validation=True
                ),
            )
    except Exception as error:
        # Another process may have been the first to get there.
        if not is_prepared(builder):
            explained = _in_one_line(builder, error)
            if explained is None:
                raise
            raise explained from error
    seconds = time.perf_counter() - start
    logging.info("prepared %s in %s (%.1f s)", builder.info.full_name, builder.data_dir, seconds)
    return tfds.builder_from_directory(builder.data_dir)


def discard(builder: Any) -> None:
    """Removes what the builder has written of a set that it is preparing, and is not ready yet."""
    folder = Path(builder.data_dir)  # while it prepares, that in which it writes
    if folder.name.startswith("incomplete."):
        shutil.rmtree(folder, ignore_errors=True)


def left_behind(builder: Any) -> list[Path]:
    """What preparations of the set that were stopped have left, or others are now writing."""
    sets, downloads = Path(builder.data_path).parent, Path(builder.data_dir_root) / "downloads"
    begun = [
        *sets.glob(f"incomplete.*_{builder.version}"),
        *(downloads / builder.name).rglob("*.tmp.*"),
    ]
    return sorted(path for path in begun if path.is_dir())


def _in_one_line(builder: Any, error: Exception) -> Exception | None:
    """What is wrong and what to do about it; None where that is not known."""
    import requests
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.util import DownloadError

    name, manual = builder.info.full_name, builder.data_dir_root / "downloads" / "manual"
    message = " ".join(str(error).split()).removesuffix(".")
    for cause in _causes(error):
        if isinstance(cause, TensorFlowNeededError | ImportError) and cause.name:
            return ValueError(
                f"{name} needs {cause.name} to be prepared: pip install 'flowjax-glow[prepare]', or "
                f"prepare it on another machine and copy {builder.data_dir}"
            )
    if isinstance(error, NonMatchingChecksumError):
        return ValueError(message.split(" To debug")[0])
    by_hand = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    # tfds asserts that there are files in it; a builder may fail on the one that it misses.
    if by_hand is not None and isinstance(error, AssertionError | OSError | TypeError):
        return FileNotFoundError(
            f"{name} has to be downloaded by hand; manual_dir is {manual}: {' '.join(by_hand.split())}"
        )
    if isinstance(error, DownloadError | requests.RequestException):
        return FileNotFoundError(
            f"{name} cannot be downloaded: {message}. The file, had by other ways, may be put into "
            f"{manual}; its checksum is checked there too"
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
