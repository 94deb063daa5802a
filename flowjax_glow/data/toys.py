"""Densities in the plane, by name: two moons, circles, spirals, a checkerboard, gaussians, a pinwheel.

As in Grathwohl et al. 2019 (FFJORD), arXiv:1810.01367, section 4.1 and its released code, but for the
moons, which are scikit-learn's with noise 0.05. Vectors are neither shifted nor scaled beyond what
stands here, and so have the density that stands here, in nats; `log_density` computes it for all but
the spirals and the pinwheel.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from flowjax_glow.data.split import Column, Info, Split

SIZES = {"train": 20_000, "valid": 2_000, "test": 10_000}

Points = Float[np.ndarray, "num 2"]

_MOONS_NOISE = 0.05
_CIRCLES_NOISE = 0.08
_ANGLES = 400  # of the grids that densities on curves are averaged over: 0.008 apart, noise is 0.05


class Toy(NamedTuple):
    """draw(rng, num) -> (num, 2). log_density(points) -> (num,) nats; None where it is not known."""

    draw: Callable[[np.random.Generator, int], Points]
    log_density: Callable[[Points], Float[np.ndarray, " num"]] | None


def info(name: str) -> Info:
    """What `load` gives."""
    return Info(f"{name}/1", (2,), None, None, (Column("x"), Column("y")))


def load(name: str, split: str, *, train_examples: int | None = None) -> Split:
    """The points of a split, always the same: 20,000 to train, 2,000 valid, 10,000 test.

    Args:
      train_examples: how many to train on, in place of 20,000.

    Raises:
      ValueError: if train_examples is less than 1.
    """
    sizes = SIZES if train_examples is None else SIZES | {"train": train_examples}
    if sizes[split] < 1:
        raise ValueError(f"train_examples must be at least 1; got {train_examples}")
    rng = np.random.default_rng(list(SIZES).index(split))
    points = TOYS[name].draw(rng, sizes[split])
    return Split(points.astype(np.float32), np.full(len(points), -1, np.int32))


def log_density(
    name: str, examples: Float32[np.ndarray, "num dim"]
) -> Float[np.ndarray, " num"] | None:
    """The log density that a set was drawn from, at each example, nats; None where it is not known."""
    of_toy = TOYS[name].log_density if name in TOYS else None
    return None if of_toy is None else of_toy(examples.astype(np.float64))


def _moons(rng: np.random.Generator, num: int) -> Points:
    """Half circles of radius 1 about (0, 0) and (1, 0.5), the second one upside down; noise 0.05."""
    curve = np.concatenate(_moon_curves(rng.uniform(0.0, np.pi, num)))
    chosen = rng.integers(2, size=num) * num + np.arange(num)
    return curve[chosen] + _MOONS_NOISE * rng.standard_normal((num, 2))


def _moon_curves(angle: Float[np.ndarray, " num"]) -> tuple[Points, Points]:
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return upper, np.array([[1.0, 0.5]]) - upper


def _moons_log_density(points: Points) -> Float[np.ndarray, " num"]:
    centres = np.concatenate(_moon_curves((np.arange(_ANGLES) + 0.5) * np.pi / _ANGLES))
    return _mixture_log_density(points, centres, _MOONS_NOISE)


def _circles(rng: np.random.Generator, num: int) -> Points:
    """Three times: circles of radius 1 and 1/2 about 0, with noise 0.08."""
    angle, radius = rng.uniform(0.0, 2 * np.pi, num), 1.0 - 0.5 * rng.integers(2, size=num)
    curve = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return 3.0 * (curve + _CIRCLES_NOISE * rng.standard_normal((num, 2)))


def _circles_log_density(points: Points) -> Float[np.ndarray, " num"]:
    angle = np.arange(_ANGLES) * 2 * np.pi / _ANGLES
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return _mixture_log_density(points, np.concatenate([3 * circle, 1.5 * circle]), 3 * _CIRCLES_NOISE)


def _spirals(rng: np.random.Generator, num: int) -> Points:
    """Two arms of one and a half turns, each the other turned by half a turn.

    A third of +-(-t cos t + u, t sin t + v), t = 3 pi sqrt(w), with u and v uniform in (0, 1/2) and w
    in (0, 1); and noise 0.1.
    """
    t = 3 * np.pi * np.sqrt(rng.uniform(size=num))
    arm = np.stack([-t * np.cos(t), t * np.sin(t)], axis=1) + rng.uniform(0.0, 0.5, (num, 2))
    sign = 1.0 - 2.0 * rng.integers(2, size=(num, 1))
    return sign * arm / 3.0 + 0.1 * rng.standard_normal((num, 2))


def _checkerboard(rng: np.random.Generator, num: int) -> Points:
    """Uniform on the black half of the 4 x 4 squares of (-4, 4)^2, that above (0, 0) among them.

    The entropy is log 32 = 3.466 nats.
    """
    column, row = rng.integers(4, size=num), 2 * rng.integers(2, size=num)
    square = np.stack([column, row + column % 2], axis=1)
    return 2.0 * (square + rng.uniform(size=(num, 2))) - 4.0


def _checkerboard_log_density(points: Points) -> Float[np.ndarray, " num"]:
    square = np.floor(points / 2.0)
    black = (square.sum(axis=1) % 2 == 0) & (np.abs(points) <= 4.0).all(axis=1)
    return np.where(black, -math.log(32.0), -np.inf)


def _gaussian_centres() -> Points:
    angle = np.arange(8) * np.pi / 4
    return 4.0 / math.sqrt(2.0) * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _eight_gaussians(rng: np.random.Generator, num: int) -> Points:
    """Eight gaussians of deviation 1/2, evenly on a circle of radius 4; all divided by sqrt 2."""
    noise = 0.5 / math.sqrt(2.0) * rng.standard_normal((num, 2))
    return _gaussian_centres()[rng.integers(8, size=num)] + noise


def _eight_gaussians_log_density(points: Points) -> Float[np.ndarray, " num"]:
    return _mixture_log_density(points, _gaussian_centres(), 0.5 / math.sqrt(2.0))


def _pinwheel(rng: np.random.Generator, num: int) -> Points:
    """Five bent arms: twice (1 + 0.3 a, 0.1 b) turned by 2 pi k / 5 + exp(1 + 0.3 a) / 4.

    a and b are standard normal, k is one of 0 .. 4, and turned is clockwise.
    """
    along, across = 1.0 + 0.3 * rng.standard_normal(num), 0.1 * rng.standard_normal(num)
    turn = 2 * np.pi / 5 * rng.integers(5, size=num) + 0.25 * np.exp(along)
    cos, sin = np.cos(turn), np.sin(turn)
    return 2.0 * np.stack([cos * along + sin * across, cos * across - sin * along], axis=1)


def _mixture_log_density(
    points: Points, centres: Float[np.ndarray, "centres 2"], noise: float
) -> Float[np.ndarray, " num"]:
    """Of equally likely centres with normal noise."""
    parts = [np.empty(0)]
    for part in np.array_split(points, len(points) // 500 + 1):  # 3 MB of exponents at a time
        # -|x - c|^2 / 2 but for |x|^2, which is the same for all centres.
        exponents = (part @ centres.T - np.sum(centres**2, axis=1)[None] / 2) / noise**2
        most = exponents.max(axis=1, initial=-np.inf)
        rest = most - np.sum(part**2, axis=1) / (2 * noise**2)
        parts.append(rest + np.log(np.mean(np.exp(exponents - most[:, None]), axis=1)))
    return np.concatenate(parts) - math.log(2 * np.pi * noise**2)


TOYS = {
    "moons": Toy(_moons, _moons_log_density),
    "circles": Toy(_circles, _circles_log_density),
    "spirals": Toy(_spirals, None),
    "checkerboard": Toy(_checkerboard, _checkerboard_log_density),
    "eight_gaussians": Toy(_eight_gaussians, _eight_gaussians_log_density),
    "pinwheel": Toy(_pinwheel, None),
}
