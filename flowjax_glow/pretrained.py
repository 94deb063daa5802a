"""Models handed on: a folder that makes a flow again, with its params, and nothing of which is run.

FOLDER/model.safetensors  leaves of the params by their paths: "flow.0.bias", "dequantizer.0.kernel"
FOLDER/config.json        all that makes the flow and the dequantizer, and the SHA-256 of the above
FOLDER/README.md          the model card, for people and for the Hugging Face hub

No other file is opened, whatever these say. experiments.export writes such a folder of a run; those of
flowjax_glow/pretrained_models come with the library, and are known by their names.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowjax_glow import models
from flowjax_glow.base import Params
from flowjax_glow.dequantization import Dequantizer
from flowjax_glow.flow import Flow, init
from flowjax_glow.models.hyperparameters import Rule, check_field, nearest, rules_of

FORMAT = "flowjax_glow"
FORMAT_VERSION = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_SHIPPED = Path(__file__).parent / "pretrained_models"

Source = str | os.PathLike[str]


class Pretrained(NamedTuple):
    """A flow and its params, on the default device."""

    flow: Flow
    params: Params


class PretrainedDequantizer(NamedTuple):
    """What makes images continuous for a flow, and its params: {} where nothing is learned."""

    dequantizer: Dequantizer
    params: Params


class ModelConfig(NamedTuple):
    """What config.json says.

    model: the name in models.MODELS, and the hyperparameters. event_shape: of one example. n_bins:
    levels of a pixel, None of vectors. dequantization: its name, and the hyperparameters. data: the
    set that the flow was trained on: its version, n_bits, and what data.load is given for it. columns:
    of vectors, {"name", "mean", "deviation"} of each number; what the flow is given is (value - mean)
    / deviation. library_version: that wrote the folder. sha256: of model.safetensors.
    """

    model: dict[str, Any]
    event_shape: tuple[int, ...]
    n_bins: int | None
    dequantization: dict[str, Any]
    data: dict[str, Any]
    columns: tuple[dict[str, Any], ...] = ()
    library_version: str | None = None
    sha256: str = ""

    @property
    def num_classes(self) -> int | None:
        """Of a flow that is told labels as cond, (batch,); None of one that is not."""
        return self.model.get("num_classes")


def shipped() -> list[str]:
    """The names of the models that come with the library."""
    return sorted(path.parent.name for path in _SHIPPED.glob(f"*/{CONFIG}"))


def load_pretrained(name: Source) -> Pretrained:
    """The flow and the params of a folder that experiments.export wrote, or of a shipped model.

    Names, shapes and dtypes are those of the flow that config.json describes, and values are finite.
    The flow is the one that was evaluated, eval.model of its run included. It takes labels as cond
    where load_config says num_classes.

    Args:
      name: a folder, or one of shipped(): "glow_digits". A folder of such a name is "./glow_digits".

    Raises:
      FileNotFoundError: where there is no such folder or name, or a file is missing.
      ValueError: for a file that is damaged, or not what this version reads; it is named.
    """
    _, flow, _, params = _load(name)
    return Pretrained(flow, params["flow"])


def load_dequantizer(name: Source) -> PretrainedDequantizer:
    """The dequantizer that a flow was trained and evaluated with; load_pretrained says the rest."""
    _, _, dequantizer, params = _load(name)
    return PretrainedDequantizer(dequantizer, params["dequantizer"])


def load_config(name: Source) -> ModelConfig:
    """What the config.json of a folder or of a shipped model says; load_pretrained says the rest."""
    path = _folder_of(name) / CONFIG
    try:
        read = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it must be JSON; {error}") from error
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise ValueError(
            f"{path} must be written by experiments.export, with format = {FORMAT!r}; it is not"
        )
    if read.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} must be of format_version {FORMAT_VERSION}, which this version of flowjax_glow "
            f"reads; got {read.get('format_version')!r}, of flowjax_glow {read.get('library_version')}"
        )
    missing = [name for name in ModelConfig._fields if name not in read]
    if missing:
        raise ValueError(f"{path} is damaged: it must have {missing[0]}")
    config = ModelConfig(**{name: _with_tuples(read[name]) for name in ModelConfig._fields})
    try:
        _check(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return config


def write_pretrained(folder: Path, config: ModelConfig, params: Params, noise: Params) -> ModelConfig:
    """Writes model.safetensors and config.json into a folder that is there; what it wrote as config.

    Args:
      config: its sha256 is computed. params: of the flow. noise: of the dequantizer.
    """
    from safetensors.numpy import save

    leaves = _by_path({"flow": params, "dequantizer": noise})
    weights = save({path: np.asarray(leaf, order="C") for path, leaf in leaves.items()})
    (folder / WEIGHTS).write_bytes(weights)
    config = config._replace(sha256=hashlib.sha256(weights).hexdigest())
    written = {"format": FORMAT, "format_version": FORMAT_VERSION, **config._asdict()}
    (folder / CONFIG).write_text(json.dumps(written, indent=2) + "\n")
    return config


def _load(name: Source) -> tuple[ModelConfig, Flow, Dequantizer, Params]:
    folder, config = _folder_of(name), load_config(name)
    arrays = _read_arrays(folder / WEIGHTS, config.sha256)
    try:
        flow, dequantizer = _make(config)
        expected = _abstract_params(flow, dequantizer, config)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {' '.join(str(error).split())}") from error
    return config, flow, dequantizer, _filled(expected, arrays, folder / WEIGHTS)


def _folder_of(name: Source) -> Path:
    if name in shipped():
        return _SHIPPED / name
    folder = Path(name)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {os.fspath(name)!r} of experiments.export; the models that come with "
            f"the library are {', '.join(shipped())}"
        )
    return folder


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; a folder of experiments.export has one")
    return path.read_bytes()


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(entry) for name, entry in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _check(config: ModelConfig) -> None:
    for section in ("model", "dequantization", "data"):
        if not isinstance(getattr(config, section), dict):
            raise ValueError(f"{section} must be an object; got {getattr(config, section)!r}")
    check_field("event_shape", config.event_shape, Rule(tuple, least=1))
    check_field("n_bins", config.n_bins, Rule(int, least=1, most=256, none=True))
    check_field("sha256", config.sha256, Rule(str))
    build = models.MODELS[_name("model", config.model, tuple(sorted(models.MODELS)))]
    _check_hyperparameters("model", config.model, build)
    if _name("dequantization", config.dequantization, ("uniform", "variational")) == "variational":
        _check_hyperparameters("dequantization", config.dequantization, models.dequantization_flow)


def _name(section: str, given: dict[str, Any], known: tuple[str, ...]) -> str:
    name = given.get("name")
    check_field(f"{section}.name", name, Rule(str, one_of=known))
    return str(name)


def _check_hyperparameters(section: str, given: dict[str, Any], build: Any) -> None:
    rules = {f"{section}.{name}": rule for name, rule in rules_of(build).items()}
    for name, value in given.items():
        field = f"{section}.{name}"
        if name == "name":
            continue
        if field not in rules:
            known = nearest(field, rules)
            raise ValueError(f"there is no field {field} of {given['name']}; got {value!r}{known}")
        check_field(field, value, rules[field])


def _make(config: ModelConfig) -> tuple[Flow, Dequantizer]:
    hyperparameters, noise = dict(config.model), dict(config.dequantization)
    flow = models.build(hyperparameters.pop("name"), config.event_shape, **hyperparameters)
    return flow, models.build_dequantizer(noise.pop("name"), config.n_bins, **noise)


def _abstract_params(flow: Flow, dequantizer: Dequantizer, config: ModelConfig) -> Params:
    """The shapes and dtypes of the params; nothing is allocated."""
    shape = (2, *config.event_shape)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    examples = x if config.n_bins is None else jax.ShapeDtypeStruct(shape, jnp.uint8)
    labels = None if config.num_classes is None else jax.ShapeDtypeStruct((2,), jnp.int32)

    def make(x, examples, labels):
        key = jax.random.key(0)
        return {"flow": init(flow, key, x, labels), "dequantizer": dequantizer.init(key, examples)}

    return jax.eval_shape(make, x, examples, labels)


def _by_path(params: Params) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _read_arrays(path: Path, sha256: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = _read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path} is damaged, or not wholly there: its SHA-256 is not the one in {CONFIG}"
        )
    try:
        return load(content)
    except (SafetensorError, KeyError) as error:  # a KeyError of a dtype that NumPy has not
        raise ValueError(f"{path} must be a safetensors file of NumPy's dtypes; {error}") from error


def _filled(expected: Params, arrays: dict[str, np.ndarray], path: Path) -> Params:
    """The params of the expected structure, of arrays that are what it expects."""
    known = _by_path(expected)
    for name in sorted(known.keys() ^ arrays.keys()):
        holds = "lacks" if name in known else "also holds"
        raise ValueError(f"{path} must hold the params of the model in {CONFIG}; it {holds} {name}")
    for name, like in known.items():
        array = arrays[name]
        if (array.shape, array.dtype) != (like.shape, like.dtype):
            raise ValueError(
                f"{path}: {name} must be {like.dtype} {like.shape}, by the model in {CONFIG}; got "
                f"{array.dtype} {array.shape}"
            )
        if jnp.issubdtype(array.dtype, jnp.floating) and not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} must be finite; it is not")
    leaves = [jnp.asarray(arrays[name]) for name in known]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)
