"""The house as ARCHITECTURE.md draws it: light to import, and imports that run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "flowjax_glow"

# Each room, and the rooms it may import. A file of the package's top level is a room of its own.
ROOMS = {
    "base": set(),
    "bijectors": {"base"},
    "combine": {"base"},
    "depth": {"base", "combine"},
    "priors": {"base"},
    "nets": {"base", "bijectors"},  # the actnorm inside a conditioner is the bijector
    "flow": {"base", "combine", "priors"},
    "models": {
        *("base", "bijectors", "combine", "depth", "dequantization", "flow", "nets", "priors"),
    },
    "pretrained": {"base", "dequantization", "flow", "models"},
    "artifact": {"base", "flow"},
    "variational": {"base", "flow"},
    "energies": {"base"},
    "latents": {"base", "flow"},
    "outliers": set(),
    "likelihood": {"base"},
    "layers": {"base", "combine"},
    "levels": {"base", "combine", "flow"},
    "compression": {"base", "bijectors", "data", "flow", "priors"},
    "invertibility": {"base", "flow", "layers", "likelihood"},
    "dequantization": {"base", "bijectors", "combine", "flow", "likelihood", "priors"},
    "testing": {"base"},
    "sharding": set(),
    "data": set(),
    "evaluation": {"base", "data", "dequantization", "flow", "likelihood", "sharding"},
    "report": {"base", "flow", "likelihood"},
    "training": {
        *("base", "combine", "dequantization", "flow", "likelihood", "models", "sharding"),
        *(
            "artifact",
            "data",
            "evaluation",
            "invertibility",
            "latents",
            "levels",
            "outliers",
            "pretrained",
        ),
        *("compression", "report"),
    },
    "__init__": {
        *("base", "bijectors", "combine", "depth", "dequantization", "flow", "likelihood", "models"),
        *("latents", "pretrained", "priors"),
    },
}


def _imports(path: Path) -> set[str]:
    """The dotted names under flowjax_glow that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("flowjax_glow.")}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_run_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    imported = {name.split(".")[1] for name in _imports(path)}
    assert imported - {room} <= ROOMS[room]


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_library_loads_jax_and_flax_and_nothing_heavier_but_safetensors_with_a_model():
    loaded = _modules_after("import flowjax_glow")
    heavier = {
        *("tensorflow", "tensorflow_datasets", "orbax", "matplotlib", "tensorboardX", "torch"),
        *("sklearn", "skimage", "PIL", "rich", "ml_collections", "array_record", "absl"),
        *("diffrax", "equinox", "grain", "optimistix", "pyarrow", "safetensors"),
    }
    # flax itself imports what it needs; the library adds nothing to that.
    needed = _modules_after("import jax, flax.linen, jaxtyping")
    assert (loaded & heavier) <= needed
    assert {"jax", "flax"} <= loaded
    loaded = _modules_after("import flowjax_glow as fg; fg.load_pretrained('glow_digits')")
    assert (loaded & heavier) - needed == {"safetensors"}
