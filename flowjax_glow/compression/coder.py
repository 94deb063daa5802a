"""Compression of images by a flow, by local bits-back coding: all images on one stack of bits.

An image is made continuous by noise that is popped from the stack, goes through the flow a layer at a
time (steps.py), and its latents are pushed by the prior. By that the stack grows by the image's bits
per dimension, and every bit popped is there again when the image is decoded. Only before the first
image there is nothing to pop from: those are the initial bits. Ho, Lohn & Abbeel 2019,
arXiv:1905.08500; Townsend et al. 2019, arXiv:1901.04866.

All is computed on the CPU in float64. What is decoded is right only where every float comes out as it
did when it was coded, to the last bit; `Coder.fingerprint` tells machines apart where it does not.
"""

import contextlib
import hashlib
import importlib.metadata
import math
import platform
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import UInt8

from flowjax_glow.base import Bijector, Params, is_trainable
from flowjax_glow.bijectors.isometry import isometry
from flowjax_glow.compression.stack import Stack, Words, borrowed_words
from flowjax_glow.compression.steps import step_of_all, steps_of
from flowjax_glow.flow import Flow
from flowjax_glow.priors import Prior, standard_logistic, standard_normal

# A pixel's level is about so wide, in bits of steps of the grid: 2^-20 of what x can be.
_GRID_BITS = 20

# Words for each number of a batch, more than any flow pops before it pushes; most are never used, and
# those are not kept.
_WORDS = 8

# What a stack holds of its words beside the others.
_STATE_WORDS = 4

# Of a batch; its batch_size may come from a file of a stranger's.
_MOST_NUMBERS = 2**22

_PACKAGES = ("jax", "jaxlib", "numpy", "constriction")

Images = UInt8[np.ndarray, "images height width channels"]
Report = Callable[[int], object]


class Coded(NamedTuple):
    """Images as a stack of words, the bottom first.

    bits: by how many the stack grew. initial_bits: what it held before, and holds again after decoding;
    they are part of words.
    """

    words: Words
    bits: int
    initial_bits: int


