"""Mistakes in a config, told before anything compiles or is written: names, types and ranges.

What only the data, the devices or another field can tell is checked where it is known, and before the
first compilation too: experiment.build, drivers.check_devices, and the model's own constructor.
"""

from collections.abc import Mapping
from typing import Any

from flowjax_glow import models
from flowjax_glow.models.hyperparameters import MOST, Rule, check_field, nearest, rules_of
from flowjax_glow.training.config import Config, flatten

_WHOLE, _WHOLE_OR_ZERO = Rule(int, most=MOST), Rule(int, least=0, most=MOST)
_COUNT, _COUNT_OR_NONE = Rule(int, least=1, most=MOST), Rule(int, least=1, most=MOST, none=True)
_TEXT, _TEXT_OR_NONE, _SWITCH, _NUMBER = Rule(str), Rule(str, none=True), Rule(bool), Rule(float)

# Every field of a config but the hyperparameters, which the models know, and what a paper reports.
# Ranges that stand here are checked nowhere else.
FIELDS: dict[str, Rule] = {
    "seed": Rule(int, least=0, most=2**32 - 1),
    "data.name": _TEXT,
    "data.build": _TEXT_OR_NONE,
    "data.version": _TEXT_OR_NONE,
    "data.path": _TEXT_OR_NONE,
    "data.data_dir": _TEXT_OR_NONE,
    "data.download": _SWITCH,
    "data.memory_gib": Rule(float, least=0),
    "data.crop": _COUNT_OR_NONE,
    "data.image_size": _COUNT_OR_NONE,
    "data.pad": _WHOLE_OR_ZERO,
    "data.channels": _COUNT_OR_NONE,
    "data.random_crop": _COUNT_OR_NONE,
    "data.train_examples": _COUNT_OR_NONE,
    "data.valid_examples": _COUNT_OR_NONE,
    "data.n_bits": Rule(int, least=1, most=8),
    "data.flip": _SWITCH,
    "data.shift": Rule(float, least=0, below=1),
    "optimizer.name": _TEXT,
    "optimizer.learning_rate": Rule(float, above=0),
    "optimizer.b1": _NUMBER,
    "optimizer.momentum_start": _WHOLE,
    "optimizer.b2": _NUMBER,
    "optimizer.eps": _NUMBER,
    "optimizer.schedule": _TEXT,
    "optimizer.warmup_examples": _WHOLE,
    "optimizer.final_learning_rate": _NUMBER,
    "optimizer.decay_rate": _NUMBER,
    "optimizer.decay_steps": _WHOLE,
    "optimizer.weight_decay": _NUMBER,
    "optimizer.magnitude_l2": _NUMBER,
    "optimizer.gradient_scale": _NUMBER,
    "optimizer.clip_norm": Rule(float, infinite=True),
    "optimizer.running_momentum": _NUMBER,
    "train.steps": _COUNT,
    "train.batch_size": _COUNT,
    "train.init_examples": _COUNT,
    "train.accumulate": _WHOLE,
    "train.steps_per_call": _WHOLE,
    "train.average_decay": Rule(float, least=0, most=1),
    "train.log_every": _COUNT,
    "train.eval_every": _COUNT,
    "train.max_bad_steps": _COUNT,
    "train.watch": _WHOLE_OR_ZERO,
    "train.watch_tolerance": Rule(float, above=0),
    "parallel.driver": _TEXT,
    "parallel.fsdp": _WHOLE,
    "parallel.distributed": _SWITCH,
    "parallel.platform": Rule(str, none=True, one_of=("cpu", "gpu", "tpu")),
    "eval.weights": Rule(str, one_of=("average", "raw")),
    "eval.draws": _COUNT,
    "eval.importance": _COUNT,
    "eval.samples": _COUNT,
    "eval.batch_size": _COUNT,
}


def check_config(config: Config, *, whole: bool = True) -> None:
    """Whether every field is one that is known, of its type, and in its range.

    whole: whether every field must be there, as it must to train; the config of a run by an older
    version may lack some.

    Raises:
      ValueError: naming the field, what it must be, and what it is.
    """
    flat = dict(flatten(config))
    check_fields(flat)
    missing = sorted({*FIELDS, "model.name", "dequantization.name"} - flat.keys())
    if whole and missing:
        raise ValueError(
            f"config must have a field {missing[0]}; it is missing; "
            "experiments/configs/default.py has every field"
        )


def check_fields(flat: Mapping[str, Any]) -> None:
    """check_config for some fields, by their dotted names; none has to be there."""
    known = FIELDS | {"model.name": Rule(str, one_of=tuple(sorted(models.MODELS)))}
    known |= {"dequantization.name": Rule(str, one_of=("uniform", "variational"))}
    for name in known.keys() & flat.keys():
        check_field(name, flat[name], known[name])
    model = flat.get("model.name", "glow")
    hyperparameters = rules_of(models.MODELS[model])
    for section in ("model", "eval.model"):
        known |= {f"{section}.{name}": rule for name, rule in hyperparameters.items()}
    if flat.get("dequantization.name") == "variational":
        noise = rules_of(models.dequantization_flow)
        known |= {f"dequantization.{name}": rule for name, rule in noise.items()}
    sections = {name.rpartition(".")[0] for name in known}
    for name, value in flat.items():
        if name in sections:
            raise ValueError(f"{name} must be a section, with fields of its own; got {value!r}")
        if name in known:
            check_field(name, value, known[name])
        elif not name.startswith("paper."):
            of = f" of model {model}" if "model." in name else ""
            raise ValueError(
                f"there is no field {name}{of}; got {name} = {value!r}{nearest(name, known)}"
            )
