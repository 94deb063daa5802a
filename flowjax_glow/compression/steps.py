"""How each layer of a flow is coded: local bits-back, one layer at a time.

A number x on a grid is mapped to z = f(x), on the same grid, with noise: z is drawn from N(f(x),
(sigma f'(x))^2), whose bits come from the stack, and then x is told by N(f^-1(z), sigma^2), whose bits
go there. By that the stack grows by -log2 |f'(x)|, and only z is left to be told. Ho, Lohn & Abbeel
2019, sections 3.2 to 3.4, arXiv:1905.08500. It is undone exactly, whatever f is: both sides see the
same numbers.

What a layer does is seen from outside, with no layer known by its name. "Moves" puts numbers elsewhere.
"Slopes" maps each number by itself, given those that it leaves as they are: actnorm, every coupling,
logit. "Mixing" multiplies the channels by a matrix P L D U: the triangles are shifts, rounded to the
grid, and the diagonal is slopes. A layer mistaken for another kind would cost bits, but no pixel.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from flowjax_glow.base import Bijector, Params, name_of
from flowjax_glow.compression.stack import Stack

# The standard deviation of the noise, in steps of the grid, on the side of a map where it is smaller.
NOISE = 16.0

# Numbers are below this, in steps of the grid, and the sums of a triangle's columns below the other:
# so what the triangles add up fits into 64 bits.
_LARGEST = 2.0**36
_SUM_BITS = 25

# A state of the images on their way through the flow: (batch, numbers), in steps of the grid.
State = Int[np.ndarray, "batch numbers"]
Places = Int[np.ndarray, "*event"]


class Step(Protocol):
    """A layer as a coder uses it; both change the state and the stack, and undo one another."""

    def encode(self, stack: Stack, state: State) -> None:
        """From the layer's data side to its latent side."""
        ...

    def decode(self, stack: Stack, state: State) -> None:
        """Back."""
        ...


def steps_of(
    bijector: Bijector,
    params: Params,
    example: Float[np.ndarray, "*event"],
    grid: float,
    *,
    batch_size: int = 1,
) -> tuple[list[Step], Any]:
    """The steps of a bijector in the order in which they encode, and where the latents are then.

    The latents have the structure of the bijector's, of places in the state, (1, *event). Numbers
    never move in the state: a layer that moves numbers only changes where those after it look.

    Args:
      params: in float64. example: values that can be mapped, no two alike. grid: its step.
      batch_size: for which layers are compiled, as most of the batches will be.

    Raises:
      ValueError: with its name, for a layer that none of the rules is for.
    """
    steps: list[Step] = []
    values = example.reshape(-1).astype(np.float64)
    rules = _Rules(grid)

    def opened(_: str, part: Bijector) -> Bijector:
        if part.rebuild is not None:
            return part.rebuild(opened)

        def along(inverse):
            def run(params, places, cond=None, key=None):
                del cond, key
                layer = _Layer(part, inverse, jax.tree.map(jnp.asarray, params), batch_size)
                at = np.asarray(places)[0].astype(np.int64)
                step, out = rules.step(layer, at, values[at])
                after = layer.value(values[at][None])[0]
                values[out] = after
                if step is not None:
                    steps.append(step)
                return jnp.asarray(out[None], jnp.float64), jnp.zeros(1)

            return run

        return Bijector(part.init, along(False), along(True), part.prepare)

    places = np.arange(values.size, dtype=np.float64).reshape(1, *example.shape)
    latents = opened("", bijector).forward(params, jnp.asarray(places), None, None)[0]
    return steps, jax.tree.map(lambda at: np.asarray(at)[0].astype(np.int64), latents)


def step_of_all(bijector: Bijector, size: int, grid: float) -> Step:
    """The step of a bijector without params that maps every number of the state by itself."""
    return _Slopes(_Layer(bijector, False, {}, 1), np.arange(size), np.ones(size, bool), grid)


