"""The report of a run says what the run has and what it lacks, and a real browser shows it well."""

import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from configs import ROOT, tiny
from ml_collections import ConfigDict
from PIL import Image

from experiments.configs import moons_spline
from flowjax_glow.data import Split
from flowjax_glow.report import html
from flowjax_glow.report.record import read_record
from flowjax_glow.training import exhibits, loop
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.config import write_config
from flowjax_glow.training.experiment import build, initial_state, load_split, load_trained
from flowjax_glow.training.report import report_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECTIONS = ["Result", "Training", "Samples", "Reconstructions", "Interpolations", "Edits"]
SECTIONS += ["Likelihood of examples", "Bits per dimension by level", "Nearest training images"]
SECTIONS += ["Config", "Versions"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on digits of two levels, in a folder whose name would break a page that escapes nothing."""
    folder = tmp_path_factory.mktemp("digits")
    workdir = folder / '<i>run & "co"'
    config = tiny(folder, steps=2, eval_every=2, steps_per_call=1)
    config.model.levels = 2
    with jax.numpy_dtype_promotion("standard"):
        record = loop.train_and_evaluate(config, str(workdir))
    return workdir, record


@pytest.fixture(scope="module")
def page(digits, tmp_path_factory):
    """Its report, in a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_of(str(digits[0]), examples=100))
    return path


