"""The README's first example runs as printed, and its tables name all there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

from test_bijectors import constructors

ROOT = Path(__file__).parents[1]


def test_the_first_example_runs_as_printed(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    bits, error, *_ = done.stdout.splitlines()[-1].split()
    assert 3 < float(bits) < 5
    assert float(error) < 1e-4
    assert "(64, 8, 8, 1)" in done.stdout


def test_the_tables_name_every_bijector_and_every_model():
    named = set(re.findall(r"`(\w+)`", (ROOT / "README.md").read_text()))
    assert constructors() <= named
