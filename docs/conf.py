"""Sphinx's settings: `make docs` builds the site into docs/_build/html, without a network."""

import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]  # the commands and configs are not installed; nor is site.py

import flowjax_glow  # noqa: E402

project = "flowjax-glow"
version = release = flowjax_glow.__version__
html_title = f"flowjax-glow {version}"
project_copyright = "the authors; Apache 2.0"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "site_parts",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"source_view_link": ""}
html_math_renderer = "mathml"  # site_parts.py: no script from elsewhere

myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "off"  # what is stored is shown; tests/test_notebooks.py runs them
nb_merge_streams = True
smartquotes = False  # it would make one dash of --config's two

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autosummary_generate = False
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
add_module_names = False
nitpick_ignore_regex = [
    # Names in annotations that are of other libraries: there is no network to look them up.
    (
        "py:class",
        r"(Array|ArrayLike|Bool|DTypeLike|Float|Float32|Float64|Int|Int32|Integer|Key|Shaped|UInt8)"
        r"|(Any|Callable|ConfigDict|Iterator|Mapping|Mesh|NamedTuple|Path|Protocol|Sequence)"
        r"|(export|jax|nn|np|numpy|optax|os)\..*",
    ),
]


def _copy_notebooks() -> None:
    """docs/notebooks is a copy, made at every build: Sphinx reads nothing outside its folder."""
    here = DOCS / "notebooks"
    here.mkdir(exist_ok=True)
    stored = {path.name: path for path in (ROOT / "notebooks").glob("*.ipynb")}
    for old in here.iterdir():
        if old.name not in stored:
            old.unlink()
    for name, path in stored.items():
        shutil.copy2(path, here / name)


_copy_notebooks()
