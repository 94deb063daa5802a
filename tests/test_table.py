"""The table of results: marks stand exactly where a protocol is not the paper's."""

import re

import pytest

from flowjax_glow.report.record import duration
from flowjax_glow.report.table import is_record, results_table

PAPER = {
    "bits_per_dim": 3.35,
    "source": "Kingma & Dhariwal 2018, table 2, arXiv:1807.03039",
    "n_bits": 8,
    "dequantization": "uniform",
    "importance_samples": 1,
    "weights": "average",
    "split": "test",
    "examples": 10_000,
}


def record(**fields):
    """A record of images, of which the table needs no more."""
    return {
        "run": "glow_cifar10",
        "config": "0123456789ab",
        "model": "glow",
        "data_set": "cifar10",
        "build": None,
        "version": "cifar10/3.0.2",
        "split": "test",
        "examples": 10_000,
        "n_bins": 256,
        "n_bits": 8,
        "dequantization": "uniform",
        "importance_samples": 1,
        "draws": 16,
        "bits_per_dim": 3.3612,
        "standard_error": 0.0123,
        "weights": "average",
        "parameters": 44_603_604,
        "eval_model": {},
        "training_seed": 0,
        "training_seconds": None,
        "paper": PAPER,
        **fields,
    }


def vectors(**fields):
    own = {
        **{"run": "moons", "model": "neural_spline_flow", "data_set": "moons", "version": "moons/1"},
        **{"n_bins": None, "n_bits": None, "dequantization": None, "draws": 1, "paper": {}},
        **{"nats": 0.2943, "nats_in_own_units": 0.2943, "nats_of_truth": 0.2844},
        "standard_error": 0.0074,
    }
    whole = record(**{**own, **fields})
    del whole["bits_per_dim"]
    return whole


def rows(text):
    """The rows of all tables, each a dict by its columns; a row of names begins another table."""
    names, found = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| run |"):
            names = cells
        elif line.startswith("|") and "---" not in line:
            found.append(dict(zip(names, cells, strict=True)))
    return found


def notes(text):
    return re.findall(r"^(\d+)\. (.*)$", text, re.MULTILINE)


def marks(row):
    found = re.search(r"<sup>(.*)</sup>", row["bits/dim"])
    return [int(number) for number in found.group(1).split(", ")] if found else []


def test_a_row_is_the_number_and_all_that_it_depends_on():
    text = results_table([record(training_seconds=7_265.0)])
    (row,) = rows(text)
    assert row == {
        "run": "glow_cifar10",
        "model": "glow",
        "data set": "cifar10",
        "bits": "8",
        "dequantization": "uniform",
        "K": "1",
        "draws": "16",
        "weights": "average",
        "parameters": "44,603,604",
        "bits/dim": "3.361 ± 0.012",
        "paper": "3.35 (Kingma & Dhariwal 2018, table 2, "
        "[arXiv:1807.03039](https://arxiv.org/abs/1807.03039))",
        "training time": "2 h 1 min",
    }
    assert notes(text) == []
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("ours", "paper", "note"),
    [
        ({"build": "y"}, {"build": "x"}, "build: y against the paper's x"),
        ({"n_bits": 5}, {}, "n_bits: 5 against the paper's 8"),
        ({"dequantization": "none"}, {}, "dequantization: none against the paper's uniform"),
        ({}, {"importance_samples": 4096}, "importance_samples: 1 against the paper's 4096"),
        ({"weights": "raw"}, {}, "weights: raw against the paper's average"),
        ({"split": "valid"}, {}, "split: valid against the paper's test"),
        ({"examples": 9_999}, {}, "examples: 9999 against the paper's 10000"),
        ({}, {"epochs": 200}, "epochs: not in the record against the paper's 200"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_difference_from_the_paper_is_marked(ours, paper, note):
    text = results_table([record(**ours, paper={**PAPER, **paper})])
    assert notes(text) == [("1", note)]
    assert marks(rows(text)[0]) == [1]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"draws": 1, "version": "cifar10/4.0.0", "parameters": 5, "standard_error": None},  # not stated
        {"weights": "raw", "paper": {"bits_per_dim": 3.35, "weights": None}},  # not known
        {"weights": "raw", "paper": {"weights": "average", "source": "no number"}},
        {"weights": "raw", "paper": {}},
    ],
)
def test_nothing_else_is_marked(fields):
    text = results_table([record(**fields)])
    assert notes(text) == []
    assert "<sup>" not in text


