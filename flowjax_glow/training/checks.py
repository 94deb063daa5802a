"""Mistakes in a config, told before anything compiles or is written: names, types and ranges.

What only the data, the devices or another field can tell is checked where it is known, and before the
first compilation too: experiment.build, drivers.check_devices, and the model's own constructor.
"""

import difflib
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flowjax_glow import models
from flowjax_glow.training.config import Config


class Rule(NamedTuple):
    """What a field may hold.

    kind: int, float, bool, str, or tuple for whole numbers in a row. least, most: of a number; above,
    below: the same without the bound. none: whether None may stand there. infinite: whether inf may.
    """

    kind: type
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    none: bool = False
    infinite: bool = False
    one_of: tuple[str, ...] = ()


_COUNT, _TEXT, _SWITCH, _NUMBER = Rule(int, least=1), Rule(str), Rule(bool), Rule(float)
_COUNT_OR_NONE, _TEXT_OR_NONE = Rule(int, least=1, none=True), Rule(str, none=True)

# Every field of a config but the hyperparameters, which the models know, and what a paper reports.
# Ranges that stand here are checked nowhere else.
FIELDS: dict[str, Rule] = {
    "seed": Rule(int, least=0, most=2**32 - 1),
    "data.name": _TEXT,
    "data.build": _TEXT_OR_NONE,
    "data.version": _TEXT_OR_NONE,
    "data.path": _TEXT_OR_NONE,
    "data.data_dir": _TEXT_OR_NONE,
    "data.download": _SWITCH,
    "data.memory_gib": Rule(float, least=0),
    "data.crop": _COUNT_OR_NONE,
    "data.image_size": _COUNT_OR_NONE,
    "data.pad": Rule(int, least=0),
    "data.channels": _COUNT_OR_NONE,
    "data.random_crop": _COUNT_OR_NONE,
    "data.train_examples": _COUNT_OR_NONE,
    "data.valid_examples": _COUNT_OR_NONE,
    "data.n_bits": Rule(int, least=1, most=8),
    "data.flip": _SWITCH,
    "data.shift": Rule(float, least=0, below=1),
    "optimizer.name": _TEXT,
    "optimizer.learning_rate": Rule(float, above=0),
    "optimizer.b1": _NUMBER,
    "optimizer.momentum_start": Rule(int),
    "optimizer.b2": _NUMBER,
    "optimizer.eps": _NUMBER,
    "optimizer.schedule": _TEXT,
    "optimizer.warmup_examples": Rule(int),
    "optimizer.final_learning_rate": _NUMBER,
    "optimizer.decay_rate": _NUMBER,
    "optimizer.decay_steps": Rule(int),
    "optimizer.weight_decay": _NUMBER,
    "optimizer.magnitude_l2": _NUMBER,
    "optimizer.gradient_scale": _NUMBER,
    "optimizer.clip_norm": Rule(float, infinite=True),
    "optimizer.running_momentum": _NUMBER,
    "train.steps": _COUNT,
    "train.batch_size": _COUNT,
    "train.init_examples": _COUNT,
    "train.accumulate": Rule(int),
    "train.steps_per_call": Rule(int),
    "train.average_decay": Rule(float, least=0, most=1),
    "train.log_every": _COUNT,
    "train.eval_every": _COUNT,
    "train.max_bad_steps": _COUNT,
    "train.watch": Rule(int, least=0),
    "train.watch_tolerance": Rule(float, above=0),
    "parallel.driver": _TEXT,
    "parallel.fsdp": Rule(int),
    "parallel.distributed": _SWITCH,
    "parallel.platform": Rule(str, none=True, one_of=("cpu", "gpu", "tpu")),
    "eval.weights": Rule(str, one_of=("average", "raw")),
    "eval.draws": _COUNT,
    "eval.importance": _COUNT,
    "eval.samples": _COUNT,
    "eval.batch_size": _COUNT,
}

# Of the hyperparameters that are whole numbers, those of which 0 means something.
_MAY_BE_ZERO = ("end_depth", "exact_terms", "blocks", "depths")

_IN_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a string",
    tuple: "a tuple of whole numbers",
}


def check_config(config: Config, *, whole: bool = True) -> None:
    """Whether every field is one that is known, of its type, and in its range.

    whole: whether every field must be there, as it must to train; the config of a run by an older
    version may lack some.

    Raises:
      ValueError: naming the field, what it must be, and what it is.
    """
    flat = dict(flatten(config))
    check_fields(flat)
    missing = sorted({*FIELDS, "model.name", "dequantization.name"} - flat.keys())
    if whole and missing:
        raise ValueError(
            f"config must have a field {missing[0]}; it is missing; "
            "experiments/configs/default.py has every field"
        )


