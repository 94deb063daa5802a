"""The manifest of a checkpoint's folder: the SHA-256 of each file, and what the arrays are.

The formats below it have no checksum of values, so that a flipped bit would load without a word.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

NAME = "manifest.json"

# Orbax writes these after the manifest, and a state is restored without them.
_LATER = {"_CHECKPOINT_METADATA", "commit_success.txt"}

# Bytes that a core takes 10 ms for, several times as long as threads take to begin.
_WORTH_THREADS = 2**24


class CheckpointError(RuntimeError):
    """A checkpoint is not as it was saved, or could not be saved."""


class Manifest(NamedTuple):
    """What a checkpoint holds.

    files: the SHA-256 of each, by its path in the folder. arrays: such as "float32 (3, 4)", by the path
    in the state. valid: the negative log-likelihood on valid, None where it was not measured.
    """

    files: dict[str, str]
    arrays: dict[str, str]
    valid: float | None


def write(folder: Path, arrays: dict[str, str], valid: float | None) -> None:
    """Writes the manifest of a folder, whose files are all there."""
    files = {name: _sha256(folder / name) for name in sorted(_plain_files(folder))}
    _write(folder / NAME, Manifest(files, arrays, valid))


def set_valid(folder: Path, valid: float, partial: Path) -> None:
    """Adds to a manifest what was not known when its folder was saved, through the file `partial`."""
    _write(partial, read(folder)._replace(valid=valid))
    partial.replace(folder / NAME)


def _write(path: Path, manifest: Manifest) -> None:
    contents = manifest._asdict()
    record = {"sha256": _digest(contents), "contents": contents}
    path.write_text(json.dumps(record, indent=1) + "\n")


def read(folder: Path) -> Manifest:
    """The manifest of a folder; of the files there it sees no other.

    Raises:
      CheckpointError: where there is none, or it is not whole.
    """
    path = folder / NAME
    if folder.is_symlink() or path.is_symlink() or not path.is_file():
        raise CheckpointError(f"{path} must be a plain file in a plain folder; there is none")
    try:
        record = json.loads(path.read_bytes())
        contents = record["contents"]
        whole = record["sha256"] == _digest(contents)
        manifest = Manifest(**contents)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: it cannot be read") from error
    if not whole:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not the one it was written with")
    return manifest


def verify(folder: Path) -> Manifest:
    """The manifest of a folder whose files are those it names, bit for bit.

    What it names is never opened; what is opened was found in the folder, and lies there itself.

    Raises:
      CheckpointError: naming the first file that is damaged, missing, too many or no plain file.
    """
    manifest = read(folder)
    found = set(_plain_files(folder))
    for name in sorted(manifest.files.keys() - found):
        raise CheckpointError(f"{folder / name} is missing")
    for name in sorted(found - manifest.files.keys()):
        raise CheckpointError(f"{folder / name} is not of this checkpoint")
    paths = [folder / name for name in sorted(found)]
    few = sum(path.stat().st_size for path in paths) < _WORTH_THREADS
    with ThreadPoolExecutor() as pool:
        digests = map(_sha256, paths) if few else pool.map(_sha256, paths)
        for path, digest in zip(paths, digests, strict=True):
            if digest != manifest.files[path.relative_to(folder).as_posix()]:
                raise CheckpointError(
                    f"{path} is damaged: its SHA-256 is not the one it was saved with"
                )
    return manifest


def _plain_files(folder: Path) -> Iterator[str]:
    """The paths in a folder of all files that a manifest names."""
    for name in _walk(str(folder), ""):
        if name != NAME and name not in _LATER:
            yield name


def _walk(folder: str, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield prefix + entry.name
            else:
                kind = "a symbolic link" if entry.is_symlink() else "neither"
                raise CheckpointError(f"{entry.path} must be a plain file or folder; it is {kind}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(contents: object) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
