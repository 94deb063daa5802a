"""The work of a function, counted from its jaxpr: matrix products and convolutions.

(m, k) @ (k, n) is 2 m k n operations, a multiplication and an addition each; a scan is its body times
its length. XLA's own cost analysis counts the body of a loop once, however often it runs, and a flow's
depth is a scan here; `Count.once` is counted that way, to be set beside it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters.partial_eval import dce_jaxpr


class Count(NamedTuple):
    """Operations of the matrix products and convolutions of a function.

    flops: each as often as it runs. once: the body of every loop counted once, as XLA's cost analysis
    does. at_least: whether flops is a lower bound, because products stand in a while loop; how often
    that runs is not known before it does, and its body is counted once.
    """

    flops: int = 0
    once: int = 0
    at_least: bool = False


def count_flops(fn: Callable[..., Any], *args: Any) -> int:
    """The operations of fn(*args) in matrix products and convolutions; see count."""
    return count(fn, *args).flops


def count(fn: Callable[..., Any], *args: Any) -> Count:
    """Counts the operations of fn(*args) without running it; args may be jax.ShapeDtypeStruct.

    What the results do not depend on is not counted, as the compiler drops it. What a gradient computes
    again, as with jax.checkpoint, is counted again, since the compiler keeps that. Of a conditional the
    largest branch counts; of a shard_map all devices do. Padding counts as if it were pixels.
    """
    jaxpr, _ = dce_jaxpr(jax.make_jaxpr(fn)(*args).jaxpr, True)
    return _of_jaxpr(jaxpr)


def _of_jaxpr(jaxpr: Jaxpr | ClosedJaxpr) -> Count:
    inner = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    return _total(_of_equation(equation) for equation in inner.eqns)


def _of_equation(equation: JaxprEqn) -> Count:
    params = equation.params
    match equation.primitive.name:
        case "dot_general":
            return _products(equation, _contracted(equation))
        case "conv_general_dilated":
            return _products(equation, _taps(equation))
        case "scan":
            body = _of_jaxpr(params["jaxpr"])
            return body._replace(flops=params["length"] * body.flops)
        case "while":
            both = _total([_of_jaxpr(params["cond_jaxpr"]), _of_jaxpr(params["body_jaxpr"])])
            return both._replace(at_least=both.flops > 0)
        case "cond":
            return max(map(_of_jaxpr, params["branches"]), key=lambda branch: branch.flops)
        case "shard_map":
            devices = math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
            one = _of_jaxpr(params["jaxpr"])
            return one._replace(flops=devices * one.flops, once=devices * one.once)
        case "custom_linear_solve":
            return _of_jaxpr(params["jaxprs"].solve)
        case _:  # jit, checkpoint, custom derivatives and the like call what they hold once
            return _total(map(_of_jaxpr, _jaxprs_in(params.values())))


def _products(equation: JaxprEqn, terms: int) -> Count:
    flops = 2 * math.prod(_shape(equation.outvars[0])) * terms
    return Count(flops, flops)


def _contracted(equation: JaxprEqn) -> int:
    (axes, _), _ = equation.params["dimension_numbers"]
    shape = _shape(equation.invars[0])
    return math.prod(shape[axis] for axis in axes)


def _taps(equation: JaxprEqn) -> int:
    """Products that are added up to one number of a convolution's result."""
    kernel = _shape(equation.invars[1])
    return math.prod(kernel) // kernel[equation.params["dimension_numbers"].rhs_spec[0]]


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _jaxprs_in(values: Iterable[Any]) -> Iterator[Jaxpr | ClosedJaxpr]:
    for value in values:
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, (Jaxpr, ClosedJaxpr)):
                yield each


def _total(counts: Iterable[Count]) -> Count:
    parts = list(counts)
    return Count(
        sum(part.flops for part in parts),
        sum(part.once for part in parts),
        any(part.at_least for part in parts),
    )
