"""The table of results: many records of evaluations in Markdown, beside the papers' numbers.

A number is marked wherever its protocol is not the paper's, as the config's `paper` states that.
"""

import json
import math
import re
import statistics
from collections.abc import Sequence
from typing import Any

from flowjax_glow.likelihood import unit_of
from flowjax_glow.report.record import duration

Record = dict[str, Any]

# What runs of several seeds have in common.
_COMMON = (
    *("config", "model", "data_set", "build", "version", "split", "examples", "n_bins", "n_bits"),
    *("dequantization", "importance_samples", "draws", "weights", "parameters", "eval_model", "paper"),
)
# What else of a record the table needs; one of vectors has more.
_OTHER = ("run", "standard_error", "training_seed", "training_seconds")

_LEGEND = (
    "± is the standard error over the examples; of several seeds the number is the mean, and ± the "
    "standard deviation. K: importance samples in a bound."
)


def is_record(value: Any) -> bool:
    """Whether this is a record that the table can show."""
    needed = {*_COMMON, *_OTHER}
    return isinstance(value, dict) and needed <= value.keys() and _field(value) in value


def results_table(records: Sequence[Record]) -> str:
    """Markdown: images in bits per dimension, and vectors in nats in a table of their own.

    Runs of one config that differ in their seed are one row: their mean and standard deviation. A seed
    that comes again begins another row. Rows are in the order of the data and the number; a column that
    nothing is known for is left out.
    """
    groups = sorted(_groups(records), key=_order)
    images = [group for group in groups if group[0]["n_bins"] is not None]
    vectors = [group for group in groups if group[0]["n_bins"] is None]
    tables = [_table(some) for some in (images, vectors) if some]
    return "\n\n".join([*tables, _LEGEND]) + "\n"


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    groups: list[tuple[str, list[Record]]] = []
    for record in records:
        common = json.dumps([record[name] for name in _COMMON], sort_keys=True)
        for other, group in groups:
            seeds = {r["training_seed"] for r in group}
            if other == common and record["training_seed"] not in seeds:
                group.append(record)
                break
        else:
            groups.append((common, [record]))
    return [group for _, group in groups]


def _order(group: list[Record]) -> tuple[Any, ...]:
    first = group[0]
    names = [str(first[name] or "") for name in ("data_set", "build", "split")]
    return *names, first["n_bins"] or 0, _mean(group, _field(first)), first["run"]


def _table(groups: list[list[Record]]) -> str:
    notes: list[str] = []
    rows = [_row(group, notes) for group in groups]
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [names, ["---"] * len(names)]
    lines += [[row[name].replace("|", r"\|") for name in names] for row in rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    numbered = "\n".join(f"{i}. {note}" for i, note in enumerate(notes, start=1))
    return f"{table}\n\n{numbered}" if notes else table


def _row(group: list[Record], notes: list[str]) -> dict[str, str]:
    """A cell by the name of its column; notes gets what is not there yet."""
    r, field = group[0], _field(group[0])
    row = {"run": _run_name(group), "model": r["model"], "data set": _data_set(r)}
    if r["n_bins"] is not None:
        row |= {
            "bits": f"{r['n_bins']} levels" if r["n_bits"] is None else str(r["n_bits"]),
            "dequantization": r["dequantization"],
            "K": str(r["importance_samples"]),
        }
    row |= {
        "draws": str(r["draws"]),
        "weights": r["weights"],
        "parameters": f"{r['parameters']:,}",
        unit_of(r["n_bins"]).symbol: _number(group, field) + _mark(r, notes),
    }
    if r["n_bins"] is None:
        for name, of in (("own units", "nats_in_own_units"), ("true density", "nats_of_truth")):
            row[name] = "" if r[of] in (None, r[field]) else f"{_mean(group, of):.3f}"
    seconds = [other["training_seconds"] for other in group]
    time = "" if None in seconds else duration(statistics.mean(seconds))
    return row | {
        "paper": _paper(r["paper"], field),
        "seeds": str(len(group)) if len(group) > 1 else "",
        "training time": time,
    }


def _field(record: Record) -> str:
    return unit_of(record["n_bins"]).field


def _mean(group: list[Record], field: str) -> float:
    return statistics.mean(record[field] for record in group)


def _number(group: list[Record], field: str) -> str:
    """Three decimals as papers have them, and more where the error would be 0.000."""
    mean, error = _mean(group, field), group[0]["standard_error"]
    if len(group) > 1:
        error = statistics.stdev(record[field] for record in group)
    if error is None:
        return f"{mean:.3f}"
    decimals = 3
    if 0 < error < 1e-3:
        decimals = min(-math.floor(math.log10(error)), 6)
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}"


def _mark(record: Record, notes: list[str]) -> str:
    """The numbers of the notes on what differs from the paper; "" where nothing does."""
    numbers = []
    for note in _differences(record):
        if note not in notes:
            notes.append(note)
        numbers.append(notes.index(note) + 1)
    return f" <sup>{', '.join(map(str, sorted(numbers)))}</sup>" if numbers else ""


def _differences(record: Record) -> list[str]:
    paper, field = record["paper"], _field(record)
    if paper.get(field) is None:
        return []
    return [
        f"{name}: {record.get(name, 'not in the record')} against the paper's {theirs}"
        for name, theirs in paper.items()
        if name not in (field, "source") and theirs is not None and record.get(name) != theirs
    ]


def _paper(paper: dict[str, Any], field: str) -> str:
    number, source = paper.get(field), paper.get("source")
    if number is None:
        return ""
    linked = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source or "")
    return f"{number} ({linked})" if source else str(number)


def _data_set(record: Record) -> str:
    name, build, split = (record[key] for key in ("data_set", "build", "split"))
    return name + (f" ({build})" if build else "") + (f", {split}" if split != "test" else "")


def _run_name(group: list[Record]) -> str:
    """The run's folder; of several seeds what stands before the seed in all their names."""
    if len(group) == 1:
        return group[0]["run"]
    without = {re.sub(rf"(^|[-_.,])(seed|s)?[-_=]?{r['training_seed']}$", "", r["run"]) for r in group}
    shared = without.pop()
    return ", ".join(r["run"] for r in group) if without or not shared else shared
