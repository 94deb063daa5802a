"""A stack of bits that whole numbers are pushed to and popped from, by the distributions they have.

An asymmetric numeral system (Duda 2009, arXiv:0902.0271), of the package constriction. To push a number
of probability p makes the stack -log2 p bits longer, and to pop one makes it as much shorter and the
number a draw from p: the two undo each other, which is all that bits-back coding needs. Townsend et al.
2019, section 2.3, arXiv:1901.04866.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import constriction
import numpy as np
from jaxtyping import Float, Integer, UInt32

Numbers = Integer[np.ndarray, "*shape"]
Reals = Float[np.ndarray, "*shape"]
Words = UInt32[np.ndarray, " words"]

# A normal is coded in two parts: in blocks of 2^k numbers, k such that its deviation is 16 to 32
# blocks, by their probabilities; and within a block evenly. So its probabilities, of 24 bits, are as
# exact for a deviation of 16 as for one of a million.
_LEAST_DEVIATION = 16.0
_MOST_BITS = 23

# How many blocks on either side of the mean have a probability: 6 deviations or more for what is drawn,
# and more for what is told, which may be as far off in deviations, of half as many blocks. What is told
# and is further off still is said to be at the end, and 32 bits say how far behind it.
_DRAWN, _TOLD = 192, 512
_BEHIND = (16, 16)

_STREAM: Any = constriction.stream  # type: ignore[reportAttributeAccessIssue]  # no stubs
_EVEN = _STREAM.model.Uniform()
_NORMALS = {most: _STREAM.model.QuantizedGaussian(-most, most) for most in (_DRAWN, _TOLD)}


def borrowed_words(count: int) -> Words:
    """Words that look random and are always the same: what a stack holds before anything is pushed."""
    words = np.frombuffer(hashlib.shake_256(b"initial bits").digest(4 * count), "<u4")
    return words.astype(np.uint32) | np.uint32(1)  # the last of a stack must not be 0


class Stack:
    """The stack. Every push is undone by the pop of the same name and arguments, and the reverse.

    words: what it holds to begin with. lowest: how few words it has held since.
    """

    def __init__(self, words: Words, listen: Callable[[bytes], Any] | None = None):
        """listen: is told every mean and deviation, to their last bit."""
        self._listen = listen
        self._ans = _STREAM.stack.AnsCoder(words)
        self.lowest = self._ans.num_words()

    @property
    def words(self) -> Words:
        """What it holds, the bottom first."""
        return self._ans.get_compressed()

    @property
    def bits(self) -> int:
        """How many bits that is."""
        return self._ans.num_valid_bits()

    def push_bits(self, values: Numbers, bits: Numbers) -> None:
        """Pushes values that are even in [0, 2^bits), each with bits of its own, up to 23."""
        some = bits > 0
        sizes = np.left_shift(1, bits[some]).astype(np.int32)
        self._ans.encode_reverse(values[some].astype(np.int32), _EVEN, sizes)

    def pop_bits(self, bits: Numbers) -> Numbers:
        """Pops values that push_bits pushes."""
        some = bits > 0
        sizes = np.left_shift(1, bits[some]).astype(np.int32)
        values = np.zeros(bits.shape, np.int64)
        values[some] = self._ans.decode(_EVEN, sizes)
        self._popped()
        return values

    def push_drawn(self, values: Numbers, means: Reals, deviations: Reals) -> None:
        """Pushes normal values that came of pop_drawn."""
        first, shift, normal = self._blocks(means, deviations)
        self.push_bits(values & (np.left_shift(1, shift) - 1), shift)
        self._push(_DRAWN, (values >> shift) - first, normal)

    def pop_drawn(self, means: Reals, deviations: Reals) -> Numbers:
        """Draws normal values, none further off than 12 deviations; the bits of the stack decide."""
        first, shift, normal = self._blocks(means, deviations)
        blocks = first + self._pop(_DRAWN, normal)
        return np.left_shift(blocks, shift) + self.pop_bits(shift)

    def push_told(self, values: Numbers, means: Reals, deviations: Reals) -> None:
        """Pushes values that should be normal, and may be anything.

        Raises:
          ValueError: for one that is more than 2^27 deviations off.
        """
        first, shift, normal = self._blocks(means, deviations)
        blocks = (values >> shift) - first
        self.push_bits(values & (np.left_shift(1, shift) - 1), shift)
        behind = np.abs(blocks) - _TOLD
        at_end = behind >= 0
        if at_end.any():
            low, high = _BEHIND
            if (behind >= 1 << (low + high)).any():
                raise ValueError("a number is too far from where the flow expects it to be coded")
            rest = behind[at_end]
            self.push_bits(rest & ((1 << low) - 1), np.full(rest.shape, low))
            self.push_bits(rest >> low, np.full(rest.shape, high))
        self._push(_TOLD, np.clip(blocks, -_TOLD, _TOLD), normal)

    def pop_told(self, means: Reals, deviations: Reals) -> Numbers:
        """Pops values that push_told pushes."""
        first, shift, normal = self._blocks(means, deviations)
        blocks = self._pop(_TOLD, normal)
        at_end = np.abs(blocks) == _TOLD
        if at_end.any():
            low, high = _BEHIND
            count = int(at_end.sum())
            behind = np.left_shift(self.pop_bits(np.full(count, high)), low)
            behind += self.pop_bits(np.full(count, low))
            blocks[at_end] += np.sign(blocks[at_end]) * behind
        return np.left_shift(first + blocks, shift) + self.pop_bits(shift)

    def _blocks(self, means, deviations):
        if self._listen is not None:
            self._listen(means.tobytes() + deviations.tobytes())
        return _blocks(means, deviations)

    def _push(self, most, blocks, normal):
        if (np.abs(blocks) > most).any():
            raise ValueError(
                "a number is further off than it can have been drawn; the words are others"
            )
        self._ans.encode_reverse(blocks.astype(np.int32), _NORMALS[most], *normal)

    def _pop(self, most, normal):
        blocks = self._ans.decode(_NORMALS[most], *normal).astype(np.int64)
        self._popped()
        return blocks

    def _popped(self):
        self.lowest = min(self.lowest, self._ans.num_words())


def _blocks(means, deviations):
    """The block in which each mean is, log2 of a block, and (mean, deviation) in blocks from there.

    A number fills the cell of half a unit on both sides of it; a block of 2^k begins at a multiple.
    """
    # Also false for what is not finite. The largest keeps all numbers below 2^62.
    if not ((deviations >= _LEAST_DEVIATION) & (np.abs(means) < 2.0**52)).all():
        raise ValueError("the flow's values are not finite, or too large or narrow to be coded")
    shift = np.frexp(deviations)[1].astype(np.int64) - 5
    if (shift > _MOST_BITS).any():
        raise ValueError("the flow is too steep to be coded; got a slope above 2^24")
    block = np.ldexp(1.0, shift.astype(np.int32))
    place = (means + 0.5) / block
    first = np.floor(place)
    return first.astype(np.int64), shift, (place - first - 0.5, deviations / block)
