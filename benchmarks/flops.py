"""The matrix products of a Glow, counted from its sizes: where they are and how much work they are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

TRAINING = 3  # a product's forward pass, and one of its size for either factor's gradient


class Product(NamedTuple):
    """(m, k) @ (k, n), `times` times a forward pass; m has the batch in it."""

    name: str
    m: int
    k: int
    n: int
    times: int

    @property
    def flops(self) -> int:
        """Of all of them, a multiplication and an addition each."""
        return 2 * self.m * self.k * self.n * self.times


def conv3x3(name: str, m: int, c: int, features: int, times: int) -> Product:
    """A 3x3 convolution as nets.conv computes it: wide on the side that has fewer channels.

    Where that is the input, the channel of ones is one more.
    """
    if c <= features:
        return Product(name, m, 9 * (c + 1), features, times)
    return Product(name, m, c, 9 * features, times)


def glow_products(
    *, size: int, levels: int, depth: int, width: int, batch: int, **_: Any
) -> list[Product]:
    """Those of fg.glow's defaults on (size, size, 3) that grow with the batch, finest level first.

    What depends on parameters alone (W's inverse, the border's bias, the top prior) is not counted.
    """
    products, channels, side = [], 3, size
    for level in range(levels):
        channels, side = 4 * channels, side // 2
        m, half = batch * side * side, channels // 2
        products += [
            Product(f"level {level}, 1x1", m, channels, channels, depth),
            conv3x3(f"level {level}, conv_in", m, half, width, depth),
            Product(f"level {level}, mix", m, width, width, depth),
            conv3x3(f"level {level}, conv_out", m, width, channels, depth),
        ]
        if level < levels - 1:
            products.append(conv3x3(f"level {level}, prior", m, half, channels, 1))
            channels = half
    return products


def total(products: Sequence[Product], *, training: bool) -> int:
    """Useful operations of a forward pass or of a training step."""
    return sum(p.flops for p in products) * (TRAINING if training else 1)
