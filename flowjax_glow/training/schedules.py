"""The learning rate of every step: a linear warm-up, counted in examples, and what comes after it."""

import math

import optax

from flowjax_glow.training.config import Config

SCHEDULES = ("constant", "cosine", "decay")


def learning_rate_schedule(config: Config, *, steps: int, batch_size: int) -> optax.Schedule:
    """The learning rate as a function of the step, counted from 0.

    In the first ceil(warmup_examples / batch_size) steps it rises linearly from 0, which is that of the
    first step, towards learning_rate. t steps after them it is, where they leave T to train,

    - "constant": learning_rate;
    - "cosine": final + (learning_rate - final) * (1 + cos(pi t / T)) / 2, of which the last step is
      t = T - 1, with final = final_learning_rate;
    - "decay": learning_rate * decay_rate^floor(t / decay_steps), or final_learning_rate where that is
      larger.

    Args:
      config: config.optimizer.
      steps: of the whole run. batch_size: examples a step, of all devices.

    Raises:
      ValueError: for an unknown schedule, a warm-up that leaves no steps to train, a learning rate that
        is not positive or lower than the final one, and a decay that is none.
    """
    rate, final = config.learning_rate, config.final_learning_rate
    warmup = math.ceil(config.warmup_examples / batch_size)
    if config.warmup_examples < 0 or warmup >= steps:
        raise ValueError(
            f"optimizer.warmup_examples must be at least 0 and take fewer than train.steps = {steps} "
            f"steps of {batch_size}; got {config.warmup_examples}, which take {warmup}"
        )
    if not rate > 0:
        raise ValueError(f"optimizer.learning_rate must be positive; got {rate}")
    if not 0 <= final <= rate:
        raise ValueError(
            f"optimizer.final_learning_rate must be in [0, learning_rate = {rate}]; got {final}"
        )
    if config.schedule == "constant":
        after = optax.constant_schedule(rate)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, steps - warmup, alpha=final / rate)
    elif config.schedule == "decay":
        after = _staircase(rate, final, config.decay_rate, config.decay_steps)
    else:
        raise ValueError(f"optimizer.schedule must be one of {SCHEDULES}; got {config.schedule!r}")
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


def _staircase(rate: float, final: float, decay_rate: float, decay_steps: int) -> optax.Schedule:
    if not 0 < decay_rate < 1:
        raise ValueError(f"optimizer.decay_rate must be in (0, 1); got {decay_rate}")
    if decay_steps < 1:
        raise ValueError(f"optimizer.decay_steps must be at least 1; got {decay_steps}")
    return optax.exponential_decay(rate, decay_steps, decay_rate, staircase=True, end_value=final)
