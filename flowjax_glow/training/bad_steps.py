"""Bad steps, as the loop learns of them: said, and after too many in a row the run stops.

A bad step is one whose loss, gradients or updates were not finite; it changed nothing: see
training/step.py. So the loop may look at a step long after it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

# Of names in a line.
_MOST_NAMES = 6


class NonFiniteError(RuntimeError):
    """Too many steps in a row were not finite; neither they nor a checkpoint hold anything of it."""


class BadSteps:
    """Looks at the metrics of device calls, in their order.

    names: step.tensors. most: so many bad steps in a row stop the run. say: prints a line; not one for
    every bad step, but for the first, and whenever there are twice as many.
    """

    def __init__(self, names: list[str], most: int, say: Callable[[str], None]):
        self._names, self._most, self._say = names, most, say
        self._next = 1

    def look(self, steps: range, metrics: dict[str, Any]) -> None:
        """Waits for the call that took these steps, counted from 0.

        Raises:
          NonFiniteError: naming the steps, and what was not finite in the last of them.
        """
        in_a_row = int(metrics["bad_in_a_row"])
        if in_a_row == 0:
            return
        bad_steps, finite = int(metrics["bad_steps"]), np.asarray(metrics["finite"])
        names = [name for name, is_finite in zip(self._names, finite, strict=True) if not is_finite]
        where = f"step {steps.stop}" if len(steps) == 1 else f"steps {steps.start + 1} to {steps.stop}"
        what = f"{where}: not finite: {_listed(names)}"
        if in_a_row >= self._most:
            raise NonFiniteError(
                f"{what}; {in_a_row} steps in a row changed nothing, of train.max_bad_steps = "
                f"{self._most}; the last checkpoint is good: go on from it with a lower "
                "optimizer.learning_rate, a longer optimizer.warmup_examples or a lower "
                "optimizer.clip_norm, in a new workdir. With model.memory = constant it may be the "
                "inverse that no longer holds: the same workdir goes on with model.memory = stored"
            )
        if bad_steps >= self._next:
            self._next = 2 * bad_steps
            self._say(f"{what}; it changed nothing; such steps so far: {bad_steps}")


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
