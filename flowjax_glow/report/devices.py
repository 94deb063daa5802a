"""Accelerators as their vendors publish them, to plan with; nothing here was measured.

NVIDIA's tables print the peaks of sparse products, twice the dense ones that a flow's matrices reach.
"""

from typing import NamedTuple


class Device(NamedTuple):
    """One accelerator.

    memory: GiB; what a program gets is some per cent less. bfloat16, float32: operations a second of
    dense matrix products of that dtype, float32 in JAX's default precision, which computes them as
    float32_as. ring: bytes a second that a device sends in a ring of them over the vendor's own link.
    """

    name: str
    memory: int
    bfloat16: float
    float32: float
    float32_as: str
    ring: float
    source: str


def _nvidia(name: str, memory: int, bfloat16: float, tf32: float, ring: float, page: str) -> Device:
    source = f"https://www.nvidia.com/en-us/{page}/"
    return Device(name, memory, bfloat16, tf32, "TF32", ring, source)


def _tpu(version: str, memory: int, peak: float, link: float) -> Device:
    # A torus: a ring in both directions goes out over two of a chip's links.
    source = f"https://docs.cloud.google.com/tpu/docs/{version}"
    return Device(f"tpu-{version}", memory, peak, peak, "one bfloat16 pass", 2 * link, source)


# NVLink and PCIe 4.0 x16 (l4, rtx4090): one way, half of what is printed. A TPU's link: the chip's
# interconnect, 2,400, 1,600, 4,800 and 3,200 Gb/s one way, over its 6, 4, 6 and 4 links. The pages of
# the TPUs were read for this; NVIDIA's figures were confirmed at second hand. How JAX multiplies
# float32 by default: https://docs.jax.dev/en/latest/201/precision.html
_ALL = (
    _nvidia("a100", 80, 312e12, 156e12, 300e9, "data-center/a100"),  # SXM, as the next three
    _nvidia("h100", 80, 989e12, 494e12, 450e9, "data-center/h100"),
    _nvidia("h200", 141, 989e12, 494e12, 450e9, "data-center/h200"),
    _nvidia("b200", 180, 2250e12, 1100e12, 900e9, "data-center/hgx"),
    _nvidia("l4", 24, 121e12, 60e12, 32e9, "data-center/l4"),
    _nvidia("rtx4090", 24, 165e12, 82.6e12, 32e9, "geforce/graphics-cards/40-series/rtx-4090"),
    _tpu("v4", 32, 275e12, 50e9),
    _tpu("v5e", 16, 197e12, 50e9),
    _tpu("v5p", 95, 459e12, 100e9),
    _tpu("v6e", 32, 918e12, 100e9),
)
DEVICES = {device.name: device for device in _ALL}


def find_device(name: str) -> Device:
    """A device by its name in DEVICES.

    Raises:
      ValueError: naming those that are known.
    """
    if name not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}; got {name!r}")
    return DEVICES[name]
