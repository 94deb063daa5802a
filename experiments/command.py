"""What every command does first, how it reads its flags, and how it ends on a mistake.

--config=FILE.py runs the file, and takes what its get_config() returns. --config=FILE.json runs
nothing: it sets fields over those of configs/default.py; a run's own config.json is such a file. After
either, --config.FIELD=VALUE sets one field more.

A mistake ends with exit code 2 and one line on stderr.
"""

import contextlib
import functools
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from experiments.configs import default
from flowjax_glow.training.checks import check_config, check_fields, nearest
from flowjax_glow.training.config import Config, flatten, read_json

flags.disclaim_key_flags()  # so that --help of a command shows --config as its own

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)(?:=.*)?", re.DOTALL)
_KINDS = {"int": "; it takes a whole number", "float": "; it takes a number"}
_KINDS["bool"] = "; it takes True or False"


def run_main(main: Callable[[list[str]], Any], *, arguments: bool = False) -> None:
    """Runs a command's main with its flags read. arguments: whether it takes any that are no flags."""
    start()
    app.run(main, flags_parser=functools.partial(read_flags, arguments=arguments))


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
    """Ends the program with the message, on one line, where the block raises one of `mistakes`.

    --verbosity=0 shows where it was raised, too.
    """
    try:
        yield
    except mistakes as error:
        logging.info("what it was raised by:", exc_info=error)
        print("error:", *str(error).split(), file=sys.stderr)
        raise SystemExit(exit_code) from error


def check_picture(path: str, flag: str) -> None:
    """Whether the name of a file ends in the format of a picture.

    Raises:
      ValueError: naming the flag it came by.
    """
    from PIL import Image

    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{flag} must end in the format of a picture, such as .png; got {path!r}")


def define_config(
    help_string: str, *, values: flags.FlagValues = flags.FLAGS, argv: list[str] | None = None
) -> flags.FlagHolder[Config]:
    """The flag --config, and --config.FIELD for every field of the config it names.

    values, argv: other flags than the program's, and the line that they are read from.
    """
    with one_line(flags.Error):  # a --flagfile is read here
        holder = config_flags.DEFINE_config_file(
            "config", None, help_string, flag_values=values, sys_argv=argv
        )
    values["config"].parser = _ConfigParser(argv)
    return holder


def read_flags(argv: list[str], *, arguments: bool = False) -> list[str]:
    """parse_flags of the program's own flags; arguments: whether there may be more than flags.

    Raises:
      SystemExit: with exit code 2, on a mistake.
    """
    with one_line(ValueError):
        rest = parse_flags(argv, flags.FLAGS)
        if len(rest) > 1 and not arguments:
            raise ValueError(f"what follows must be flags, --name=value; got {rest[1]!r}")
    return rest


def parse_flags(argv: list[str], values: flags.FlagValues) -> list[str]:
    """What of a command line is no flag, its name first; values are set, and a config is checked.

    Raises:
      ValueError: for a mistake, in one line.
    """
    try:
        rest = values(argv)
    # Those that are no flags.Error come from ml_collections, of overrides of no field.
    except (flags.Error, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise ValueError(_in_words(error, values)) from error
    if "config" in values and values["config"].value is not None:
        check_config(values["config"].value)
    return rest


def _in_words(error: Exception, values: flags.FlagValues) -> str:
    message = " ".join(str(error).split())
    lacking = re.match(r"flag --(\w+)=None: ", message)
    if lacking:
        return f"--{lacking[1]} must be given; got none"
    illegal = re.match(r"flag (--([\w.]+)=.*)", message)
    if illegal and illegal[2] in values:
        return f"{illegal[1]}{_KINDS.get(values[illegal[2]].flag_type(), '')}"
    return message


class _ConfigParser(flags.ArgumentParser):
    """read_file of a path, and whether the overrides in argv are of fields that it has."""

    def __init__(self, argv: list[str] | None):
        self._argv = argv

    def parse(self, argument: str) -> Config:
        path = argument
        try:
            config = read_file(path)
            for word in sys.argv if self._argv is None else self._argv:
                override = _OVERRIDE.fullmatch(word)
                if override and not _has(config, override[1]):
                    near = nearest(override[1], dict(flatten(config)))
                    raise ValueError(f"there is no field {override[1]} in {path}; got {word}{near}")
        except ValueError as error:
            raise flags.Error(str(error)) from error  # of a ValueError absl makes another message
        config.lock()
        return config


def _has(config: Config, field: str) -> bool:
    for name in field.split("."):
        if not isinstance(config, ConfigDict) or name not in config:
            return False
        config = config[name]
    return True


def read_file(path: str) -> Config:
    """The config of FILE.py, FILE.py:ARGUMENT or FILE.json.

    Raises:
      ValueError: for a file that gives none, in one line.
    """
    file, colon, argument = path.partition(":")
    if not Path(file).is_file():
        others = [*Path(file).parent.glob("*.py"), *Path("experiments/configs").glob("*.py")]
        raise ValueError(
            f"--config must name a file, FILE.py or FILE.json; there is no {file!r}"
            f"{_nearest_file(file, others)}"
        )
    if file.endswith(".json"):
        if colon:
            raise ValueError(f"--config=FILE.json must have no argument; got {argument!r} after {file}")
        return _from_json(Path(file))
    try:
        get_config = runpy.run_path(file).get("get_config")
        if get_config is None:
            raise ValueError("it must have a function get_config(), which returns a ConfigDict")
        config = get_config(argument) if colon else get_config()
        if not isinstance(config, ConfigDict):
            raise ValueError(f"get_config() must return a ConfigDict; got {config!r}")
    except Exception as error:  # it is the user's program, which may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        line = f", line {lines[-1]}" if lines else ""
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"--config={path}{line}: {kind}{' '.join(str(error).split())}") from error
    return config


def _nearest_file(file: str, others: list[Path]) -> str:
    by_stem = {other.stem: str(other) for other in others if other.stem != "__init__"}
    found = nearest(Path(file).stem, by_stem).removeprefix("; did you mean ").removesuffix("?")
    return f"; did you mean {by_stem[found]}?" if found else ""


def _from_json(file: Path) -> Config:
    """The fields of a JSON file over the defaults.

    Sections that say what there is (another model with its hyperparameters, the noise, the paper) are
    the file's alone.
    """
    given = read_json(file)
    config = default.get_config()
    try:
        flat = dict(flatten(given))
        check_fields(flat)
    except ValueError as error:
        raise ValueError(f"--config={file}: {error}") from error
    if flat.get("model.name", config.model.name) != config.model.name:
        config.model = ConfigDict()
    if "dequantization" in given:
        config.dequantization = ConfigDict()
    for field, value in flat.items():
        section, _, name = field.rpartition(".")
        holder = config
        for part in filter(None, section.split(".")):
            if part not in holder:  # a section of paper
                holder[part] = ConfigDict()
            holder = holder[part]
        holder[name] = value
    return config
