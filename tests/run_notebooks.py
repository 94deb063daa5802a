"""Runs the notebooks and keeps what they show: writes the .ipynb beside each .py in notebooks/.

python tests/run_notebooks.py [NAME ...]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode, write

FOLDER = Path(__file__).parents[1] / "notebooks"


def paths() -> list[Path]:
    """The notebooks as programs, by name."""
    return sorted(FOLDER.glob("*.py"))


def read_program(path: Path) -> NotebookNode:
    """The cells of a .py in percent form, named by their places: the same program, the same file."""
    notebook = jupytext.read(path)
    for place, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = str(place), NotebookNode()
    notebook.metadata = NotebookNode(kernelspec=notebook.metadata["kernelspec"])
    return notebook


def run(notebook: NotebookNode) -> None:
    """Runs the cells, in a folder of their own, and leaves in them what they show."""
    # The frozen modules of a kernel make debuggers write a warning into its output.
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=300,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()
    notebook.metadata.pop("language_info", None)  # the version of Python, which changes nothing
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/jpeg", None)  # Pillow gives it beside the PNG


def main() -> None:
    for path in paths():
        if len(sys.argv) > 1 and path.stem not in sys.argv[1:]:
            continue
        start, notebook = time.monotonic(), read_program(path)
        run(notebook)
        out = path.with_suffix(".ipynb")
        write(notebook, out)
        seconds = time.monotonic() - start
        print(f"{path.stem}: {seconds:.0f} s, {out.stat().st_size / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
