"""What a run reports while it goes: metrics.jsonl, TensorBoard, and a bar or lines for a person."""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


class MetricsLog:
    """Scalars and pictures of a run: `metrics.jsonl`, one record a line, and TensorBoard.

    Opened at the step a run goes on from; what was logged after that step is taken back, so that an
    interrupted run leaves the same log as one that was not. In a line, "seconds" is how long the run
    took to get there since the log was opened at step 0: all it did, evaluations too, but neither the
    time between a stop and going on, nor steps that a stop took back.
    """

    def __init__(self, workdir: str | os.PathLike[str], *, from_step: int = 0):
        from tensorboardX import SummaryWriter

        path = Path(workdir) / "metrics.jsonl"
        kept = [r for r in read_metrics(workdir) if r["step"] <= from_step]
        partial = path.with_suffix(".jsonl.tmp")
        partial.write_text("".join(json.dumps(r) + "\n" for r in kept))
        partial.replace(path)
        self._file = path.open("a", buffering=1)
        self._start = time.monotonic() - (_seconds(kept) or 0.0)
        self._board = SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=from_step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._board.close()

    def scalars(self, step: int, **values: float | int) -> None:
        """Logs numbers under a step, and the run's seconds."""
        self._file.write(json.dumps({"step": step, **values, "seconds": self._elapsed()}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def warning(self, step: int, text: str) -> None:
        """Logs what a person should look at, under a step."""
        self._file.write(json.dumps({"step": step, "warning": text, "seconds": self._elapsed()}) + "\n")
        self._board.add_text("warning", text, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Logs a picture, uint8 (height, width, channels)."""
        self._board.add_image(name, image, step, dataformats="HWC")

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._start, 3)


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, in order; none where the file is absent.

    A last line that a killed run left half written is not a record.
    """
    path = Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]


def training_seconds(workdir: str | os.PathLike[str]) -> float | None:
    """How long a run has trained, as MetricsLog counts it; None where it logged nothing."""
    return _seconds(read_metrics(workdir))


def _seconds(records: list[dict[str, Any]]) -> float | None:
    return records[-1]["seconds"] if records else None


class Progress:
    """A bar with the loss, examples/s and the time left; plain lines where the output is no terminal.

    unit: of the loss, as it is to be written. what: is counted. stderr: whether it goes there.
    """

    def __init__(
        self,
        total: int,
        *,
        unit: str,
        start: int = 0,
        what: str = "step",
        stderr: bool = False,
        seconds_between_lines: float = 15.0,
    ):
        self._unit, self._what = unit, what
        self._file = sys.stderr if stderr else sys.stdout
        self._total, self._between, self._last = total, seconds_between_lines, -math.inf
        self._started, self._start = time.monotonic(), start
        self._bar = None
        if self._file.isatty():
            from rich import console, progress

            self._bar = progress.Progress(
                progress.TextColumn("{task.fields[what]}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[numbers]}"),
                progress.TimeRemainingColumn(),
                console=console.Console(stderr=stderr),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=total, what=what, numbers="", completed=start)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, loss: float | None, examples_per_second: float | None = None) -> None:
        """Shows how far it is; a number is None while it is not known."""
        numbers = "" if loss is None else f"{loss:.3f} {self._unit}"
        if examples_per_second is not None:
            numbers += f"  {examples_per_second:,.0f} examples/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, numbers=numbers)
            return
        now = time.monotonic()
        if now - self._last < self._between and step != self._total:
            return
        self._last = now
        left = (now - self._started) / max(step - self._start, 1) * (self._total - step)
        self.say(f"{self._what} {step:>6}/{self._total}  {numbers}  {left:,.0f} s left")

    def say(self, line: str) -> None:
        """Prints a line, above the bar where there is one."""
        if self._bar is None:
            print(line, file=self._file, flush=True)
        else:
            self._bar.console.print(line)


class Silent:
    """In place of a MetricsLog or a Progress, on every process but the first."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def _ignore(self, *_: Any, **__: Any) -> None:
        pass

    scalars = warning = image = update = say = _ignore
