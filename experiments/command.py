"""What every command does first, and how it ends on a mistake."""

import contextlib
import sys
from collections.abc import Iterator

from absl import flags, logging


def start(*required: str) -> None:
    """Declares the required flags, and keeps the libraries' own messages to warnings."""
    flags.mark_flags_as_required(required)
    flags.FLAGS.set_default("verbosity", logging.WARNING)


@contextlib.contextmanager
def one_line(*mistakes: type[Exception], exit_code: int = 2) -> Iterator[None]:
    """Ends the program with the message alone where the block raises one of `mistakes`."""
    try:
        yield
    except mistakes as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(exit_code) from error