class Coder:
    """Compresses images by a flow, and gives the same back.

    fingerprint: what has to be the same where they are decoded: versions, a digest of params, and a
    digest of what this machine makes of a test image.
    """

    def __init__(self, flow: Flow, params: Params, *, n_bins: int, batch_size: int = 1):
        """Looks into the flow, and compiles its layers.

        Args:
          n_bins: levels of a pixel, in 2 .. 256.
          batch_size: images that are coded side by side. More are faster, and the initial bits are as
            many times as many.

        Raises:
          ValueError: for a flow with a layer that cannot be coded, or another prior than the standard
            normal and logistic ones; for levels or a batch that cannot be.
        """
        if not 2 <= n_bins <= 256:
            raise ValueError(f"n_bins must be between 2 and 256; got {n_bins}")
        size = math.prod(flow.event_shape)
        if not 1 <= batch_size <= _MOST_NUMBERS // size:
            raise ValueError(f"batch_size must be in 1 .. {_MOST_NUMBERS // size}; got {batch_size}")
        self._event_shape, self._n_bins, self._batch_size = flow.event_shape, n_bins, batch_size
        self._size = size
        self._noise_bits = _GRID_BITS + 1 - n_bins.bit_length()
        self._grid = 1.0 / (n_bins << self._noise_bits)
        self._half = n_bins << (self._noise_bits - 1)
        with _in_float64():
            params = jax.tree.map(_in_double, params)
            example = np.random.default_rng(0).uniform(-0.4, 0.4, flow.event_shape)
            self._steps, latents = steps_of(
                flow.bijector, params, example, self._grid, batch_size=batch_size
            )
            to_normal = _to_normal(flow.prior, latents)
            if to_normal is not None:
                self._steps.append(step_of_all(to_normal, self._size, self._grid))
            self.fingerprint = {
                **{name: importlib.metadata.version(name) for name in _PACKAGES},
                "machine": platform.machine(),
                "params": _digest(params),
                "arithmetic": self._probe(),
            }

    def encode(self, images: Images, *, report: Report | None = None) -> Coded:
        """Compresses images, of the flow's shape and in levels below n_bins.

        report: is told after every batch how many images are done.

        Raises:
          ValueError: for others, and for an image that the flow maps to what is not finite.
        """
        if images.shape[1:] != self._event_shape or not len(images):
            raise ValueError(f"images must be (images, *{self._event_shape}); got {images.shape}")
        if images.max() >= self._n_bins:
            raise ValueError(f"levels must be below {self._n_bins}; got {images.max()}")
        borrowed = self._borrowed(len(images))
        stack = Stack(borrowed)
        before = stack.bits
        with _in_float64():
            for start in range(0, len(images), self._batch_size):
                batch = images[start : start + self._batch_size]
                self._push(stack, batch)
                if report is not None:
                    report(start + len(batch))
        unused = stack.lowest - _STATE_WORDS
        if unused < 0:
            raise ValueError("the flow takes more bits from the stack than there are to begin with")
        bits = stack.bits - before
        return Coded(stack.words[unused:], bits, 32 * (len(borrowed) - unused))

    def decode(
        self, words: Words, initial_bits: int, num: int, *, report: Report | None = None
    ) -> Images:
        """The images that encode was given, `num` of them, the last first; report as in encode.

        Raises:
          ValueError: where the words are not what encode made of so many images.
        """
        stack = Stack(words)
        images = np.empty((num, *self._event_shape), np.uint8)
        with _in_float64():
            for start in reversed(range(0, num, self._batch_size)):
                images[start : start + self._batch_size] = self._pop(
                    stack, min(self._batch_size, num - start)
                )
                if report is not None:
                    report(num - start)
        borrowed = self._borrowed(num)
        if not np.array_equal(stack.words, borrowed[len(borrowed) - initial_bits // 32 :]):
            raise ValueError("the images did not come back: the words or this machine are others")
        return images

    def _push(self, stack: Stack, images: Images) -> None:
        levels = images.reshape(-1).astype(np.int64)
        noise = stack.pop_bits(np.full(levels.shape, self._noise_bits))
        numbers = (levels << self._noise_bits) + noise - self._half
        state = numbers.reshape(len(images), -1)
        for step in self._steps:
            step.encode(stack, state)
        stack.push_told(state.reshape(-1), *self._prior(state.size))

    def _pop(self, stack: Stack, num: int) -> Images:
        state = stack.pop_told(*self._prior(num * self._size)).reshape(num, -1)
        for step in reversed(self._steps):
            step.decode(stack, state)
        numbers = state.reshape(-1) + self._half
        noise = numbers & ((1 << self._noise_bits) - 1)
        stack.push_bits(noise, np.full(noise.shape, self._noise_bits))
        levels = (numbers >> self._noise_bits).astype(np.uint8)
        return levels.reshape(num, *self._event_shape)

    def _prior(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(count), np.full(count, 1.0 / self._grid)

    def _borrowed(self, num: int) -> Words:
        return borrowed_words(_WORDS * self._size * min(self._batch_size, num))

    def _probe(self) -> str:
        ramp = (
            np.arange(self._batch_size * self._size) * self._n_bins // (self._batch_size * self._size)
        )
        images = ramp.astype(np.uint8).reshape(self._batch_size, *self._event_shape)
        digest = hashlib.sha256()
        stack = Stack(self._borrowed(self._batch_size), listen=digest.update)
        self._push(stack, images)
        digest.update(stack.words.astype("<u4").tobytes())
        return digest.hexdigest()


def _to_normal(prior: Prior, latents: Any) -> Bijector | None:
    """What makes latents of the prior standard normal, None where they are."""
    rng = np.random.default_rng(0)
    z = jax.tree.map(lambda places: jnp.asarray(rng.normal(size=(4, *places.shape))), latents)
    log_prob = prior.log_prob(z)
    for known, to_normal in ((standard_normal(), None), (standard_logistic(), _logistic_to_normal())):
        if np.allclose(log_prob, known.log_prob(z), rtol=1e-9):
            return to_normal
    raise ValueError("a flow that compresses must have the standard normal or logistic prior")


def _logistic_to_normal() -> Bijector:
    """The numbers of a standard logistic as those of a standard normal, quantile by quantile."""

    def forward(z):
        tail = ndtri(jax.nn.sigmoid(-jnp.abs(z)))
        return jnp.where(z < 0, tail, -tail)

    return isometry(forward, lambda y: log_ndtr(y) - log_ndtr(-y))  # of the pair, logdet is not asked


@contextlib.contextmanager
def _in_float64() -> Iterator[None]:
    """On the CPU in double precision, whatever else the program computes on and in."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        yield


def _in_double(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return leaf.astype(np.float64) if is_trainable(leaf) else leaf


def _digest(params: Params) -> str:
    leaves, structure = jax.tree.flatten(params)
    digest = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        digest.update(f"{leaf.dtype.str} {leaf.shape}".encode())
        digest.update(leaf.astype(leaf.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
