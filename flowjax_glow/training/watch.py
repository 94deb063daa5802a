"""Whether the model in training can still be inverted: what is logged of it, and said."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from flowjax_glow.base import Params
from flowjax_glow.data.split import Split
from flowjax_glow.invertibility import measure, problems
from flowjax_glow.training.experiment import Experiment


class NotInvertibleError(RuntimeError):
    """The data no longer come back, and model.memory = "constant" lives on that they do."""


class Watched(NamedTuple):
    """What an evaluation saw of the inverse: numbers to log, and lines that warn."""

    values: dict[str, float]
    warnings: list[str]


def watch(experiment: Experiment, params: Params, split: Split, step: int) -> Watched:
    """Looks at train.watch examples of the split and as many samples, the same at every evaluation.

    params: of the flow, on this process's first device. All processes call it together.

    Raises:
      NotInvertibleError: with model.memory = "constant", where the data are off by more than
        train.watch_tolerance. Gradients made of the rebuilt activations would be silently wrong.
    """
    config = experiment.config
    count = min(config.train.watch, len(split.examples))
    examples, labels = (jnp.asarray(np.asarray(a[:count])) for a in (split.examples, split.labels))
    of = experiment.flow, params, examples, jax.random.key(config.seed)
    how = {"n_bins": experiment.n_bins, "cond": labels if experiment.conditional else None}
    found, tolerance = measure(*of, **how), config.train.watch_tolerance
    errors = found.data_error, found.latent_error_07, found.latent_error_10
    is_well = max(errors) <= tolerance and found.nonfinite_07 == found.nonfinite_10 == 0
    lines = [] if is_well else problems(*of, **how, tolerance=tolerance)
    # All processes must come to the same end.
    off = float(np.max(process_allgather(np.float32(found.data_error))))
    if config.model.get("memory") == "constant" and not off <= tolerance:
        raise NotInvertibleError(
            f"at step {step} {lines[0] if lines else f'the data are off by {off:.1e}'}; past "
            f"train.watch_tolerance = {tolerance} model.memory = constant gives wrong gradients. The "
            "last checkpoint is good: go on from it with model.memory = stored"
        )
    values = {f"inverse/{k}": v for k, v in found._asdict().items() if v is not None}
    finite = {k: v for k, v in values.items() if math.isfinite(v)}
    return Watched(finite, lines)
