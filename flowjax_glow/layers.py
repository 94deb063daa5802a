"""Inside a bijector: each of its layers by name, and what passes through it.

A layer is a part that has no parts. `layers` runs a bijector with every layer replaced by one that says
what it was given, by the hook `rebuild` of base.Bijector; so it knows no combinator and no model, and a
bijector of one's own is seen as soon as its rebuild says what it is made of.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from flowjax_glow.base import Batch, Bijector, Params, name_of
from flowjax_glow.combine import DEEPER, zero_logdet


class Layer(NamedTuple):
    """A bijector without parts, as it was met.

    name: where it stands and what made it, such as "level 2, step 13 of 32, affine_coupling".
    x, z: the values on its data and on its latent side. inverted: whether the whole maps z to x.
    """

    name: str
    bijector: Bijector
    params: Params
    x: Batch
    z: Batch
    cond: Batch | None
    inverted: bool


def layers(
    bijector: Bijector,
    params: Params,
    value: Batch,
    cond: Batch | None = None,
    *,
    inverse: bool = False,
    look: Callable[[Layer], Any] = lambda layer: layer,
) -> tuple[Batch, list[Any]]:
    """What the bijector makes of a value, and look(layer) of each layer, in the order they are run.

    Deterministic: without a key. Each layer is compiled once for each shape, and what look does not
    keep is freed, so that a deep model can be looked at too.

    Args:
      value: x; with inverse, z.
      look: what is wanted of a layer. By default all of it, which is all intermediate values.
    """
    seen, paths = [], []

    def opened(path: tuple[str, ...], place: str, part: Bijector) -> Bijector:
        path = (*path, place)
        if part.rebuild is not None:
            return part.rebuild(functools.partial(opened, path))
        path = (*path, name_of(part))
        paths.append(path)

        def along(inverse_of_part):
            def run(params, value, cond=None, key=None):
                del key
                out = _run(part, inverse_of_part, params, value, cond)
                x, z = (out, value) if inverse_of_part else (value, out)
                name = _name(path, any(DEEPER in p for p in paths))
                inverted = inverse_of_part != inverse
                seen.append(look(Layer(name, part, params, x, z, cond, inverted)))
                return out, zero_logdet(out)

            return run

        return Bijector(part.init, along(False), along(True), part.prepare)

    whole = opened((), "", bijector)
    return (whole.inverse if inverse else whole.forward)(params, value, cond)[0], seen


def _name(path: tuple[str, ...], has_levels: bool) -> str:
    level = [f"level {1 + path.count(DEEPER)}"] if has_levels else []
    return ", ".join(level + [place for place in path if place not in ("", DEEPER)])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(bijector, inverse, params, value, cond):
    return (bijector.inverse if inverse else bijector.forward)(params, value, cond)[0]
