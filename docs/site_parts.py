"""What the site has besides Sphinx's own: plain docstrings, commands, math without a script.

Docstrings are plain text, no markup but `code`: what reStructuredText would take for markup is escaped,
and commands become blocks. Signatures are the source's own, with its names for types. After the build
every link inside the site is looked up, and those that lead out are listed in external_links.txt.
"""

import ast
import importlib
import inspect
import re
import textwrap
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from absl import flags
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"

_log = logging.getLogger(__name__)


def command_names() -> list[str]:
    """The commands, experiments.NAME."""
    return sorted(p.stem for p in EXPERIMENTS.glob("*.py") if "    run_main(main" in p.read_text())


def config_names() -> list[str]:
    """The experiments, experiments/configs/NAME.py."""
    paths = (EXPERIMENTS / "configs").glob("*.py")
    return sorted(p.stem for p in paths if p.stem not in ("__init__", "default"))


def flags_of(command: str) -> list[flags.Flag]:
    """The flags that a command defines, taken out of absl's one list for the next command."""
    module = f"experiments.{command}"
    importlib.import_module(module)
    own = flags.FLAGS.get_key_flags_for_module(module)
    for name in [name for name in flags.FLAGS if name not in _before]:
        delattr(flags.FLAGS, name)
    return own


_before = set(flags.FLAGS)


# Docstrings.


def as_markup(lines: list[str]) -> list[str]:
    """A plain docstring as reStructuredText."""
    out: list[str] = []
    in_section = False
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        section = re.match(r"(Args|Raises|Returns):\n", paragraph)
        in_section = in_section or section is not None
        if section and section[1] == "Returns":  # a colon in it is not one after a type
            text = textwrap.dedent(paragraph.partition("\n")[2])
            out.append(":returns: " + escaped(text).replace("\n", "\n    "))
        elif not in_section and re.match(r"python -m |\s{4}\S", paragraph):
            out += ["::", "", textwrap.indent(textwrap.dedent(paragraph), "    ")]
        elif in_section:
            out.append(escaped(paragraph))
        else:
            out.append(_with_lists(escaped(paragraph)))
        out.append("")
    return "\n".join(out).splitlines()


def _with_lists(paragraph: str) -> str:
    """Blank lines around a list that stands in the middle of a paragraph."""
    lines: list[str] = []
    in_list = False
    for line in paragraph.splitlines():
        starts = line.startswith("- ")
        if lines and (starts != in_list) and (starts or not line.startswith(" ")):
            lines.append("")
            in_list = starts
        in_list = in_list or starts
        lines.append(line)
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text with all that reStructuredText would read into it escaped, outside of `code`."""
    parts = re.split(r"(`[^`]+`)", text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*|\\`])", r"\\\1", parts[i])
        parts[i] = re.sub(r"(?<=\w)_(?!\w)", r"\\_", parts[i])
        link = r"`arXiv:\1 <https://arxiv.org/abs/\1>`__"
        parts[i] = re.sub(r"arXiv:(\d{4}\.\d{4,5})", link, parts[i])
    for i in range(1, len(parts), 2):  # double backticks may stand beside letters and hold anything
        parts[i] = f"`{parts[i]}`"
        if parts[i + 1][:1].isalnum():
            parts[i] += "\\ "
    return "".join(parts)


def process_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Autodoc's event: before napoleon."""
    del app, name, obj, options
    lines[:] = as_markup(lines)
    if what in ("property", "attribute"):
        lines.insert(0, "\\ ")  # or napoleon takes what stands before a colon for the type


# Signatures.


def source_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str | None] | None:
    """Autodoc's event: the signature as it stands in the source, where there is one to be had."""
    del app, name, options, signature, returns
    if what not in ("function", "method", "class"):
        return None
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(obj))).body
    if isinstance(node, ast.ClassDef):
        return _of_class(node)
    assert isinstance(node, ast.FunctionDef)
    return _of_function(node, bound=what == "method")


def _of_class(node: ast.ClassDef) -> tuple[str, str | None] | None:
    fields = [ast.unparse(part) for part in node.body if isinstance(part, ast.AnnAssign)]
    if fields:  # a NamedTuple, or a linen module
        return f"({', '.join(fields)})", None
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name in ("__init__", "__call__"):
            return _of_function(part, bound=True)
    return None


def _of_function(node: ast.FunctionDef, *, bound: bool) -> tuple[str, str | None]:
    args = node.args
    if bound:
        (args.posonlyargs or args.args).pop(0)
    returns = None if node.returns is None else ast.unparse(node.returns)
    return f"({ast.unparse(args)})", None if returns == "None" else returns


