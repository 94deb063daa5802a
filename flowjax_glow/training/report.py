"""The report of a run: one page of HTML of all that its folder holds and its model can show."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flowjax_glow.likelihood import Unit, unit_of
from flowjax_glow.report import html, plots
from flowjax_glow.report.html import Html, Section
from flowjax_glow.report.record import duration, environment, read_record, record_rows
from flowjax_glow.training import exhibits
from flowjax_glow.training.config import Config, flatten, read_config
from flowjax_glow.training.experiment import Experiment, Trained, build, load_trained
from flowjax_glow.training.metrics import read_metrics
from flowjax_glow.training.pictures import can_be_drawn

# What a record says of where it was measured, beside what record_rows has.
_ALSO = ("matmul_precision", "device_kind", "devices", "seed", "training_seed", "config")


def report_of(
    workdir: str, *, examples: int = 2_000, say: Callable[[str], None] = lambda _: None
) -> Html:
    """The page. One of what there is, which says what is not, for a run that is not finished.

    So too for one that is not evaluated, or whose data are not here.

    Args:
      examples: how many of each split are looked at, at most.
      say: is told each section before it is made.

    Raises:
      FileNotFoundError: where there is no run.
      CheckpointError: where its checkpoint is not as it was saved.
      ValueError: for a config that cannot be, and for no examples.
    """
    if examples < 1:
        raise ValueError(f"examples must be at least 1; got {examples}")
    config = read_config(workdir)
    if config is None:
        raise FileNotFoundError(f"there is no run in {workdir}: it has no config.json")
    experiment, metrics = build(config), read_metrics(workdir)
    unit = unit_of(experiment.n_bins)
    record = _record(workdir)
    try:
        trained = load_trained(workdir)
    except FileNotFoundError:
        trained = None  # a run that has not come to its first checkpoint
    say("the record and the curve")
    sections = [_result(record, unit, workdir), _training(config, metrics, unit)]
    sections += [] if trained is None else _shown(trained, examples, say)
    sections += [_config(config), _versions(record)]
    name = Path(workdir).resolve().name
    return html.page(
        f"{config.model.name} on {config.data.name}",
        _lead(name, experiment, trained),
        sections,
        f"Written by flowjax-glow {environment()['versions'].get('flowjax-glow', '')}: "
        "python -m experiments.report. This page is one file, and fetches nothing.",
    )


def _record(workdir: str) -> dict[str, Any] | None:
    path = Path(workdir) / "evaluation.json"
    return read_record(path) if path.exists() else None


def _lead(name: str, experiment: Experiment, trained: Trained | None) -> str:
    info, parts = experiment.info, [f"Run {name}", experiment.info.version]
    shape = "x".join(map(str, info.event_shape))
    parts.append(shape if experiment.n_bins is None else f"{shape}, {experiment.n_bins} levels")
    if trained is not None:
        parts.append(f"{trained.weights} weights of step {trained.step:,}, the best on valid")
    return " · ".join(parts)


def _result(record: dict[str, Any] | None, unit: Unit, workdir: str) -> Section:
    if record is None:
        command = f"python -m experiments.evaluate --workdir={workdir}"
        return Section("Result", [html.notice(f"This run is not evaluated: `{command}` does it.")])
    error = record["standard_error"]
    plus_minus = "" if error is None else f" ± {error:.3f}"
    blocks = [
        html.headline(f"{record[unit.field]:.3f}", f"{unit.symbol}{plus_minus}"),
        html.paragraph(_protocol(record, unit)),
        html.facts(_facts(record)),
    ]
    if (paper := record["paper"].get(unit.field)) is not None:
        blocks.append(html.paragraph(f"The paper has {paper}: {record['paper'].get('source')}."))
    rows = [*record_rows(record), *((name.replace("_", " "), str(record[name])) for name in _ALSO)]
    blocks.append(
        html.details("The whole record", html.table(rows, label="The record of the evaluation"))
    )
    return Section("Result", blocks)


def _protocol(record: dict[str, Any], unit: Unit) -> str:
    r = record
    words = f"Mean of all {r['examples']:,} examples of {r['version']}, {r['split']}, each once"
    if r["n_bins"] is not None:
        words += (
            f": {r['dequantization']} dequantization of {r['n_bins']} levels, {r['draws']} draws, "
            f"importance samples K = {r['importance_samples']}"
        )
    exact = "an unbiased estimate" if r["estimated"] else "exact"
    words += f"; the log-determinant is {exact}; {r['weights']} weights of step {r['step']:,}."
    if r["standard_error"] is not None:
        words += f" ± is the standard error over the examples. Lower {unit.symbol} are better."
    return words


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    r, facts = record, [("trained parameters", f"{record['parameters']:,}")]
    if r["training_seconds"] is not None:
        facts.append(("training time", duration(r["training_seconds"])))
    if r["exact_images"] is not None:
        facts.append(("images that come back exactly", _share(r["exact_images"])))
    facts.append(("largest round-trip error", f"{r['round_trip_error']:.1e}"))
    return [*facts, (f"{r['samples']:,} samples that are finite", _share(r["finite_samples"]))]


def _share(share: float) -> str:
    return "all" if share == 1.0 else f"{share:.2%}"


def _training(config: Config, metrics: list[dict[str, Any]], unit: Unit) -> Section:
    if not metrics:
        return Section("Training", [html.notice("Nothing is logged yet: the run has hardly begun.")])
    step, blocks = metrics[-1]["step"], []
    if step < config.train.steps:
        blocks.append(
            html.notice(
                f"This run is not finished: it has logged step {step:,} of {config.train.steps:,}."
            )
        )
    valid = [(m[f"valid_{unit.field}"], m["step"]) for m in metrics if f"valid_{unit.field}" in m]
    best = (
        ""
        if not valid
        else f" Best on valid: {min(valid)[0]:.3f} {unit.symbol} at step {min(valid)[1]:,}."
    )
    blocks.append(
        html.plot(
            _curve(metrics, unit),
            alt=f"{unit.symbol} over the steps, of training batches and of valid",
            caption=f"{step:,} steps of {config.train.batch_size} examples in "
            f"{duration(metrics[-1]['seconds'])}.{best}",
            width=700,
        )
    )
    skipped = next((m["bad_steps"] for m in reversed(metrics) if "bad_steps" in m), 0)
    if skipped:
        blocks.append(html.notice(f"{skipped:.0f} steps that were not finite were not taken."))
    warnings = [f"Step {m['step']:,}: {m['warning']}" for m in metrics if "warning" in m]
    blocks += map(html.notice, warnings[-5:])
    watched = next((m for m in reversed(metrics) if "inverse/data_error" in m), None)
    if watched is not None:
        rows = [(name, f"{watched[key]:.3g}") for key, name in _WATCHED.items() if key in watched]
        table = html.table(rows, label="What was watched of the inverse")
        blocks.append(html.details(f"The inverse, as watched at step {watched['step']:,}", table))
    return Section("Training", blocks)


_WATCHED = {
    "inverse/data_error": "largest error of data, there and back",
    "inverse/exact_images": "share of images that come back exactly",
    "inverse/latent_error_07": "largest error of latents at temperature 0.7",
    "inverse/latent_error_10": "largest error of latents at temperature 1.0",
    "inverse/nonfinite_07": "share of samples that overflow at temperature 0.7",
    "inverse/nonfinite_10": "share of samples that overflow at temperature 1.0",
    "inverse/smallest_scale": "smallest scale of a coupling",
    "inverse/largest_condition": "largest condition number of a kernel",
}


def _curve(metrics: list[dict[str, Any]], unit: Unit) -> np.ndarray:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curve.png"
        plots.learning_curve(metrics, path, unit=unit)
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))


def _shown(trained: Trained, examples: int, say: Callable[[str], None]) -> list[Section]:
    """What needs the model, and of it what needs the data."""
    experiment, view = trained.experiment, exhibits.view(trained)
    are_images, sections = experiment.n_bins is not None, []
    if are_images:
        say("samples")
        sections.append(exhibits.samples(view))
    try:
        say("examples and their likelihoods")
        splits = {name: exhibits.look(view, name, examples) for name in ("train", "valid", "test")}
    except FileNotFoundError as error:
        return [*sections, Section("Data", [html.notice(f"What needs the data is left out: {error}")])]
    train, test = splits["train"], splits["test"]
    if not are_images:
        drawn = [exhibits.plane(view)] if can_be_drawn(experiment) else []
        return [*drawn, exhibits.likelihoods(view, splits)]
    say("reconstructions, interpolations and edits")
    sections += [exhibits.reconstructions(view, test), exhibits.interpolations(view, test)]
    edited = exhibits.edits(view, train, test)
    none = html.paragraph(
        "There is no edit strip: the set has nothing to edit by, or the model is told the classes."
    )
    sections.append(edited or Section("Edits", [none]))
    say("likelihood by example and by level")
    sections += [exhibits.likelihoods(view, splits), exhibits.levels(view, test)]
    say("nearest training images")
    sections.append(exhibits.neighbours(view, train, test))
    return [section for section in sections if section is not None]


def _config(config: Config) -> Section:
    fields = [(name, str(value)) for name, value in flatten(config)]
    return Section(
        "Config",
        [
            html.paragraph(
                "The run again, from its first step: `python -m experiments.train "
                "--config=config.json --workdir=ANOTHER`, with the config.json of this run's folder."
            ),
            html.details(f"All {len(fields)} fields", html.table(fields, label="The config")),
        ],
    )


def _versions(record: dict[str, Any] | None) -> Section:
    here = environment()
    columns = [here] if record is None else [record, here]
    names = list(dict.fromkeys(name for column in columns for name in column["versions"]))
    rows = [[name, *(column["versions"].get(name, "") for column in columns)] for name in names]
    rows.append(["git commit", *((column["commit"] or "no checkout")[:12] for column in columns)])
    header = ["", *(["evaluated with"] if record is not None else []), "this report"]
    return Section("Versions", [html.table(rows, label="Versions of the libraries", header=header)])