class _Layer(NamedTuple):
    """A bijector without parts, in one direction or the other."""

    bijector: Bijector
    inverse: bool
    params: Params
    batch_size: int

    def value(self, x):
        """What it makes of one example, (1, *event), by the program that is there for a batch."""
        batch = np.broadcast_to(x, (self.batch_size, *x.shape[1:]))
        every = jnp.ones(x.size)
        return np.asarray(_run(self.bijector, self.inverse, self.params, batch, every)[0])[:1]

    def value_and_slope(self, x, changed, *, back):
        """The map, or back its inverse, and |slope| of the numbers that are changed."""
        value, slope = _run(self.bijector, self.inverse != back, self.params, x, changed)
        return np.asarray(value), np.abs(np.asarray(slope))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(bijector, inverse, params, x, changed):
    fn = bijector.inverse if inverse else bijector.forward
    value, pullback = jax.vjp(lambda x: fn(params, x, None, None)[0], x)
    bar = jnp.broadcast_to(changed[None], (x.shape[0], changed.size)).reshape(value.shape)
    return value, pullback(bar)[0]


class _Rules:
    """Finds the rule for a layer; what is found of one depth is used for all."""

    def __init__(self, grid: float):
        self._grid = grid
        self._changed: dict[Any, np.ndarray | None] = {}

    def step(self, layer: _Layer, at: Places, x: np.ndarray) -> tuple[Step | None, Places]:
        """The step of a layer of the places `at`, and the places of its output."""
        order = _moves(layer.value, x)
        if order is not None:
            return None, at.reshape(-1)[order]
        kind = layer.bijector, layer.inverse, x.shape
        if kind not in self._changed:
            self._changed[kind] = _changed_alone(layer.value, x)
        changed = self._changed[kind]
        if changed is not None:
            return _Slopes(layer, at, changed, self._grid), at
        matrix = _matrix(layer.value, x)
        if matrix is None:
            name = name_of(layer.bijector)
            raise ValueError(
                f"a flow that compresses must be made of layers that move numbers, map each by itself "
                f"given those that stay, or mix channels; got {name}, which does none of these"
            )
        step = _Mixing(matrix, at)
        return step, step.out


def _moves(fn: Callable[[Any], np.ndarray], x: np.ndarray) -> np.ndarray | None:
    """Where each number of fn's output was in its input, if fn does nothing but move numbers."""
    numbers = (np.arange(x.size) + 0.5) / x.size - 0.5
    z = fn(numbers.reshape(1, *x.shape))[0]
    order = np.searchsorted(numbers, z.reshape(-1)).clip(max=x.size - 1)
    others = np.cos(7.0 * numbers) / 2.0
    again = fn(others.reshape(1, *x.shape))[0]
    if sorted(order) != list(range(x.size)):
        return None
    moved = np.array_equal(numbers[order], z.reshape(-1))
    return (
        order.reshape(z.shape) if moved and np.array_equal(others[order], again.reshape(-1)) else None
    )


def _changed_alone(fn: Callable[[Any], np.ndarray], x: np.ndarray) -> np.ndarray | None:
    """Which numbers fn changes, if it changes each by itself given those it leaves as they are.

    Found by what becomes nan where some of x are nan: two sets for every binary digit of a place tell
    all places apart.
    """
    if fn(x[None])[0].shape != x.shape:
        return None

    def depends_on_itself_alone(among):
        fine = np.ones(x.shape, bool)
        for bit in range(max(x.size - 1, 1).bit_length()):
            digit = (np.arange(x.size).reshape(x.shape) >> bit) % 2 == 1
            for spoiled in (digit & among, ~digit & among):
                out = fn(np.where(spoiled, np.nan, x)[None])[0]
                fine &= np.isnan(out) == spoiled
        return fine

    # Near 0 too, for a spline leaves large numbers as they are.
    same = [fn(share * x[None])[0] == share * x for share in (1.0, 0.3, 0.01)]
    everywhere = np.ones(x.shape, bool)
    changed = ~(depends_on_itself_alone(everywhere) & np.all(same, axis=0))
    return changed if depends_on_itself_alone(changed).all() else None


