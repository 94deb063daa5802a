"""What a field may hold, and a model's hyperparameters: mistakes told before anything is built."""

import difflib
import inspect
import math
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple


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


MOST = 2**31 - 1  # of whole numbers: JAX counts in int32

# Of the hyperparameters that are whole numbers, those of which 0 means something.
_MAY_BE_ZERO = ("end_depth", "exact_terms", "blocks", "depths")

_IN_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a string",
    tuple: "a tuple of whole numbers",
}


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
        if not (abs(number) <= sys.float_info.max or (rule.infinite and number == math.inf)):
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


def rules_of(build: Callable[..., Any]) -> dict[str, Rule]:
    """The rules of a constructor's hyperparameters, its keyword arguments, by its signature."""
    parameters = inspect.signature(build).parameters.items()
    return {name: _rule_of(name, p.annotation) for name, p in parameters if p.kind == p.KEYWORD_ONLY}


def _rule_of(name: str, annotation: Any) -> Rule:
    kinds = typing.get_args(annotation) or (annotation,)
    least = 0 if name in _MAY_BE_ZERO else 1
    none = type(None) in kinds
    if name == "dtype":
        return Rule(str, none=True, one_of=("float32", "bfloat16", "float16", "float64"))
    if typing.get_origin(annotation) is Sequence:
        return Rule(tuple, least=least, most=MOST)
    if int in kinds:
        return Rule(int, least=least, most=MOST, none=none)
    if name == "dropout":
        return Rule(float, least=0, below=1)
    return Rule(next((kind for kind in kinds if kind in (float, bool, str)), object), none=none)
