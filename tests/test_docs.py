"""The documentation's code runs, its command lines parse, and its reference leaves nothing public out.

What the build proves (`make docs`: references, links, docstrings) is not repeated here.
"""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flowjax_glow
from flowjax_glow import data, latents
from flowjax_glow.report import plots

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
# Whatever a command line is printed in, docstrings of commands and configs among them.
PRINTED = [ROOT / "README.md", *PAGES, *sorted((ROOT / "experiments").rglob("*.py"))]

# The processes read their lines' flags, and end. Each has the flags of one command, as that has.
PARSE = """
import importlib, os, sys, types
from pathlib import Path
import jax, optax, orbax.checkpoint, pyarrow.csv, rich.table, sklearn, tensorflow_datasets, PIL.Image
import flowjax_glow.training.loop
from absl import flags

def parse(words):
    name, *rest = words
    sys.argv = [name, *rest]
    module = importlib.import_module(name)
    if name.startswith("experiments.launch."):
        flags.FLAGS(sys.argv)
        return
    from experiments.command import read_flags
    read_flags(sys.argv, arguments="arguments=True" in Path(module.__file__).read_text())

failed = False
for line in sys.stdin.read().splitlines():
    child = os.fork()
    if child == 0:
        try:
            parse(line.split("\\t"))
            sys.stdout.flush()
            os._exit(0)
        except SystemExit:
            pass
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr)
        print("in:", line.replace("\\t", " "), file=sys.stderr, flush=True)
        os._exit(1)
    failed |= os.waitpid(child, 0)[1] != 0
sys.exit(failed)
"""


def _blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def _command_lines(path):
    """The lines for a shell in a file, in words; those that go on are joined."""
    text = re.sub(r" *\\\n\s*|\n +(?=--)", " ", path.read_text())
    lines = re.findall(r"^ *python -m (experiments\..+)$", text, re.MULTILINE)
    lines += re.findall(r"`python -m (experiments\.[^`]+)`", text.replace("\n", " "))
    for line in lines:
        own, _, inner = line.translate({ord("["): " ", ord("]"): " "}).partition(" -- -m ")
        for part in filter(None, (own, inner)):
            if " " in part and not re.search(r"FILE|NAME|WORKDIR| \| ", part):
                # Of runs that are not there.
                part = re.sub(r"--config=runs/\S+", "--config=experiments/configs/glow_digits.py", part)
                yield part.split()


def test_command_lines_parse():
    lines = {tuple(words) for path in PRINTED for words in _command_lines(path)}
    commands = {words[0] for words in lines}
    assert {"experiments.train", "experiments.launch.local", "experiments.table"} <= commands
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE],
        input="\n".join("\t".join(words) for words in sorted(lines)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr


def test_the_tutorial_runs_as_printed(tmp_path):
    code = "\n".join(_blocks(DOCS / "tutorial.md"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=280,
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    steps = [float(bits) for bits in re.findall(r"step +\d+: (\d\.\d\d) bits/dim", done.stdout)]
    assert len(steps) == 4
    assert steps[-1] < steps[0] - 0.5
    (trained,) = re.findall(r"(\d\.\d\d) bits/dim on 360 test images", done.stdout)
    assert 2.0 < float(trained) < 2.3
    assert "all pixels come back: True" in done.stdout
    assert {path.name for path in tmp_path.glob("*.png")} == {"samples.png", "interpolation.png"}


@pytest.mark.parametrize("path", [p for p in PAGES if _blocks(p)], ids=lambda p: p.stem)
def test_what_pages_import_is_there(path):
    for block in _blocks(path):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module} has no {name.name}"
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                holder = {"fg": flowjax_glow, "latents": latents, "data": data, "plots": plots}
                if node.value.id in holder:
                    assert hasattr(holder[node.value.id], node.attr), ast.unparse(node)


def test_the_reference_has_all_that_is_public():
    told = set(re.findall(r"\w+", "".join(p.read_text() for p in (DOCS / "reference").iterdir())))
    for module in (flowjax_glow, data, plots):
        assert set(module.__all__) - told <= {"COLOURS"}
    functions = {name for name, value in vars(latents).items() if _is_own(value)}
    assert {"edit", "interpolate"} <= functions
    assert functions <= told


def _is_own(value):
    own = getattr(value, "__module__", None) == "flowjax_glow.latents"
    return own and callable(value) and not value.__name__.startswith("_")
