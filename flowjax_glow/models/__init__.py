"""The published models: hyperparameters -> one Flow."""

from collections.abc import Callable
from typing import Any

from flowjax_glow.flow import Flow
from flowjax_glow.models.glow import glow

MODELS: dict[str, Callable[..., Flow]] = {"glow": glow}


def build(name: str, event_shape: tuple[int, ...], **hyperparameters: Any) -> Flow:
    """The flow of a model by name, as configs give it.

    Raises:
      ValueError: for an unknown model, and whatever the model raises of its hyperparameters.
    """
    if name not in MODELS:
        raise ValueError(f"model.name must be one of {sorted(MODELS)}; got {name!r}")
    return MODELS[name](event_shape, **hyperparameters)


__all__ = ["MODELS", "build", "glow"]
