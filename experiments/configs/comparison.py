r"""Seven families of flows at a million parameters and equal steps, on digits and on photos.

python -m experiments.sweep --config=experiments/configs/comparison.py --workdir=runs/comparison --run
python -m experiments.train --config=experiments/configs/comparison.py:jet_photos --workdir=runs/jet

The sweep is 14 runs, which train in an hour on two CPU cores, each in minutes; FILE.py:NAME is one of
NAMES, and FILE.py:NAME:smoke shrinks it. TarFlow has runs of that size too, outside the sweep.

Equal on a set: 0.95 to 1.05 million trained parameters, those of learned noise among them; images and
their order, batch, steps; Adam, warm-up, cosine; no dropout and no decay; averaged weights, of the best
checkpoint on valid; draws of the noise, and K = 1, in evaluation.

Not equal: the time of a step, and the learning rate of NICE. Flow++ learns its noise, which the others
could. Residual Flow trains and is evaluated on unbiased estimates. The shapes are the papers', shrunk;
"spline" is Glow with the rational-quadratic couplings of Durkan et al. 2019, arXiv:1906.04032.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.configs import default

FAMILIES = ("nice", "real_nvp", "glow", "spline", "residual_flow", "flow_plus_plus", "jet")

_MODELS: dict[str, dict[str, Any]] = {
    "nice_digits": {"name": "nice", "depths": (4, 4, 4, 4), "width": 272},
    "real_nvp_digits": {"name": "real_nvp", "scales": 2, "width": 20, "blocks": 4},
    "glow_digits": {"name": "glow", "levels": 2, "depth": 16, "width": 136},
    "spline_digits": {"name": "glow", "levels": 2, "depth": 8, "width": 80, "coupling": "spline"},
    "residual_flow_digits": {
        "name": "residual_flow",
        "levels": 2,
        "width": 96,
        "end_depth": 20,
        "end_width": 150,
    },
    "flow_plus_plus_digits": {"name": "flow_plus_plus", "depths": (4, 2, 3), "width": 40},
    "jet_digits": {"name": "jet", "patch": 2, "width": 64, "couplings": 10, "layers": 2},
    "tarflow_digits": {"name": "tarflow", "patch": 2, "width": 64, "blocks": 5, "layers": 4},
    "nice_photos": {"name": "nice", "depths": (3, 3, 3, 3), "width": 78},
    "real_nvp_photos": {"name": "real_nvp", "scales": 3, "width": 13, "blocks": 2},
    "glow_photos": {"name": "glow", "levels": 3, "depth": 8, "width": 80},
    "spline_photos": {"name": "glow", "levels": 3, "depth": 4, "width": 24, "coupling": "spline"},
    "residual_flow_photos": {
        "name": "residual_flow",
        "levels": 3,
        "width": 64,
        "end_depth": 4,
        "end_width": 24,
    },
    "flow_plus_plus_photos": {"name": "flow_plus_plus", "depths": (1, 2, 4), "width": 36},
    "jet_photos": {"name": "jet", "patch": 4, "width": 60, "couplings": 10, "layers": 2},
    "tarflow_photos": {"name": "tarflow", "patch": 4, "width": 64, "blocks": 6, "layers": 3},
}
NAMES = tuple(_MODELS)

# What the runs of a family share, on both sets and in the smoke form alone.
_FAMILY: dict[str, dict[str, Any]] = {
    "residual_flow": {"depth": 4},
    "flow_plus_plus": {"blocks": 2, "heads": 4, "components": 4, "dropout": 0.0},
    "jet": {"heads": 4},
    "tarflow": {"heads": 4},
}
_NOISE = {"name": "variational", "depth": 2, "blocks": 1, "width": 16, "features": 16, "heads": 4}
_NOISE |= {"components": 4, "dropout": 0.0}
_SMOKE: dict[str, dict[str, Any]] = {
    "nice": {"depths": (1, 1), "width": 8},
    "real_nvp": {"scales": 2, "width": 4, "blocks": 1},
    "glow": {"depth": 2, "width": 8},
    "spline": {"depth": 1, "width": 8},
    "residual_flow": {"depth": 1, "width": 8, "end_depth": 1, "end_width": 8},
    "flow_plus_plus": {"depths": (1, 1, 1), "blocks": 1, "width": 8, "heads": 2, "components": 2},
    "jet": {"width": 8, "heads": 2, "couplings": 6, "layers": 1},
    "tarflow": {"width": 8, "heads": 2, "blocks": 2, "layers": 1},
}


def get_config(mode: str = ""):
    """mode: one of NAMES, by default the first, and then, or alone, "smoke"."""
    name, _, mode = mode.partition(":")
    if name in ("", "smoke"):
        name, mode = NAMES[0], name
    if name not in NAMES:
        raise ValueError(f"the config's argument must be one of {NAMES}, or 'smoke'; got {name!r}")
    family, _, data = name.rpartition("_")

    config = default.get_config()
    config.data.name = data
    config.model = ConfigDict(_MODELS[name] | _FAMILY.get(family, {}))
    if family == "flow_plus_plus":
        config.dequantization = ConfigDict(_NOISE)

    config.train.batch_size = 64 if data == "digits" else 16
    config.train.steps = 1_000 if data == "digits" else 1_500
    config.train.steps_per_call = 25
    config.train.eval_every = 100 if data == "digits" else 250
    config.train.average_decay = 0.99
    config.optimizer.learning_rate = 1e-2 if family == "nice" else 1e-3
    config.optimizer.warmup_examples = 100 * config.train.batch_size
    config.eval.draws = 4
    config.eval.samples = 100
    return default.finish(config, mode, **_SMOKE[family])


def get_sweep() -> list[dict[str, Any]]:
    """The runs of both sets, digits first."""
    names = [f"{family}_{data}" for data in ("digits", "photos") for family in FAMILIES]
    return [{"config_string": name, "name": name} for name in names]
