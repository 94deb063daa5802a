"""Checkpoints of the train state through Orbax: the last two, and the best one on valid."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental.multihost_utils import broadcast_one_to_all
from jax.sharding import SingleDeviceSharding

from flowjax_glow.training import manifest
from flowjax_glow.training.manifest import CheckpointError
from flowjax_glow.training.state import TrainState

# In the name of every folder that is being written or removed.
UNFINISHED = ".orbax-checkpoint-tmp"
# In that of one which was not as it had been saved.
DAMAGED = ".damaged"

# One to fall back to.
_LATEST = 2

# About the least that a file of arrays holds, in bytes: several can be verified at a time.
_FILE_SIZE = 2**23


class _Saving(NamedTuple):
    step: int
    valid: float | None
    arrays: dict[str, str]


class Checkpoints:
    """The checkpoints of a run, in `directory`, one folder a step.

    Keeps the last two, and the one with the lowest negative log-likelihood on valid. A folder comes to
    its name when all of it is there, with a manifest of SHA-256 (training.manifest): what was saved is
    found as it was, or not at all. Saving is asynchronous, and what keeps a state from the disk is
    raised by the next save, by wait or by close: leave the context, or call close. All processes of a
    run open, save and restore together, into one directory that all see, and the first writes.

    create: makes the directory, clears what a killed run left unfinished in it, verifies all
    checkpoints, and sets aside those that are damaged with a warning, so that a run falls back to the
    one before.

    Raises:
      FileNotFoundError: without create, where there is no such directory.
      CheckpointError: with create, where there are checkpoints and all are damaged; nothing is changed.
    """

    def __init__(self, directory: str | os.PathLike[str], *, create: bool = True):
        self._directory = Path(os.path.abspath(directory))
        self._saving: _Saving | None = None
        self._verified: set[int] = set()
        if create:
            _on_the_first_process(self._tidy)
            self._verified = set(self._on_disk())
        elif not self._directory.is_dir():
            raise FileNotFoundError(f"there is no folder of checkpoints at {self._directory}")
        self._valid = {step: _valid(self._folder(step)) for step in self._on_disk()}
        self._checkpointer = ocp.AsyncCheckpointer(
            ocp.PyTreeCheckpointHandler(),
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._complete),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is being saved.

        Raises:
          CheckpointError: where that failed.
        """
        try:
            self.wait()
        finally:
            self._checkpointer.close()

    def wait(self) -> None:
        """Waits for what is being saved to be on the disk; then removes what need not be kept.

        Raises:
          CheckpointError: where saving failed.
        """
        if self._saving is None:
            return
        step, valid, _ = self._saving
        try:
            self._checkpointer.wait_until_finished()
        except Exception as error:  # the disk's, TensorStore's or a message's between processes
            raise _not_saved(self._folder(step), error) from error
        finally:
            self._saving = None
        self._valid[step] = valid
        self._verified.add(step)
        _on_the_first_process(self._prune)
        self._valid = {step: self._valid[step] for step in self._kept()}

    @property
    def latest_step(self) -> int | None:
        """The last step that is on the disk; None where there is none."""
        steps = set(self._valid)
        if self._saving is not None and self._folder(self._saving.step).exists():
            steps.add(self._saving.step)
        return max(steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The step with the lowest negative log-likelihood on valid; None where there is none.

        Raises:
          CheckpointError: where that of a step can no longer be read.
        """
        for step in self._valid:
            if step not in self._verified:
                manifest.read(self._folder(step))
        return self._best()

    def valid(self, step: int) -> float | None:
        """The negative log-likelihood on valid that a step on the disk was saved with."""
        return self._valid[step]

    def save(self, state: TrainState, valid: float | None) -> None:
        """Saves the state under its step, with its negative log-likelihood on valid if it is known.

        A step that is there already is left as it is, but for that number where it had none.

        Raises:
          CheckpointError: where a value of the state is not finite, the save before failed, or this one
            has at once.
        """
        self.wait()
        step, arrays = int(state.step), _to_arrays(state)
        if step in self._valid:
            if valid is not None and self._valid[step] is None:
                partial = self._directory / f"{step}{UNFINISHED}.manifest"
                try:
                    _on_the_first_process(
                        lambda: manifest.set_valid(self._folder(step), valid, partial)
                    )
                except OSError as error:
                    raise _not_saved(self._folder(step), error) from error
                self._valid[step] = valid
            return
        leaves = _by_path(arrays)
        finite = jax.device_get(_finite(leaves))
        if bad := [path for path, is_finite in finite.items() if not is_finite]:
            raise CheckpointError(
                f"a checkpoint must hold finite values alone; at step {step} it would hold others in "
                f"{', '.join(bad)}"
            )
        self._saving = _Saving(step, valid, _described(leaves))
        try:
            args = ocp.args.PyTreeSave(arrays, ocdbt_target_data_file_size=_FILE_SIZE)
            self._checkpointer.save(self._folder(step), args=args)
        except Exception as error:  # as in wait
            self._saving = None
            raise _not_saved(self._folder(step), error) from error

    def restore(
        self, step: int, like: TrainState, shardings: Callable[[Any], Any] | None = None
    ) -> TrainState:
        """The state of a step, wherever it was saved.

        like: has its shapes and dtypes. shardings: of a tree of arrays, the tree of their shardings; by
        default all are on one device.

        Raises:
          CheckpointError: where a file is not as it was saved, with its name.
          ValueError: where `like` is another config's, with the path of every array that differs.
        """
        folder = self._folder(step)
        if step not in self._verified:
            _on_the_first_process(lambda: manifest.verify(folder))
        shapes = jax.eval_shape(_to_arrays, like)
        _check_same(folder, manifest.read(folder).arrays, _described(_by_path(shapes)))
        target = jax.tree.map(
            lambda a, sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding),
            shapes,
            (shardings or _on_one_device)(shapes),
        )
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        args = ocp.args.PyTreeRestore(target, restore_args=restore_args)
        arrays: Any = self._checkpointer.restore(folder, args=args)
        return TrainState(**{**arrays, "key": jax.random.wrap_key_data(arrays["key"])})

    def _folder(self, step: int) -> Path:
        return self._directory / str(step)

    def _on_disk(self) -> list[int]:
        return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdecimal())

    def _best(self) -> int | None:
        known = {step: valid for step, valid in self._valid.items() if valid is not None}
        return min(known, key=lambda step: known[step], default=None)

    def _kept(self) -> set[int]:
        best = self._best()
        return {*sorted(self._valid)[-_LATEST:], *([] if best is None else [best])}

    def _complete(self) -> None:
        """Writes the manifest of what is being saved, just before its folder comes to its name."""
        assert self._saving is not None
        step, valid, arrays = self._saving
        manifest.write(self._directory / f"{step}{UNFINISHED}", arrays, valid)

    def _prune(self) -> None:
        for step in self._valid.keys() - self._kept():
            # Under its own name, a folder half removed would be a damaged one.
            removed = self._folder(step).rename(self._directory / f"{step}{UNFINISHED}.removed")
            shutil.rmtree(removed)

    def _tidy(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in self._directory.glob(f"*{UNFINISHED}*"):
            _remove(path)
        damaged = {}
        for step in self._on_disk():
            try:
                manifest.verify(self._folder(step))
            except CheckpointError as error:
                damaged[step] = error
        if damaged and len(damaged) == len(self._on_disk()):
            raise CheckpointError(
                f"every checkpoint in {self._directory} is damaged; put back a good copy of one, or "
                f"remove them to begin again: {'; '.join(map(str, damaged.values()))}"
            )
        for step, error in damaged.items():
            aside = self._directory / f"{step}{DAMAGED}"
            _remove(aside)
            self._folder(step).rename(aside)
            print(
                f"warning: step {step} is left out, and is now {aside}: {error}",
                file=sys.stderr,
                flush=True,
            )


def _on_the_first_process(action: Callable[[], Any]) -> None:
    """Runs it there; the others wait for it, and all raise where it does."""
    error = None
    if jax.process_index() == 0:
        try:
            action()
        except (CheckpointError, OSError) as raised:
            error = raised
    if jax.process_count() > 1 and broadcast_one_to_all(np.asarray(error is not None)):
        error = error or CheckpointError("the first process stopped at a checkpoint, and says why")
    if error is not None:
        raise error


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _valid(folder: Path) -> float | None:
    try:
        return manifest.read(folder).valid
    except CheckpointError:  # which best_step and restore raise
        return None


def _not_saved(folder: Path, error: Exception) -> CheckpointError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"{folder} could not be saved, and those before it are as they were; make room for it, and run "
        f"again to go on from them: {why}"
    )


def _check_same(folder: Path, saved: dict[str, str], wanted: dict[str, str]) -> None:
    differ = [
        f"{path} is {saved.get(path, 'absent')} there, {wanted.get(path, 'absent')} here"
        for path in sorted(saved.keys() | wanted.keys())
        if saved.get(path) != wanted.get(path)
    ]
    if differ:
        raise ValueError(f"{folder} must be of this config; {len(differ)} differ: {'; '.join(differ)}")


def _by_path(arrays: dict[str, Any]) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _described(leaves: dict[str, Any]) -> dict[str, str]:
    return {path: f"{leaf.dtype} {leaf.shape}" for path, leaf in leaves.items()}


@jax.jit
def _finite(leaves: dict[str, Any]) -> dict[str, Any]:
    return {
        path: jnp.all(jnp.isfinite(leaf))
        for path, leaf in leaves.items()
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


def _on_one_device(tree: Any) -> Any:
    device = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda _: device, tree)


def _to_arrays(state: TrainState) -> dict[str, Any]:
    return {**state._asdict(), "key": jax.random.key_data(state.key)}
