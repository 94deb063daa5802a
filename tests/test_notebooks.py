"""Every notebook runs from top to bottom, and the .ipynb is what the .py shows."""

import importlib.util
import runpy
import subprocess
import sys
from types import SimpleNamespace

import IPython
import nbformat
import pytest
from run_notebooks import FOLDER, paths, read_program

NOTEBOOKS = pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
_MOST_KIB = {"warped_grid": 1500}  # a film


@NOTEBOOKS
def test_notebook_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, cwd=tmp_path, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout
    assert "Warning" not in done.stderr


@NOTEBOOKS
def test_the_ipynb_has_the_same_cells_and_was_run(path):
    file = path.with_suffix(".ipynb")
    kept, program = nbformat.read(file, as_version=4), read_program(path)
    nbformat.validate(kept)
    assert [(c.cell_type, c.source) for c in kept.cells] == [
        (c.cell_type, c.source) for c in program.cells
    ], "make notebooks"
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert {output.output_type for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert file.stat().st_size <= 1024 * _MOST_KIB.get(path.stem, 300)


def test_every_notebook_is_listed():
    listed = (FOLDER / "README.md").read_text()
    assert [path.name for path in paths() if f"({path.stem}.ipynb)" not in listed] == []


@NOTEBOOKS
@pytest.mark.parametrize("is_there", [True, False])
def test_a_notebook_installs_the_library_where_it_is_not(path, is_there, monkeypatch, tmp_path):
    """As in Colab: in the first cell, before anything of it is imported."""
    first = next(cell.source for cell in read_program(path).cells if cell.cell_type == "code")
    ran = []
    shell = SimpleNamespace(run_line_magic=lambda *line: ran.append(line))
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if is_there else None)
    (tmp_path / "cell.py").write_text(first)
    names = runpy.run_path(str(tmp_path / "cell.py"))
    assert ran == ([] if is_there else [("pip", "install --quiet flowjax-glow")])
    assert {name for name in names if not name.startswith("__")} <= {"importlib", "IPython"}