def check_fields(flat: Mapping[str, Any]) -> None:
    """check_config for some fields, by their dotted names; none has to be there."""
    known = FIELDS | {"model.name": Rule(str, one_of=tuple(sorted(models.MODELS)))}
    known |= {"dequantization.name": Rule(str, one_of=("uniform", "variational"))}
    for name in known.keys() & flat.keys():
        check_field(name, flat[name], known[name])
    model = flat.get("model.name", "glow")
    hyperparameters = _hyperparameters(models.MODELS[model])
    for section in ("model", "eval.model"):
        known |= {f"{section}.{name}": rule for name, rule in hyperparameters.items()}
    if flat.get("dequantization.name") == "variational":
        noise = _hyperparameters(models.dequantization_flow)
        known |= {f"dequantization.{name}": rule for name, rule in noise.items()}
    sections = {name.rpartition(".")[0] for name in known}
    for name, value in flat.items():
        if name in sections:
            raise ValueError(f"{name} must be a section, with fields of its own; got {value!r}")
        if name in known:
            check_field(name, value, known[name])
        elif not name.startswith("paper."):
            of = f" of model {model}" if "model." in name else ""
            raise ValueError(
                f"there is no field {name}{of}; got {name} = {value!r}{nearest(name, known)}"
            )


def check_field(name: str, value: Any, rule: Rule) -> None:
    """Whether a field may hold a value.

    Raises:
      ValueError: naming the field, what it must be, and what it is.
    """
    if not (value is None and rule.none):
        _check_value(name, value, rule, " or None" if rule.none else "")


def _check_value(name: str, value: Any, rule: Rule, also: str) -> None:
    if not _is_a(value, rule.kind):
        kind = type(value).__name__
        raise ValueError(f"{name} must be {_IN_WORDS[rule.kind]}{also}; got {value!r}, a {kind}")
    if rule.one_of and value not in rule.one_of:
        names, near = ", ".join(rule.one_of), nearest(value, rule.one_of)
        raise ValueError(f"{name} must be one of {names}{also}; got {value!r}{near}")
    for number in value if rule.kind is tuple else [value] if rule.kind in (int, float) else []:
        if not (math.isfinite(number) or (rule.infinite and number == math.inf)):
            raise ValueError(f"{name} must be finite; got {number}")
        for bound, holds, words in (
            (rule.least, number >= rule.least, "at least"),
            (rule.most, number <= rule.most, "at most"),
            (rule.above, number > rule.above, "above"),
            (rule.below, number < rule.below, "below"),
        ):
            if not holds and math.isfinite(bound):
                raise ValueError(f"{name} must be {words} {bound}{also}; got {number}")


def _is_a(value: Any, kind: type) -> bool:
    """Whether a value is of a kind; True is no number, and a whole number is a number too."""
    if kind is tuple:
        return isinstance(value, tuple | list) and all(_is_a(entry, int) for entry in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def nearest(name: str, known: Iterable[str]) -> str:
    """What ends a message with the most similar of the names that are known; "" where none is similar.

    Of a dotted name the last part is looked for: in its own section, and failing that in the others,
    where it must be closer.
    """
    section, _, last = name.rpartition(".")
    places: dict[str, str] = {}
    inside: dict[str, str] = {}
    for other in known:
        where, _, what = other.rpartition(".")
        places.setdefault(what, other)
        if where == section:
            inside[what] = other
    for among, similarity in (places, 1.0), (inside, 0.6), (places, 0.8):
        found = difflib.get_close_matches(last, among, 1, similarity)
        if found:
            return f"; did you mean {among[found[0]]}?"
    return f"; {section} has {', '.join(inside)}" if section and inside else ""


def _hyperparameters(build: Callable[..., Any]) -> dict[str, Rule]:
    """The rules of a constructor's keyword arguments, by its signature."""
    parameters = inspect.signature(build).parameters.items()
    return {name: _rule_of(name, p.annotation) for name, p in parameters if p.kind == p.KEYWORD_ONLY}


def _rule_of(name: str, annotation: Any) -> Rule:
    kinds = typing.get_args(annotation) or (annotation,)
    least = 0 if name in _MAY_BE_ZERO else 1
    none = type(None) in kinds
    if name == "dtype":
        return Rule(str, none=True, one_of=("float32", "bfloat16", "float16", "float64"))
    if typing.get_origin(annotation) is Sequence:
        return Rule(tuple, least=least)
    if int in kinds:
        return Rule(int, least=least, none=none)
    if name == "dropout":
        return Rule(float, least=0, below=1)
    return Rule(next((kind for kind in kinds if kind in (float, bool, str)), object), none=none)


def flatten(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a config or dict by their dotted names; a section without fields has none."""
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
