"""The whole suite runs with array shapes checked, strict promotion, and two virtual devices."""

import importlib.metadata
import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported, as the next
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"

import jax
import pytest
from jaxtyping import install_import_hook

LOCAL = ("127.0.0.1", "localhost", "::1", None)


def _refuse_network(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if host not in LOCAL:
        raise PermissionError(f"the suite needs no network; it asked for {host}")


sys.addaudithook(_refuse_network)

jax.config.update("jax_num_cpu_devices", 2)
# Most of the suite's time is compilation: without optimizations, and with this, which halves the rest,
# the change of variables of a Glow is checked in 13 s in place of 24. XLA ends a process at a flag it
# does not know, hence the version. Commands inherit both, but for the run of test_commands that is
# looked at most.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false"
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

with install_import_hook("flowjax_glow", "beartype.beartype"):
    import flowjax_glow
    import flowjax_glow.data
    import flowjax_glow.evaluation
    import flowjax_glow.training.loop  # noqa: F401


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """What was compiled is dropped in time: Linux gives a process 65,530 mappings, of which a compiled
    program holds some, and where none is left XLA ends the process by a segmentation fault.
    """
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


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
