"""The data that every worker trains on: two moons, and noise in the shape of images. numpy alone."""

import numpy as np

MOONS_NOISE = 0.05  # of make_moons; the density's entropy is then 0.29 nats


def moons(num: int, seed: int, noise: float = MOONS_NOISE) -> np.ndarray:
    """scikit-learn's make_moons at random angles, (num, 2) float32."""
    rng = np.random.default_rng(seed)
    angle, upper = rng.uniform(0.0, np.pi, num), rng.random(num) < 0.5
    x = np.where(upper, np.cos(angle), 1.0 - np.cos(angle))
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    points = np.stack([x, y], axis=1) + noise * rng.standard_normal((num, 2))
    return points.astype(np.float32)


def moons_log_density(points: np.ndarray, noise: float = MOONS_NOISE, angles: int = 4000) -> np.ndarray:
    """The log density of each point, (num,), nats: the noise's, averaged over a grid of angles."""
    grid = (np.arange(angles) + 0.5) * np.pi / angles
    upper = np.stack([np.cos(grid), np.sin(grid)], axis=1)
    centres = np.concatenate([upper, [1.0, 0.5] - upper])
    out = []
    for part in np.array_split(points.astype(np.float64), max(1, len(points) // 200)):
        squares = np.sum((part[:, None] - centres[None]) ** 2, axis=-1)
        least = squares.min(axis=1)
        mean = np.mean(np.exp((least[:, None] - squares) / (2 * noise**2)), axis=1)
        out.append(np.log(mean) - least / (2 * noise**2))
    return np.concatenate(out) - np.log(2 * np.pi * noise**2)


def images(batch: int, size: int, seed: int = 0) -> np.ndarray:
    """Uniform noise, (batch, size, size, 3) float32 in [-0.5, 0.5); speed does not ask for more."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (batch, size, size, 3)).astype(np.float32)