def test_equal_differences_share_a_note_and_each_row_has_its_own_marks():
    text = results_table(
        [
            record(run="a", bits_per_dim=3.1, weights="raw"),
            record(run="b", bits_per_dim=3.2),
            record(run="c", bits_per_dim=3.3, examples=100, weights="raw"),
            record(run="d", bits_per_dim=3.4, paper={}, weights="raw"),
        ]
    )
    assert [(row["run"], marks(row)) for row in rows(text)] == [
        ("a", [1]),
        ("b", []),
        ("c", [1, 2]),
        ("d", []),
    ]
    assert [note for _, note in notes(text)] == [
        "weights: raw against the paper's average",
        "examples: 100 against the paper's 10000",
    ]
    assert [row["paper"] == "" for row in rows(text)] == [False, False, False, True]


def test_seeds_of_one_config_are_one_row_with_their_mean_and_deviation():
    seeds = [
        record(run=f"affine,seed={seed}", training_seed=seed, bits_per_dim=bits, training_seconds=60.0)
        for seed, bits in enumerate([3.30, 3.34, 3.38])
    ]
    (row,) = rows(results_table(seeds))
    assert (row["run"], row["seeds"]) == ("affine", "3")
    assert row["bits/dim"] == "3.340 ± 0.040"
    assert row["training time"] == "1 min 0 s"
    (row,) = rows(results_table([{**r, "run": f"run_{r['training_seed'] + 7}"} for r in seeds]))
    assert row["run"] == "run_7, run_8, run_9"


def test_what_differs_in_more_than_the_seed_is_a_row_of_its_own():
    runs = [
        record(training_seed=0),
        record(training_seed=1, config="ba9876543210"),
        record(training_seed=2, importance_samples=64),
        record(training_seed=3, weights="raw"),
        record(training_seed=0),  # the first seed again
    ]
    text = results_table(runs)
    assert len(rows(text)) == 5
    assert "seeds" not in rows(text)[0]


def test_rows_are_in_the_order_of_data_levels_and_number():
    runs = [
        record(run="worse", bits_per_dim=3.5, config="1"),
        record(run="five", n_bits=5, n_bins=32, bits_per_dim=1.7),
        record(run="better", bits_per_dim=3.3),
        record(run="2017", data_set="imagenet32", build="downsampled2017"),
        record(run="2016", data_set="imagenet32", build="oord2016"),
        record(run="digits", data_set="digits", n_bins=17, n_bits=None),
    ]
    found = rows(results_table(runs))
    assert [row["run"] for row in found] == ["five", "better", "worse", "digits", "2017", "2016"]
    assert found[-1]["data set"] == "imagenet32 (oord2016)"
    assert found[3]["bits"] == "17 levels"


def test_vectors_have_a_table_of_their_own_in_nats():
    paper = {"nats": 0.28, "source": "a paper", "split": "valid"}
    other = vectors(run="other", config="1", paper=paper)
    text = results_table([vectors(), record(weights="raw"), other])
    images, _, of_vectors = text.split("\n\n")[:3]
    assert "moons" not in images
    plain, other = rows(of_vectors)
    assert plain["nats"] == "0.294 ± 0.007"
    assert plain["true density"] == "0.284"
    assert (plain["paper"], other["paper"]) == ("", "0.28 (a paper)")
    assert other["nats"] == "0.294 ± 0.007 <sup>1</sup>"
    assert "1. split: test against the paper's valid" in text
    assert "dequantization" not in plain
    without = vectors(nats_of_truth=None, split="valid")
    (row,) = rows(results_table([without]))
    assert "true density" not in row
    assert row["data set"] == "moons, valid"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (None, "3.361"),
        (0.0, "3.361 ± 0.000"),
        (0.25, "3.361 ± 0.250"),
        (0.00042, "3.3612 ± 0.0004"),
        (0.000031, "3.36120 ± 0.00003"),
    ],
)
def test_a_number_has_the_digits_that_its_error_warrants(error, shown):
    (row,) = rows(results_table([record(standard_error=error, paper={})]))
    assert row["bits/dim"] == shown


def test_a_bar_in_a_name_breaks_no_row():
    (line,) = [x for x in results_table([record(run="a|b")]).splitlines() if "cifar10" in x]
    assert line.startswith(r"| a\|b | glow |")


def test_what_is_no_record_is_told_apart():
    assert is_record(record())
    assert is_record(vectors())
    for other in ([], None, {"model": {"name": "glow"}, "seed": 0}):
        assert not is_record(other)
    for name in ("version", "bits_per_dim", "paper"):
        without = record()
        del without[name]
        assert not is_record(without)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.7, "1 min 0 s"),
        (250.0, "4 min 10 s"),
        (6_720.0, "1 h 52 min"),
        (9e4, "1 d 1 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
