"""A run handed on: the folder that pretrained.load_pretrained reads, with its model card."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowjax_glow import pretrained
from flowjax_glow.artifact import export_log_prob, export_sample
from flowjax_glow.pretrained import ModelConfig
from flowjax_glow.report.card import model_card
from flowjax_glow.report.record import environment, read_record
from flowjax_glow.training.config import check_writable, fingerprint
from flowjax_glow.training.experiment import Experiment, Trained
from flowjax_glow.training.outcome import choose_protocol, record_name

ARTIFACTS = {"log_prob": "log_prob.jaxexport", "sample": "sample.jaxexport"}
_FILES = {pretrained.WEIGHTS, pretrained.CONFIG, pretrained.CARD, *ARTIFACTS.values()}

# Of config.data: where the examples lie on this machine says nothing elsewhere.
_LEFT_OUT = ("path", "data_dir", "download", "memory_gib", "flip", "shift")


def check_out(out: Path) -> None:
    """Whether a folder can be written where `out` is: nothing, an empty folder, or an earlier export.

    Raises:
      ValueError: saying what is there.
    """
    check_writable(out.parent, "--out")
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"--out must be a folder; {out} is a file")
    found = {path.name for path in out.iterdir()}
    if not found:
        return
    try:
        pretrained.load_config(out)
        others = sorted(found - _FILES)
    except (FileNotFoundError, ValueError):
        others = sorted(found)
    if others:
        raise ValueError(
            f"--out must be a new folder, or one that experiments.export wrote; {out} holds {others[0]}"
        )


def export_trained(
    trained: Trained, workdir: str, out: Path, *, license_id: str, artifact: bool = False
) -> ModelConfig:
    """Writes model.safetensors, config.json and README.md into `out`, all of them or nothing.

    The card's numbers are those of the run's own protocol, that experiments.evaluate left in workdir
    for these weights. What was written is loaded once, and compared, before it comes to its name.

    Args:
      license_id: of the weights, for the card. artifact: whether to write ARTIFACTS too.

    Raises:
      FileNotFoundError: where that record is not there.
      ValueError: for one of another checkpoint; for a folder that check_out refuses; for params that
        are not finite, and a license that is no word.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license_id):
        raise ValueError(f"--license must be a name of the hub's, as apache-2.0; got {license_id!r}")
    out = out.resolve()
    check_out(out)
    experiment = trained.experiment
    record = _read_record(trained, workdir)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        config = pretrained.write_pretrained(
            partial, model_config(experiment), trained.params, trained.noise
        )
        _check_same(partial, trained)
        if artifact:
            _write_artifacts(partial, trained)
        written = json.loads((partial / pretrained.CONFIG).read_text())
        card = model_card(out.name, record, written, license_id=license_id, artifact=artifact)
        (partial / pretrained.CARD).write_text(card)
        _replace(out, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return config


def model_config(experiment: Experiment) -> ModelConfig:
    """All that makes the flow of a run again, as it is evaluated."""
    config, info = experiment.config, experiment.info
    data = {k: v for k, v in config.data.to_dict().items() if k not in _LEFT_OUT}
    return ModelConfig(
        model={**config.model.to_dict(), **config.eval.model.to_dict()},
        event_shape=info.event_shape,
        n_bins=experiment.n_bins,
        dequantization=config.dequantization.to_dict(),
        data=data | {"version": info.version},
        columns=tuple(column._asdict() for column in info.columns),
        library_version=environment()["versions"].get("flowjax-glow"),
    )


def _read_record(trained: Trained, workdir: str) -> dict[str, Any]:
    experiment = trained.experiment
    path = Path(workdir) / record_name(trained, choose_protocol(experiment))
    evaluate = f"python -m experiments.evaluate --workdir={workdir} --weights={trained.weights}"
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}, whose numbers the card has; run {evaluate}")
    record = read_record(path)
    is_of = {"step": trained.step, "weights": trained.weights, "config": fingerprint(experiment.config)}
    for field, value in is_of.items():
        if record.get(field) != value:
            raise ValueError(
                f"{path} must be of {field} {value}, which is exported; it is of {record.get(field)}: "
                f"run {evaluate}"
            )
    return record


def _check_same(folder: Path, trained: Trained) -> None:
    back = pretrained.load_pretrained(folder).params, pretrained.load_dequantizer(folder).params
    same = jax.tree.map(np.array_equal, back, (trained.params, trained.noise))
    if not all(jax.tree.leaves(same)):
        raise ValueError(f"what was written to {folder} must be what was trained; it is not")


def _write_artifacts(folder: Path, trained: Trained) -> None:
    flow, conditional = trained.experiment.flow, trained.experiment.conditional
    for name, export in (("log_prob", export_log_prob), ("sample", export_sample)):
        exported = export(flow, trained.params, conditional=conditional)
        (folder / ARTIFACTS[name]).write_bytes(exported.serialize())


def _replace(out: Path, partial: Path) -> None:
    """Gives the folder its name; an earlier one stays until then, and is put back where that fails."""
    before = out.with_name(f".{out.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    if out.exists():
        out.rename(before)
    try:
        partial.rename(out)
    except OSError:
        if before.exists():
            before.rename(out)
        raise
    shutil.rmtree(before, ignore_errors=True)