@pytest.fixture(scope="module")
def chromium():
    """A headless browser, in which the tests open pages."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail(
            f"the report is tested in a browser; install one of {', '.join(BROWSERS)}, such as "
            "by `apt-get install chromium`"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def _headings(text):
    return re.findall(r"<h2>(.*?)</h2>", text)


def test_the_report_has_the_numbers_of_the_record(digits, page):
    workdir, record = digits
    text = page.read_text()
    assert _headings(text) == SECTIONS
    assert f"<b>{record['bits_per_dim']:.3f}</b> <span>bits/dim" in text
    assert f"<td>{(record['commit'] or 'no checkout')[:12]}</td>" in text
    assert record["versions"]["jax"] in text
    assert f"{record['parameters']:,}" in text
    assert "<b>100 of 100</b>" in text  # reconstructions
    assert "<td>0 → 1" not in text  # a name is a heading
    assert "0 → 1</th>" in text
    assert read_record(workdir / "evaluation.json") == record
    assert "<i>" not in text
    assert "&lt;i&gt;run &amp; &quot;co&quot;" in text


def test_the_levels_in_the_report_add_up(page):
    rows = re.findall(
        r"<tr[^>]*>(.*?)</tr>", page.read_text().split("by level</h2>")[1].split("</section>")[0]
    )
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    first, second, total = (float(row[-1]) for row in cells if row and row[0][0].isdigit())
    assert abs(first + second - total) < 2e-3  # rounded to three decimals each
    assert {cells[1][0], cells[2][0]} == {"4x4x2", "2x2x8"}


# Of every element with text of its own: the least contrast of its colour and what lies behind it, by
# the formula of WCAG 2.2, as a share of the least that is asked for: 3 for large text, 4.5 for other.
CONTRAST = """() => {
  const light = c => c <= 10.3 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const parse = text => text.match(/[0-9.]+/g).map(Number);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c } };
  const all = [...document.querySelectorAll("body *")].filter(e =>
    [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
  return [all.length, Math.min(...all.map(e => {
    const style = getComputedStyle(e);
    const pair = [parse(style.color), behind(e)].map(luminance).sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05) / (parseFloat(style.fontSize) >= 24 ? 3 : 4.5) }))];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it(chromium, page, width, scheme):
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, said, asked = context.new_page(), [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    fits = "() => document.documentElement.scrollWidth <= window.innerWidth"
    assert tab.evaluate(fits)
    tab.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert tab.evaluate(fits)
    assert tab.locator("h1").inner_text() == "glow on digits"
    assert tab.locator("h2").all_inner_texts() == SECTIONS
    broken = "() => [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length"
    assert tab.evaluate("() => document.images.length") > 250
    assert tab.evaluate(broken) == 0
    unnamed = "() => [...document.querySelectorAll('figure')].filter(f => !f.querySelector("
    unnamed += "'img[alt]:not([alt=\"\"]), [role=img][aria-label]')).length"
    assert tab.evaluate(unnamed) == 0
    dead = "() => [...document.querySelectorAll('nav a')].filter(a => !document.querySelector("
    assert tab.evaluate(dead + "a.getAttribute('href'))).length") == 0
    count, contrast = tab.evaluate(CONTRAST)
    assert count > 100
    assert contrast >= 1
    dark = tab.evaluate("() => getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    context.close()


def test_images_are_enlarged_by_whole_factors(chromium, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (2, 3, size, size, 3), np.uint8) for size in (8, 28, 32, 96)]
    strips = [html.strip(each, alt="noise", caption="noise") for each in images]
    (tmp_path / "page.html").write_text(html.page("t", "l", [html.Section("s", strips)], "f"))
    for width, expected in ((1280, [64, 56, 64, 64]), (390, [40, 28, 32, 40])):
        tab = chromium.new_page(viewport={"width": width, "height": 900})
        tab.goto((tmp_path / "page.html").as_uri())
        shown = [tab.locator("figure").nth(i).locator("img").first for i in range(4)]
        assert [image.bounding_box()["width"] for image in shown] == expected
        assert [image.evaluate("i => i.naturalWidth") for image in shown] == [8, 28, 32, 96]
        smooth = [image.evaluate("i => getComputedStyle(i).imageRendering") for image in shown]
        assert smooth == ["pixelated"] * 3 + ["auto"]
        tab.close()


def test_text_is_escaped_wherever_it_stands():
    bad = "<script>alert('\"&')</script>"
    image = np.zeros((1, 1, 2, 2, 1), np.uint8)
    labels = {"alt": bad, "caption": bad}
    blocks = [
        html.paragraph(bad),
        html.notice(bad),
        html.headline(bad, bad),
        html.facts([(bad, bad)]),
        html.table([[bad, bad]], label=bad, header=[bad, bad]),
        html.details(bad),
        html.plot(np.zeros((2, 2, 3), np.uint8), width=2, alt=bad, caption=bad),
        html.tiles(image[0], labels=[bad], **labels),
        html.strip(image, row_labels=[bad], column_labels=[bad], **labels),
    ]
    page = html.page(bad, bad, [html.Section(bad, blocks)], bad)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#x27;&quot;&amp;&#x27;)&lt;/script&gt;") == 28
    assert re.findall(r'<nav[^>]*><a href="([^"]*)"', page) == ["#script-alert-script"]


def test_a_run_that_has_hardly_begun_has_a_report(digits, tmp_path):
    shutil.copy(digits[0] / "config.json", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    command = [sys.executable, "-m", "experiments.report", f"--workdir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text()
    assert _headings(page) == ["Result", "Training", "Config", "Versions"]
    assert f"python -m experiments.evaluate --workdir={tmp_path}" in page
    assert "Nothing is logged yet" in page
    assert {
        path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".html"
    } == before


def test_an_unfinished_run_says_how_far_it_is(digits, tmp_path):
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(digits[0] / name, tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"steps": 2,', '"steps": 1000,'))
    page = report_of(str(tmp_path))
    assert "it has logged step 2 of 1,000" in page
    assert "Best on valid" in page


@pytest.mark.parametrize(
    ("flags", "mistake"),
    [(["--out=r.txt"], "--out must end in .html; got r.txt"), ([], "there is no run in")],
)
def test_mistakes_end_in_one_line(tmp_path, flags, mistake):
    command = [sys.executable, "-m", "experiments.report", f"--workdir={tmp_path}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {mistake}")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("optax_promotes")
def test_vectors_have_points_and_a_density(tmp_path):
    config = moons_spline.get_config("smoke")
    config.data.train_examples = 300
    config.model = ConfigDict({"name": "planar_flow", "depth": 1, "explicit": "density"})
    config.optimizer.schedule, config.eval.batch_size = "constant", 2000
    config.train.watch = 0
    loop.train_and_evaluate(config, str(tmp_path))
    page = report_of(str(tmp_path), examples=50)
    parts = [
        "Result",
        "Training",
        "Samples and density",
        "Likelihood of examples",
        "Config",
        "Versions",
    ]
    assert _headings(page) == parts
    assert "<span>nats ± " in page


def _begin(config, workdir, split):
    """Saves the state of step 0, initialised on a split."""
    write_config(workdir, config)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(initial_state(build(config), split), 8.0)


@pytest.mark.usefixtures("optax_promotes")
def test_without_its_data_a_model_still_shows_samples(tmp_path):
    config = tiny(tmp_path / "nothing")
    config.data.name = "mnist"
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), np.uint8)
    _begin(config, tmp_path, Split(images, np.zeros(8, np.int32)))
    page = report_of(str(tmp_path))
    assert _headings(page) == ["Result", "Training", "Samples", "Data", "Config", "Versions"]
    assert "is not prepared in" in page


@pytest.mark.usefixtures("optax_promotes")
def test_a_model_that_is_told_the_classes(digits, tmp_path):
    config = tiny(digits[0].parent)
    config.model.num_classes = 10
    _begin(config, tmp_path, load_split(build(config), "train"))
    view = exhibits.view(load_trained(str(tmp_path)))
    test = exhibits.look(view, "test", 100)
    assert "The classes come in turn." in exhibits.samples(view).blocks[0]
    assert "<b>100 of 100</b>" in exhibits.reconstructions(view, test).blocks[0]
    pairs = test.labels[exhibits._pairs(view, test.labels)]
    assert len(pairs) == 8
    assert (pairs[:, 0] == pairs[:, 1]).all()
    assert exhibits.edits(view, test, test) is None


@pytest.mark.usefixtures("optax_promotes")
def test_a_set_with_attributes_is_edited_by_one(tmp_path):
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 156)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(60):
            pixels = rng.integers(low, low + 100, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    config = tiny(tmp_path)
    config.data.name, config.data.path, config.data.image_size = "folder", str(tmp_path / "images"), 4
    _begin(config, tmp_path / "run", load_split(build(config), "train"))
    view = exhibits.view(load_trained(str(tmp_path / "run")))
    train, test = (exhibits.look(view, split, 200) for split in ("train", "test"))
    section = exhibits.edits(view, train, test)
    assert section is not None
    (strip,) = section.blocks
    assert "Test images with less and with more of bright" in strip
    labels = re.findall(r"<th>(\w[^<]*)</th>", strip)
    assert {"with", "without"} <= set(labels)
    # With more of it a picture is brighter, even by a model that has learned nothing yet.
    is_bright = exhibits._attribute(view)[1][train.rows]  # type: ignore[reportOptionalSubscript]
    kinds = [np.flatnonzero(is_bright == value) for value in (True, False)]
    direction = exhibits._direction(train, *kinds)
    moved = exhibits.latents.edit(view.flow, view.params, test.x, direction, (-1.0, 0.0, 1.0))
    means = np.asarray(moved).mean(axis=(0, 2, 3, 4))
    assert means[0] < means[1] < means[2]