def _matrix(fn: Callable[[Any], np.ndarray], x: np.ndarray) -> np.ndarray | None:
    """The matrix that fn multiplies the channels of every position by, if that is what it does."""
    z = fn(x[None])[0]
    if z.shape != x.shape:
        return None
    units = [np.broadcast_to(unit, x.shape) for unit in np.eye(x.shape[-1])]
    matrix = np.stack([fn(unit[None])[0].reshape(-1, x.shape[-1])[0] for unit in units])
    error = np.abs(z - x @ matrix).max()
    return matrix if error <= 1e-9 * np.abs(z).max() else None


class _Slopes:
    """Numbers that are each mapped by itself."""

    def __init__(self, layer: _Layer, at: Places, changed: np.ndarray, grid: float):
        self._layer, self._at, self._grid = layer, at, grid
        self._changed = changed.reshape(-1)
        self._mask = jnp.asarray(self._changed, jnp.float64)
        self._places = at.reshape(-1)[self._changed]

    def encode(self, stack, state):
        x = state[:, self._places]
        z = stack.pop_drawn(*self._normal(state, back=False)).reshape(x.shape)
        state[:, self._places] = _checked(z)
        stack.push_told(x.reshape(-1), *self._normal(state, back=True))

    def decode(self, stack, state):
        z = state[:, self._places]
        x = stack.pop_told(*self._normal(state, back=True)).reshape(z.shape)
        state[:, self._places] = x
        stack.push_drawn(z.reshape(-1), *self._normal(state, back=False))

    def _normal(self, state, *, back):
        value = state[:, self._at] * self._grid
        mean, slope = self._layer.value_and_slope(value, self._mask, back=back)
        mean, slope = (a.reshape(len(state), -1)[:, self._changed].reshape(-1) for a in (mean, slope))
        return mean / self._grid, NOISE * np.maximum(slope, 1.0)


class _Mixing:
    """Channels that are multiplied by a matrix."""

    def __init__(self, matrix: np.ndarray, at: Places):
        from scipy.linalg import lu  # jax needs scipy too

        factors: Any = lu(matrix)
        permutation, lower, upper = factors
        self._slopes = np.diag(upper)
        self._lower = _whole(np.tril(lower, -1))
        self._upper = _whole(np.triu(upper / self._slopes[:, None], 1))
        self.out = at[..., permutation.argmax(axis=0)]

    def encode(self, stack, state):
        y = state[:, self.out]
        for j in range(y.shape[-1]):
            y[..., j] += _shift(y, self._lower, j)
        x = _checked(y)
        y = stack.pop_drawn(*self._normal(x, self._slopes)).reshape(x.shape)
        stack.push_told(x.reshape(-1), *self._normal(y, 1.0 / self._slopes))
        for j in reversed(range(y.shape[-1])):
            y[..., j] += _shift(_checked(y), self._upper, j)
        state[:, self.out] = _checked(y)

    def decode(self, stack, state):
        y = state[:, self.out]
        for j in range(y.shape[-1]):
            y[..., j] -= _shift(y, self._upper, j)
        z = y
        y = stack.pop_told(*self._normal(z, 1.0 / self._slopes)).reshape(z.shape)
        stack.push_drawn(z.reshape(-1), *self._normal(y, self._slopes))
        for j in reversed(range(y.shape[-1])):
            y[..., j] -= _shift(y, self._lower, j)
        state[:, self.out] = y

    def _normal(self, y, slopes):
        deviations = np.broadcast_to(NOISE * np.maximum(np.abs(slopes), 1.0), y.shape)
        return (y * slopes).reshape(-1), deviations.reshape(-1)


def _whole(triangle):
    """The triangle in whole numbers, and the power of 2 that they are to be divided by."""
    bits = _SUM_BITS - np.frexp(np.abs(triangle).sum(axis=0).max())[1]
    if bits < 1:
        raise ValueError("a mixing of channels is too near to one that cannot be undone to be coded")
    return np.rint(np.ldexp(triangle, bits)).astype(np.int64), int(bits)


def _shift(y, triangle, j):
    """What the other channels add to channel j: whole numbers, so that no machine adds up otherwise."""
    matrix, bits = triangle
    return (y @ matrix[:, j] + (1 << (bits - 1))) >> bits


def _checked(state):
    if np.abs(state).max() >= _LARGEST:
        raise ValueError("the flow takes an image too far off to be coded")
    return state
