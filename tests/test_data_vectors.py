"""Vectors: the densities in the plane are what they say, and a table is read to the last cell."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from flowjax_glow import data
from flowjax_glow.data import toys

SPLITS = ("train", "valid", "test")


@pytest.mark.parametrize("name", toys.TOYS)
def test_a_toy_is_the_same_points_at_every_load_and_others_in_every_split(name):
    splits = {split: data.load(name, split) for split in SPLITS}
    for split, points in splits.items():
        assert points.examples.shape == (toys.SIZES[split], 2)
        assert points.examples.dtype == np.float32
        np.testing.assert_array_equal(data.load(name, split).examples, points.examples)
    rows = np.concatenate([points.examples for points in splits.values()])
    assert len(np.unique(rows, axis=0)) > 0.999 * len(rows)
    assert data.info(name)[1:4] == ((2,), None, None)
    assert [column.name for column in data.info(name).columns] == ["x", "y"]


def test_the_size_of_a_toys_train_split_is_a_choice():
    assert len(data.load("moons", "train", train_examples=7).examples) == 7
    assert len(data.load("moons", "test", train_examples=7).examples) == 10_000
    with pytest.raises(ValueError, match="train_examples must be at least 1; got 0"):
        data.load("moons", "train", train_examples=0)


DENSITIES = [name for name, toy in toys.TOYS.items() if toy.log_density is not None]


@pytest.mark.parametrize("name", DENSITIES)
def test_the_density_of_a_toy_is_that_of_its_points(name):
    """It integrates to 1, and its squares hold as many points as it says."""
    squares, cells = 10, 24
    edges = np.linspace(-5, 5, squares * cells + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    grid = np.stack(np.meshgrid(middles, middles, indexing="ij"), axis=-1).reshape(-1, 2)
    log_density = data.log_density(name, grid.astype(np.float32))
    assert log_density is not None
    mass = np.exp(log_density).reshape(squares, cells, squares, cells).sum((1, 3)) * (10 / 240) ** 2
    assert mass.sum() == pytest.approx(1.0, abs=0.01)
    points = data.load(name, "train").examples
    counts = np.histogramdd(points, bins=[edges[::cells]] * 2)[0]
    # A density that jumps is summed on a grid up to a percent.
    spread = np.sqrt(20_000 * mass) + 0.01 * 20_000 * mass + 1
    assert (np.abs(counts - 20_000 * mass) < 5 * spread).all()


@pytest.mark.parametrize(
    ("name", "nats"), [("checkerboard", math.log(32.0)), ("moons", 0.2892), ("eight_gaussians", 2.8316)]
)
def test_entropies(name, nats):
    """Of moons and gaussians by a sum over a grid."""
    log_density = data.log_density(name, data.load(name, "test").examples)
    assert log_density is not None
    error = log_density.std() / 100
    assert -log_density.mean() == pytest.approx(nats, abs=4 * error + 1e-3)


def test_moons_are_those_of_sklearn():
    from sklearn.datasets import make_moons

    theirs, _ = make_moons(4000, noise=0.05, random_state=0)
    ours, theirs = (
        np.histogramdd(p, bins=8, range=[(-1.2, 2.2), (-0.7, 1.2)])[0] / len(p)
        for p in (data.load("moons", "train").examples, theirs)
    )
    assert np.abs(ours - theirs).max() < 0.02


def test_densities_that_have_no_formula_are_none():
    points = data.load("spirals", "test").examples
    for name in ("spirals", "pinwheel", "table", "digits"):
        assert data.log_density(name, points) is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("moons", {"path": "x.csv"}, "path is for 'folder' and 'table'; got name 'moons'"),
        ("moons", {"image_size": 8}, "image_size is for images; got name 'moons' and 8"),
        ("table", {"channels": 3}, "channels is for images; got name 'table' and 3"),
        ("table", {}, "path must name a CSV or Parquet file; got None"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(name, options, message):
    for call in (lambda: data.info(name, **options), lambda: data.load(name, "train", **options)):
        with pytest.raises(ValueError, match=message):
            call()


def test_images_are_not_vectors():
    split = data.load("moons", "valid")
    with pytest.raises(ValueError, match="examples must be images; got vectors of 2"):
        _ = split.images
    augmentations: list[dict[str, Any]] = [{"flip": True}, {"shift": 0.1}, {"random_crop": 1}]
    for augmentation in augmentations:
        with pytest.raises(ValueError, match="flip, shift and random_crop are for images; got vectors"):
            data.batch_at(split, 0, batch_size=4, seed=0, **augmentation)


def test_each_vector_comes_once_an_epoch_in_any_number_of_processes():
    split = data.load("moons", "valid")
    whole = data.batch_at(split, 0, batch_size=2000, seed=1)
    np.testing.assert_array_equal(np.sort(whole["index"]), np.arange(2000))
    np.testing.assert_array_equal(whole["example"], split.examples[whole["index"]])
    halves = [
        data.batch_at(split, 0, batch_size=2000, seed=1, process_index=p, process_count=2)["example"]
        for p in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(halves), whole["example"])


RNG = np.random.default_rng(0)
ROWS = {
    "height": RNG.normal(170.0, 10.0, 400).round(1),
    "name": [f"person {i}" for i in range(400)],
    "children": RNG.integers(0, 9, 400),
    "born": ["2001-02-03"] * 400,
    "income, net": RNG.normal(3e4, 1e4, 400),
}


def write(path, columns):
    table = pa.table(columns)
    (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(table, str(path))
    return path


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_is_its_numeric_columns_standardised_and_split_by_its_rows(tmp_path, ending):
    path = write(tmp_path / f"people{ending}", ROWS)
    info = data.info("table", path=path)
    assert info.version.startswith("table/")
    assert info[1:4] == ((3,), None, None)
    assert [column.name for column in info.columns] == ["height", "children", "income, net"]
    splits = {split: data.load("table", split, path=path).examples for split in SPLITS}
    np.testing.assert_allclose(splits["train"].mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(splits["train"].std(0), 1.0, atol=1e-5)
    assert 0.7 < len(splits["train"]) / 400 < 0.9

    _, mean, deviation = zip(*info.columns, strict=True)
    back = np.concatenate(list(splits.values())) * np.array([deviation]) + np.array([mean])
    given = np.stack([ROWS[column.name] for column in info.columns], axis=1)
    order, expected = np.lexsort(back.round(3).T), np.lexsort(given.round(3).T)
    np.testing.assert_allclose(back[order], given[expected], rtol=1e-5, atol=1e-4)


def test_a_table_of_either_format_in_any_order_has_the_same_rows_in_a_split(tmp_path):
    whole = write(tmp_path / "whole.csv", ROWS)
    order = RNG.permutation(400)[:300]
    some = {name: [values[i] for i in order] for name, values in ROWS.items()}
    part = write(tmp_path / "part.parquet", some)
    for split in SPLITS:
        heights = []
        for path in (whole, part):
            column = data.info("table", path=path).columns[0]
            x = data.load("table", split, path=path).examples[:, 0]
            heights.append((x * column.deviation + column.mean).round(1))
        assert np.isin(heights[1], heights[0]).all()
        assert 0 < len(heights[1]) < len(heights[0])


def test_a_column_named_split_says_the_split(tmp_path):
    of_row = ["train"] * 5 + ["test"] * 2 + ["valid"]
    path = write(tmp_path / "given.csv", {"a": list(range(8)), "split": of_row})
    assert [len(data.load("table", split, path=path).examples) for split in SPLITS] == [5, 1, 2]
    x = data.load("table", "test", path=path).examples[:, 0]
    np.testing.assert_allclose(x, (np.array([5, 6]) - 2) / math.sqrt(2), rtol=1e-6)
    assert data.info("table", path=path).event_shape == (1,)
    path = write(tmp_path / "wrong.csv", {"a": list(range(8)), "split": [*of_row[:-1], "dev"]})
    with pytest.raises(
        ValueError, match=r"'split' of .* must hold train, valid, test; row 8 has 'dev'"
    ):
        data.info("table", path=path)


def test_a_table_that_changes_is_another_version(tmp_path):
    path = tmp_path / "table.csv"
    versions = set()
    for number in (1.0, 2.0):
        write(path, {"a": [*RNG.normal(size=100), number]})
        versions.add(data.info("table", path=path).version)
    assert len(versions) == 2


GOOD = "\n".join(f"{i},{i * i},t{i}" for i in range(40))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"a,b,c\n1,two,x\n{GOOD}", "'b' of .* must hold finite numbers; row 1 has 'two'"),
        (f"a,b,c\n{GOOD}\n5,,x", "'b' of .* must hold finite numbers; row 41 has ''"),
        (f"a,b,c\n{GOOD}\n5,nan,x", "'b' of .* must hold finite numbers; row 41 has 'nan'"),
        (f"a,b,c\n{GOOD}\n-inf, 3 ,x", "'a' of .* must hold finite numbers; row 41 has '-inf'"),
        ("a,b\nx,y\nz,w", "a table must have a numeric column; .* has a, b"),
        ("a,b\n" + "\n".join(f"7.5,{i}" for i in range(40)), "'a' of .* must vary .* from 7.5 to 7.5"),
        ("a,b\n1,2\n3,4", "must have at least [12] rows; of the 2 of .* it has [01]"),
        ("a,b\n", "numeric column|rows"),
        ("1,2.5\n3,4", "the first line of .* must name the columns; got 1, 2.5"),
        ("a,a\n1,2\n3,4", "columns must have different names; .* has 'a' more than once"),
        ("a,b\n1,2\n3,4,5", r"cannot read the table .*: .*Expected 2 columns, got 3: 3,4,5"),
        ("", "cannot read the table .*: Empty CSV file"),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_told_in_one_line(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"(?i)^[^\n]*{message}[^\n]*$"):
        data.load("table", "train", path=path)


def test_files_that_are_not_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no table at .*none.csv"):
        data.info("table", path=tmp_path / "none.csv")
    for name, message in [
        ("table.xlsx", r"path must end in .csv or .parquet; got"),
        ("table.parquet", r"cannot read the table .*table.parquet: "),
        ("table.csv", r"cannot read the table .*table.csv: "),
    ]:
        (tmp_path / name).write_bytes(bytes(range(256)) * 20)
        with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
            data.info("table", path=tmp_path / name)


def test_missing_numbers_of_a_parquet_file_are_named(tmp_path):
    path = write(tmp_path / "table.parquet", {"a": [1.0, None, 3.0], "text": ["1", "2", "x"]})
    with pytest.raises(ValueError, match=r"'a' of .* must hold finite numbers; row 2 has nothing"):
        data.info("table", path=path)
