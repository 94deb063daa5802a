"""What every command does first, and how it ends on a mistake."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import app, flags, logging


def start() -> None:
    """Keeps what is compiled for the next run, and the libraries' own messages to warnings.

    --verbosity=0 shows those.
    """
    app.call_after_init(_quiet_unless_asked)
    _keep_compiled()


def _quiet_unless_asked() -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)


def _keep_compiled() -> None:
    """Compiled programs are kept between runs; JAX_ENABLE_COMPILATION_CACHE=false turns that off.

    In $JAX_COMPILATION_CACHE_DIR, and failing that in flowjax_glow/jax of $XDG_CACHE_HOME or ~/.cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "flowjax_glow" / "jax"))
    # Those that compile fast are many: a quarter of the time that the cache spares.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@contextlib.contextmanager
def one_line(*mistakes: type[Exception], exit_code: int = 2) -> Iterator[None]:
    """Ends the program with the message alone where the block raises one of `mistakes`."""
    try:
        yield
    except mistakes as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(exit_code) from error
