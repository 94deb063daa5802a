"""Preemption: SIGTERM says that the machine is wanted back; first what was trained is to be saved."""

import signal
import threading

import jax
from jax.experimental.multihost_utils import reached_preemption_sync_point


class PreemptedError(RuntimeError):
    """SIGTERM came; what was reached is saved."""


class Preemption:
    """Whether SIGTERM came while the block runs; it does not end the process there, however often.

    In a single process a handler of the main thread notes it. Python runs that between two of its own
    instructions, so after a compilation or device call that is under way. Where SIGTERM came and the
    block ended without an error all the same, the handler that was there before is given it.

    Of several processes JAX's own service notes it in any of them.

    came: whether this process has to stop, and may without asking others: never one of several.
    """

    def __init__(self):
        self.came = False
        self._calls = 0
        self._handles = False

    def __enter__(self) -> "Preemption":
        is_main = threading.current_thread() is threading.main_thread()
        if jax.process_count() == 1 and is_main:  # no other thread may set handlers
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._handles = True
        return self

    def _note(self, *_: object) -> None:
        self.came = True

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if not self._handles:
            return
        signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)  # None: it was not Python's
        if self.came and error is None:
            signal.raise_signal(signal.SIGTERM)

    def stops(self) -> bool:
        """Whether to save and stop here; of several processes, all at the same call of it."""
        if jax.process_count() == 1:
            return self.came
        # JAX stops at the number after the largest that any process gave. Steps may leave it out.
        self._calls += 1
        return reached_preemption_sync_point(self._calls)
