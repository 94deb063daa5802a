"""A page of text, numbers and pictures in one file that needs nothing else: blocks in, HTML out.

Every block escapes the text that it is given. Pictures are PNG inside the page; the page fetches
nothing, and tells the browser to refuse whatever would.
"""

import base64
import html
import io
import re
from collections.abc import Sequence
from typing import NamedTuple, NewType

import numpy as np
from jaxtyping import UInt8

# Finished HTML. What is a plain str is text, and is escaped.
Html = NewType("Html", str)

# Pixels a side that images are shown at on a wide screen and on a telephone: small ones are enlarged by
# a whole factor that stays below, each pixel to a square, and larger ones made smaller.
_WIDE, _NARROW = 64, 40

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f23; --soft: #565d66; --line: #e1e4e8;
  --card: #f6f7f9; --accent: #0065a0; --notice: #fff6e0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e6e8eb; --soft: #a3abb5; --line: #31363d; --card: #1c2025;
    --accent: #6cbcf0; --notice: #33290f; }
  img.plot { filter: invert(0.91) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.6 system-ui, -apple-system,
  "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 71rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3rem; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0; letter-spacing: -0.015em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 0.75rem; letter-spacing: -0.01em; }
p { margin: 0 0 1rem; max-width: 44rem; overflow-wrap: anywhere; }
header p { color: var(--soft); font-size: 1.05rem; margin: 0.5rem 0 1.25rem; }
nav { display: flex; flex-wrap: wrap; gap: 0.3rem 1.1rem; padding-bottom: 1.25rem;
  border-bottom: 1px solid var(--line); font-size: 0.9rem; }
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
section { padding: 1.9rem 0 0.25rem; }
code { font: 0.88em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.headline { margin: 0 0 0.6rem; max-width: none; line-height: 1.15; }
.headline b { font-size: clamp(3rem, 9vw, 4.5rem); font-weight: 650; letter-spacing: -0.03em;
  font-variant-numeric: tabular-nums; }
.headline span { font-size: 1.4rem; color: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 0.75rem;
  margin: 1.25rem 0; }
.facts div { background: var(--card); border-radius: 0.5rem; padding: 0.7rem 0.9rem; }
.facts dt { color: var(--soft); font-size: 0.85rem; }
.facts dd { margin: 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.notice { background: var(--notice); border-radius: 0.5rem; padding: 0.7rem 0.9rem; }
figure { display: flex; flex-wrap: wrap; gap: 0.6rem 2rem; align-items: flex-start;
  margin: 0 0 1.75rem; }
figure > :first-child { flex: 0 1 auto; min-width: 0; }
figcaption { flex: 1 1 17rem; color: var(--soft); font-size: 0.92rem; max-width: 44rem; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
img { display: block; }
img.plot, img.map { width: var(--width); height: auto; border-radius: 0.5rem; }
.strip img, .tiles img { width: var(--wide); height: auto; image-rendering: pixelated;
  border-radius: 1px; }
.smooth img { image-rendering: auto; }
.strip { border-collapse: separate; border-spacing: 3px; margin: -3px; }
.strip th { font-size: 0.85rem; font-weight: 400; color: var(--soft); line-height: 1.25; }
.strip thead th { padding: 0 0.15rem 0.2rem; vertical-align: bottom; }
.strip tbody th { text-align: right; padding-right: 0.5rem; white-space: nowrap; }
.strip td { padding: 0; }
.tiles { display: flex; flex-wrap: wrap; gap: 3px; max-width: calc(16 * (var(--wide) + 3px)); }
.tiles div { font-size: 0.85rem; color: var(--soft); text-align: center; line-height: 1.5;
  font-variant-numeric: tabular-nums; }
.table { border-collapse: collapse; font-size: 0.92rem; margin-bottom: 1rem; }
.table th, .table td { text-align: left; vertical-align: top; padding: 0.35rem 1.5rem 0.35rem 0;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
.table thead th { color: var(--soft); font-weight: 400; }
.table tbody th { font-weight: 400; color: var(--soft); white-space: nowrap; }
.table tr.sum > * { font-weight: 600; border-bottom: 0; color: var(--ink); }
details { margin: 0 0 1rem; }
summary { cursor: pointer; color: var(--accent); margin-bottom: 0.5rem; }
footer { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 1rem; padding-bottom: 2rem;
  color: var(--soft); font-size: 0.88rem; }
@media (max-width: 44rem) {
  header { padding-top: 1.75rem; }
  h1 { font-size: 1.7rem; }
  main, header, footer { padding-left: 1rem; padding-right: 1rem; }
  img.plot, img.map { width: min(var(--width), 100vw - 2rem); }
  .strip img, .tiles img { width: var(--narrow); }
  .tiles { max-width: calc(8 * (var(--narrow) + 3px)); }
  .strip th, .tiles div { font-size: 0.75rem; }
  .facts { grid-template-columns: 1fr 1fr; }
  .table th, .table td { padding-right: 0.8rem; }
}
"""


class Section(NamedTuple):
    """A part of the page, with its heading."""

    title: str
    blocks: Sequence[Html]


def page(title: str, lead: str, sections: Sequence[Section], footer: str) -> Html:
    """The whole page. lead: what stands below the title; footer: at the end."""
    links = [f'<a href="#{_anchor(s.title)}">{_text(s.title)}</a>' for s in sections]
    bodies = [
        f'<section id="{_anchor(s.title)}">\n<h2>{_text(s.title)}</h2>\n{_joined(s.blocks)}\n</section>'
        for s in sections
    ]
    return Html(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n'
        f"</head>\n<body>\n<header>\n<h1>{_text(title)}</h1>\n<p>{_text(lead)}</p>\n"
        f'<nav aria-label="Sections">{" ".join(links)}</nav>\n</header>\n'
        f"<main>\n{_joined(bodies)}\n</main>\n<footer>{_text(footer)}</footer>\n</body>\n</html>\n"
    )


def paragraph(text: str) -> Html:
    """Text; what stands between `backticks` is code."""
    return Html(f"<p>{_with_code(text)}</p>")


def notice(text: str) -> Html:
    """What the reader must not overlook, such as what is not there."""
    return Html(f'<p class="notice">{_with_code(text)}</p>')


def headline(number: str, unit: str) -> Html:
    """The number that all is about, large."""
    return Html(f'<p class="headline"><b>{_text(number)}</b> <span>{_text(unit)}</span></p>')


def facts(pairs: Sequence[tuple[str, str]]) -> Html:
    """Short facts by name, each on a card."""
    cards = [f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in pairs]
    return Html(f'<dl class="facts">{_joined(cards)}</dl>')


def table(
    rows: Sequence[Sequence[str]], *, label: str, header: Sequence[str] = (), sums: bool = False
) -> Html:
    """Rows of text, the first cell of each its name; too wide for the screen, it scrolls by itself.

    label: what it is of, for who cannot see it. sums: whether the last row is the sum of the others.
    """
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in header)
    lines = []
    for i, (name, *cells) in enumerate(rows):
        kind = ' class="sum"' if sums and i == len(rows) - 1 else ""
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
        lines.append(f'<tr{kind}><th scope="row">{_text(name)}</th>{cells}</tr>')
    head = f"<thead><tr>{head}</tr></thead>" if header else ""
    return _scrolling(f'<table class="table">{head}<tbody>{_joined(lines)}</tbody></table>', label)


def details(summary: str, *blocks: Html) -> Html:
    """Blocks that are folded away until the reader asks for them."""
    return Html(f"<details><summary>{_text(summary)}</summary>\n{_joined(blocks)}\n</details>")


def plot(
    picture: UInt8[np.ndarray, "height width 3"],
    *,
    alt: str,
    caption: str,
    width: int,
    is_map: bool = False,
) -> Html:
    """A drawn picture, `width` pixels wide, or as wide as the screen is.

    Its colours are turned to light on dark where the reader wants that, but for those of a map.
    """
    kind = "map" if is_map else "plot"
    image = f'<img class="{kind}" style="--width:{width}px" src="{_png(picture)}" alt="{_text(alt)}">'
    return _figure(Html(image), caption)


def tiles(
    images: UInt8[np.ndarray, "num height width channels"],
    *,
    alt: str,
    caption: str,
    labels: Sequence[str] | None = None,
) -> Html:
    """Images side by side, as many in a row as there is room for; labels: one below each."""
    names = [f"<div>{_text(label)}</div>" for label in labels or [""] * len(images)]
    cells = [
        f'<div><img src="{_png(image)}" alt="">{name if labels else ""}</div>'
        for image, name in zip(images, names, strict=True)
    ]
    kind, style = _sizes(images)
    return _figure(
        Html(
            f'<div class="tiles{kind}" style="{style}" role="img" aria-label="{_text(alt)}">'
            f"{''.join(cells)}</div>"
        ),
        caption,
    )


def strip(
    images: UInt8[np.ndarray, "rows columns height width channels"],
    *,
    alt: str,
    caption: str,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Html:
    """Rows of images that belong together, in columns, each with a name or none.

    Too wide for the screen, it scrolls by itself.
    """
    rows = []
    for i, row in enumerate(images):
        name = f"<th>{_text(row_labels[i])}</th>" if row_labels else ""
        cells = "".join(f'<td><img src="{_png(image)}" alt=""></td>' for image in row)
        rows.append(f"<tr>{name}{cells}</tr>")
    names = "".join(f"<th>{_text(label)}</th>" for label in column_labels)
    corner = "<th></th>" if row_labels else ""
    head = f"<thead><tr>{corner}{names}</tr></thead>" if column_labels else ""
    kind, style = _sizes(images[0])
    return _figure(
        _scrolling(
            f'<table class="strip{kind}" style="{style}" role="img" aria-label="{_text(alt)}">'
            f"{head}<tbody>{_joined(rows)}</tbody></table>",
            alt,
        ),
        caption,
    )


def _figure(content: Html, caption: str) -> Html:
    return Html(f"<figure>\n{content}\n<figcaption>{_with_code(caption)}</figcaption>\n</figure>")


def _scrolling(content: str, label: str) -> Html:
    """With a place in the order of the keyboard, so that it can be scrolled without a mouse."""
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(label)}">{content}</div>'
    )


def _sizes(images: UInt8[np.ndarray, "num height width channels"]) -> tuple[str, str]:
    """The class that is added, and the widths on either screen."""
    width = images.shape[2]
    wide, narrow = (most // width * width or most for most in (_WIDE, _NARROW))
    return (" smooth" if width > _NARROW else ""), f"--wide:{wide}px;--narrow:{narrow}px"


def _png(image: UInt8[np.ndarray, "height width channels"]) -> str:
    """A data URI."""
    from PIL import Image

    stream = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _with_code(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", _text(text))


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _joined(blocks: Sequence[str]) -> str:
    return "\n".join(blocks)
