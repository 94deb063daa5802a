"""Checkpoints of the train state through Orbax: the last one, and the best one on valid."""

import os
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import checkpoint_managers as policies

from flowjax_glow.training.state import TrainState

METRIC = "valid"


class Checkpoints:
    """The checkpoints of a run, in `directory`.

    Keeps the latest and the one with the lowest negative log-likelihood on valid. Saving is
    asynchronous; leave the context, or call close, to have it on disk. All processes of a run open,
    save and restore together, into one directory that all of them see. create: makes the directory, and
    clears what a killed run left half saved in it.
    """

    def __init__(self, directory: str | os.PathLike[str], *, create: bool = True):
        self._manager = ocp.CheckpointManager(
            os.path.abspath(directory),
            options=ocp.CheckpointManagerOptions(
                create=create,
                best_fn=_metric,
                best_mode="min",
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(n=1),
                        policies.BestN(
                            get_metric_fn=_metric,
                            reverse=True,  # ascending: the lowest is the best
                            n=1,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                cleanup_tmp_directories=create,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is being saved, and raises where that failed."""
        self._manager.wait_until_finished()
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """The last step saved; None where there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The step with the lowest negative log-likelihood on valid; None where there is none."""
        return self._manager.best_step()

    def save(self, state: TrainState, valid: float | None) -> None:
        """Saves the state under its step, with its negative log-likelihood on valid if it is known."""
        self._manager.save(
            int(state.step),
            args=ocp.args.StandardSave(_to_arrays(state)),  # type: ignore[reportCallIssue]
            metrics=None if valid is None else {METRIC: valid},
        )

    def restore(
        self, step: int, like: TrainState, shardings: Callable[[Any], Any] | None = None
    ) -> TrainState:
        """The state of a step, wherever it was saved; shapes and dtypes of `like`.

        shardings: of a tree of arrays, the tree of their shardings; all on one device by default.
        """
        shapes = jax.eval_shape(_to_arrays, like)
        target = jax.tree.map(
            lambda a, sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding),
            shapes,
            (shardings or _on_one_device)(shapes),
        )
        arrays: Any = self._manager.restore(
            step,
            args=ocp.args.StandardRestore(target),  # type: ignore[reportCallIssue]
        )
        return TrainState(**{**arrays, "key": jax.random.wrap_key_data(arrays["key"])})


def _metric(metrics: dict[str, float]) -> float:
    return metrics[METRIC]


def _on_one_device(tree: Any) -> Any:
    device = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda _: device, tree)


def _to_arrays(state: TrainState) -> dict[str, Any]:
    return {**state._asdict(), "key": jax.random.key_data(state.key)}
