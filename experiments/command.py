"""What every command does first, and how it ends on a mistake."""

import contextlib
import sys
from collections.abc import Iterator

from absl import app, flags, logging


def start() -> None:
    """Keeps the libraries' own messages to warnings; --verbosity=0 shows them."""
    app.call_after_init(_quiet_unless_asked)


def _quiet_unless_asked() -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)


@contextlib.contextmanager
def one_line(*mistakes: type[Exception], exit_code: int = 2) -> Iterator[None]:
    """Ends the program with the message alone where the block raises one of `mistakes`."""
    try:
        yield
    except mistakes as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(exit_code) from error
