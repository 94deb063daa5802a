"""The whole suite runs with array shapes checked, strict promotion, and two virtual devices."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 2)
# Most of the suite's time is compilation; the commands' tests run in processes of their own, and those
# compile with every optimization.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

with install_import_hook("flowjax_glow", "beartype.beartype"):
    import flowjax_glow
    import flowjax_glow.data
    import flowjax_glow.evaluation
    import flowjax_glow.training.loop  # noqa: F401


@pytest.fixture
def float64():
    """The test computes in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def optax_promotes():
    """For tests that run an optimizer: optax mixes integer counts with floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def optimized():
    """For tests that train: XLA optimizes their programs."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
