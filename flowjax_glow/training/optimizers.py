"""The optimizer of a config: warm-up from zero, clipping, decay, by optax."""

import jax
import optax

from flowjax_glow.base import Params, is_running
from flowjax_glow.training.config import Config

_SCALE_BY = {
    "adam": optax.scale_by_adam,
    "adamax": optax.scale_by_adamax,
}


def learning_rate_schedule(config: Config, total_steps: int) -> optax.Schedule:
    """Linear warm-up from 0 over warmup_steps, then "constant", or "cosine" down to 0 at total_steps.

    Raises:
      ValueError: for an unknown schedule, or a warm-up that leaves no steps to train.
    """
    rate, warmup = config.learning_rate, config.warmup_steps
    if not 0 <= warmup < total_steps:
        raise ValueError(
            f"optimizer.warmup_steps must be in [0, train.steps = {total_steps}); got {warmup}"
        )
    if config.schedule == "constant":
        after = optax.constant_schedule(rate)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, total_steps - warmup)
    else:
        raise ValueError(f"optimizer.schedule must be constant or cosine; got {config.schedule!r}")
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


def make_optimizer(config: Config, total_steps: int) -> optax.GradientTransformation:
    """Clip by global norm, scale by Adam or Adamax, decoupled weight decay, learning rate.

    None of that is for running statistics, whose gradients are differences (base.RUNNING): they go
    running <- running - (1 - running_momentum) * gradient from the first step on.

    Raises:
      ValueError: for an unknown optimizer or schedule, or a running_momentum outside [0, 1).
    """
    if config.name not in _SCALE_BY:
        raise ValueError(f"optimizer.name must be one of {sorted(_SCALE_BY)}; got {config.name!r}")
    momentum = config.running_momentum
    if not 0 <= momentum < 1:
        raise ValueError(f"optimizer.running_momentum must be in [0, 1); got {momentum}")
    learned = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        _SCALE_BY[config.name](b1=config.b1, b2=config.b2),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(learning_rate_schedule(config, total_steps)),
    )
    running = optax.scale(momentum - 1.0)
    return optax.partition({"learned": learned, "running": running}, _kinds)


def _kinds(trained: Params) -> Params:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "running" if is_running(path) else "learned", trained
    )
