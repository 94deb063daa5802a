"""Turns the records of many evaluations into a Markdown table, the papers' numbers beside ours.

python -m experiments.table runs/* [--out=results.md]

Takes folders of runs, of which it reads evaluation.json, and files of records, such as
runs/*/evaluation_importance=1024.json. What has no record is left out, and named in a line on stderr;
where nothing has one, the exit code is 2.
"""

import json
import sys
from pathlib import Path
from typing import Any

from absl import flags

from experiments.command import one_line, run_main
from flowjax_glow.report.record import read_record
from flowjax_glow.report.table import is_record, results_table

OUT = flags.DEFINE_string("out", None, "The table's file, in place of stdout.")


def main(argv: list[str]) -> None:
    """Prints the table, or writes it."""
    paths = dict.fromkeys(_file(Path(name)) for name in argv[1:])
    records = [record for path in paths if (record := _read(path)) is not None]
    with one_line(ValueError, OSError):
        if not records:
            raise ValueError("the arguments must be folders of evaluated runs, or records; found none")
        table = results_table(records)
        if OUT.value:
            Path(OUT.value).write_text(table)
        else:
            print(table, end="")


def _file(path: Path) -> Path:
    return path.resolve() / "evaluation.json" if path.is_dir() else path.resolve()


def _read(path: Path) -> dict[str, Any] | None:
    """The record in a file; None, and a line on stderr, where it has none."""
    try:
        record = read_record(path)
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError) as error:
        print(f"left out: {path}: {error}", file=sys.stderr)
        return None
    if not is_record(record):
        print(f"left out: {path} is not a record of this version's", file=sys.stderr)
        return None
    return record


if __name__ == "__main__":
    run_main(main, arguments=True)