def skip_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Autodoc's event: a NamedTuple's fields stand in its signature and its docstring."""
    del app, what, name, skip, options
    return True if type(obj).__name__ == "_tuplegetter" else None


# Directives.


class Api(SphinxDirective):
    """`.. api:: module` with names: a table of them, and then each."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes."""
        module, names = self.arguments[0], " ".join(self.content).split()
        holder = importlib.import_module(module)
        lines = [f".. currentmodule:: {module}", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {name}" for name in names] + [""]
        for name in names:
            kind = _kind(getattr(holder, name))
            lines += [f".. auto{kind}:: {module}.{name}", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def _kind(thing: Any) -> str:
    if isinstance(thing, type):
        return "exception" if issubclass(thing, Exception) else "class"
    return "function"


class Commands(SphinxDirective):
    """`.. commands::`: a section for every command, with its docstring and its flags."""

    def run(self) -> list[nodes.Node]:
        """The nodes."""
        found: list[nodes.Node] = []
        for name in command_names():
            (section,) = _section(self, name, f"experiments.{name}")
            rows = [_flag_row(flag) for flag in flags_of(name)]
            section += _table(["flag", "default", "what it is"], rows)
            found.append(section)
        return found


class Configs(SphinxDirective):
    """`.. configs::`: a section for every experiment's file, with its docstring."""

    def run(self) -> list[nodes.Node]:
        """The nodes."""
        return [
            node
            for name in config_names()
            for node in _section(self, name, f"experiments.configs.{name}")
        ]


def _section(directive: SphinxDirective, title: str, module: str) -> list[nodes.Node]:
    text = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {module}\n   :no-members:\n"
    return directive.parse_text_to_nodes(text, allow_section_headings=True)


def _flag_row(flag: flags.Flag) -> list[str]:
    if flag.name == "config":
        return ["--config=FILE", "", f"{flag.help} --config.FIELD=VALUE sets a field."]
    value = f"={'|'.join(flag.parser.enum_values)}" if flag.flag_type() == "string enum" else ""
    default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
    about = re.sub(r"^<[^>]*>: ", "", flag.help)  # absl puts an enum's values before it
    return [f"--{flag.name}{value}", "" if default is None else str(default), about]


def _table(head: list[str], rows: list[list[str]]) -> nodes.Node:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", _table_row(head, code=()))
    group += nodes.tbody("", *[_table_row(row, code=(0, 1)) for row in rows])
    return nodes.table("", group, classes=["flags"])


def _table_row(cells: list[str], code: tuple[int, ...]) -> nodes.Node:
    row = nodes.row()
    for i, cell in enumerate(cells):
        inner = nodes.literal("", cell) if i in code and cell else nodes.inline("", cell)
        row += nodes.entry("", nodes.paragraph("", "", inner))
    return row


# Included files.


def point_at_repository(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """The event of include: links of a file that lies above docs, from wherever it is included."""
    del app, parent
    folder = path.parent.as_posix()
    if not folder.startswith(".."):
        return
    pages = {name: f"/house/{name.lower()}" for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")}

    def moved(match: re.Match[str]) -> str:
        target = match[1]
        if target.startswith("docs/"):
            return f"](/{target.removeprefix('docs/')})"
        if target.endswith(".ipynb"):  # conf.py copies them
            return f"](/notebooks/{Path(target).name})"
        return f"]({pages.get(target, f'/{folder}/{target}')})"

    content[0] = re.sub(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)", moved, content[0])


# Math.


def write_math(self: Any, node: nodes.Element) -> None:
    """Writes a formula as MathML, which browsers show without a script."""
    is_block = isinstance(node, nodes.math_block)
    text = re.sub(r"\\([bB]igg?)[lrm]?(?![a-zA-Z])", "", node.astext())  # MathML stretches by itself
    try:
        math = tex2mathml(text, as_block=is_block)
    except MathError as error:
        _log.warning("%s in %s", error, text, location=node)
        raise nodes.SkipNode from error
    self.body.append(f'<div class="math">{math}</div>' if is_block else math)
    raise nodes.SkipNode


# Links.


def drop_links_back(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """The event before a page: viewcode's links back take one name for all of a module's things."""
    del app, template, doctree
    if page.startswith("_modules/"):
        context["body"] = re.sub(r'<a class="viewcode-back".*?</a>', "", context["body"])


class _Links(HTMLParser):
    """Of a page: its anchors, what it links to, and what it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors, self.links, self.loaded = {""}, set(), set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Takes what the tag has."""
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "src" in given or (tag == "link" and given.get("rel") in ("stylesheet", "preload")):
            self.loaded.add(given.get("src") or given["href"])
        elif "href" in given:
            self.links.add(given["href"])


def check_links(app: Sphinx, failure: Exception | None) -> None:
    """The last event: every link inside leads somewhere, and nothing is loaded from outside."""
    if failure is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    pages = {path: _Links(path.read_text()) for path in folder.rglob("*.html")}
    broken, external = [], set()
    for path, page in pages.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    broken.append(f"{path.relative_to(folder)}: is loaded from outside: {link}")
                external.add(link)
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = to / "index.html" if to.is_dir() else to
            anchor = unquote(parts.fragment)
            if not there.is_file() or (there in pages and anchor not in pages[there].anchors):
                broken.append(f"{path.relative_to(folder)}: leads nowhere: {link}")
    lines = sorted(link for link in external if link.startswith("http"))
    (folder / "external_links.txt").write_text("\n".join(lines) + "\n")
    if broken:
        raise ExtensionError("\n".join(sorted(broken)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls it."""
    app.connect("autodoc-process-docstring", process_docstring, priority=400)
    app.connect("autodoc-process-signature", source_signature)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("include-read", point_at_repository)
    app.connect("html-page-context", drop_links_back)
    app.connect("build-finished", check_links)
    app.add_directive("api", Api)
    app.add_directive("commands", Commands)
    app.add_directive("configs", Configs)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
    return {"parallel_read_safe": False}
