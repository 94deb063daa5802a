"""The published models: hyperparameters -> one Flow; and their dequantizers."""

from collections.abc import Callable
from typing import Any

from flowjax_glow.dequantization import Dequantizer, uniform_dequantizer, variational_dequantizer
from flowjax_glow.flow import Flow
from flowjax_glow.models.ffjord import ffjord
from flowjax_glow.models.flow_plus_plus import dequantization_flow, flow_plus_plus
from flowjax_glow.models.glow import glow
from flowjax_glow.models.iaf import iaf
from flowjax_glow.models.jet import jet
from flowjax_glow.models.maf import maf
from flowjax_glow.models.neural_spline_flow import neural_spline_flow
from flowjax_glow.models.nice import nice
from flowjax_glow.models.planar_flow import planar_flow
from flowjax_glow.models.real_nvp import real_nvp
from flowjax_glow.models.residual_flow import residual_flow
from flowjax_glow.models.tarflow import tarflow

MODELS: dict[str, Callable[..., Flow]] = {
    "ffjord": ffjord,
    "flow_plus_plus": flow_plus_plus,
    "glow": glow,
    "iaf": iaf,
    "jet": jet,
    "maf": maf,
    "neural_spline_flow": neural_spline_flow,
    "nice": nice,
    "planar_flow": planar_flow,
    "real_nvp": real_nvp,
    "residual_flow": residual_flow,
    "tarflow": tarflow,
}


def build(name: str, event_shape: tuple[int, ...], **hyperparameters: Any) -> Flow:
    """The flow of a model by name, as configs give it.

    Raises:
      ValueError: for an unknown model, and whatever the model raises of its hyperparameters.
    """
    if name not in MODELS:
        raise ValueError(f"model.name must be one of {sorted(MODELS)}; got {name!r}")
    return MODELS[name](event_shape, **hyperparameters)


def build_dequantizer(name: str, n_bins: int | None, **hyperparameters: Any) -> Dequantizer:
    """The dequantizer by name, as configs give it: "uniform", or "variational", dequantization_flow's.

    n_bins: levels of a pixel; None of vectors.

    Raises:
      ValueError: for learned noise of vectors, and what dequantization_flow raises.
    """
    if name == "uniform":
        return uniform_dequantizer(n_bins=n_bins)
    if n_bins is None:
        raise ValueError(f"dequantization.name must be 'uniform' for vectors; got {name!r}")
    return variational_dequantizer(dequantization_flow(**hyperparameters), n_bins=n_bins)


__all__ = [
    "MODELS",
    "build",
    "build_dequantizer",
    "dequantization_flow",
    "ffjord",
    "flow_plus_plus",
    "glow",
    "iaf",
    "jet",
    "maf",
    "neural_spline_flow",
    "nice",
    "planar_flow",
    "real_nvp",
    "residual_flow",
    "tarflow",
]
