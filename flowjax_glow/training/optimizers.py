"""The optimizer of a config: what becomes of a gradient before it moves the params, by optax."""

from typing import Any

import jax
import optax

from flowjax_glow.base import Params, is_running
from flowjax_glow.training.adamax import scale_by_released_adamax
from flowjax_glow.training.config import Config
from flowjax_glow.training.rmsprop import momentum, scale_by_bounded_rms
from flowjax_glow.training.schedules import learning_rate_schedule

_SCALE_BY = {
    "adam": lambda config: optax.scale_by_adam(config.b1, config.b2, config.eps),
    "adamax": lambda config: scale_by_released_adamax(config.b1, config.b2, config.eps),
    "rmsprop": lambda config: scale_by_bounded_rms(config.b2, config.eps),
}

# What magnitude_l2 is of, by the last key of the path: nets/resnet.py.
_PENALISED = ("magnitude", "rescale")


def make_optimizer(config: Config, *, steps: int, batch_size: int) -> optax.GradientTransformation:
    """The optimizer of config.optimizer, for gradients of bits per dimension or, of vectors, of nats.

    Gradients are, in this order,

    1. multiplied by gradient_scale. D log 2 makes those of bits per dimension into those of nats an
       image of D dimensions, which the releases of NICE, RealNVP and Flow++ descend, and in which their
       magnitude_l2, clip_norm and eps are.
    2. added to 2 * magnitude_l2 * value, for weight-norm magnitudes, and the learned factor of the
       log_scale of RealNVP's checkerboard couplings, alone. So magnitude_l2 times the sum of their
       squares is in the loss: l2_coeff of research/real_nvp in tensorflow/models, which has no 1/2.
    3. clipped to a global norm of clip_norm; math.inf does not clip.
    4. rescaled by the "adam", "adamax" or "rmsprop" of b1, b2 and eps. See adamax.py, rmsprop.py.
    5. added to weight_decay * value, decoupled; so the learning rate multiplies both.
    6. multiplied by the learning rate. See schedules.py.
    7. with "rmsprop", and from step momentum_start on, added to b1 times the last step.

    None of that is for running statistics, whose gradients are differences (base.RUNNING): they go
    running <- running - (1 - running_momentum) * gradient from the first step on.

    Args:
      config: config.optimizer.
      steps: of the whole run. batch_size: examples a step, of all devices.

    Raises:
      ValueError: for an unknown optimizer or schedule, and a number that is out of its range.
    """
    _check(config)
    rate = learning_rate_schedule(config, steps=steps, batch_size=batch_size)
    last = optax.identity()
    if config.name == "rmsprop":
        last = momentum(config.b1, start=config.momentum_start)
    learned = optax.chain(
        optax.scale(config.gradient_scale),
        optax.add_decayed_weights(2 * config.magnitude_l2, mask=_penalised),
        optax.clip_by_global_norm(config.clip_norm),
        _SCALE_BY[config.name](config),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(rate),
        last,
    )
    running = optax.scale(config.running_momentum - 1.0)
    return optax.partition({"learned": learned, "running": running}, _kinds)


def _check(config: Config) -> None:
    if config.name not in _SCALE_BY:
        raise ValueError(f"optimizer.name must be one of {sorted(_SCALE_BY)}; got {config.name!r}")
    for field in ("b1", "b2", "running_momentum"):
        if not 0 <= config[field] < 1:
            raise ValueError(f"optimizer.{field} must be in [0, 1); got {config[field]}")
    for field in ("eps", "clip_norm", "gradient_scale"):
        if not config[field] > 0:
            raise ValueError(f"optimizer.{field} must be positive; got {config[field]}")
    for field in ("weight_decay", "magnitude_l2", "momentum_start"):
        if config[field] < 0:
            raise ValueError(f"optimizer.{field} must not be negative; got {config[field]}")


def _kinds(trained: Params) -> Params:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "running" if is_running(path) else "learned", trained
    )


def _penalised(trained: Params) -> Params:
    def is_penalised(path: Any, _: Any) -> bool:
        return any(getattr(entry, "key", None) in _PENALISED for entry in path[-1:])

    return jax.tree_util.tree_map_with_path(is_penalised, trained)
