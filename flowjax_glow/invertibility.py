"""Whether a trained flow still is invertible in the precision it computes in, and if not, where.

Exact on paper is not exact in float32: a scale near 0 or a kernel near a singular one loses digits, and
a sample can overflow in a model of which all data come back. Behrmann et al. 2021, arXiv:2006.09347.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from flowjax_glow.base import Batch, Params, PRNGKey, distance
from flowjax_glow.flow import Flow, decode, encode, latent_shapes, prepare
from flowjax_glow.layers import Layer, layers
from flowjax_glow.likelihood import as_floating, quantize

# Of the samples: that of the paper's pictures, and the model's own distribution.
TEMPERATURES = (0.7, 1.0)


class Invertibility(NamedTuple):
    """What `measure` found. None where there is no such thing in the flow or the data.

    data_error: the largest |difference| of x -> z -> x. exact_images: the share of images of which
    every pixel comes back. latent_error_07, _10: the largest |difference| of z -> x -> z at
    temperature 0.7 and 1.0, of the samples that are finite; nonfinite_07, _10: the share of those that
    are not. smallest_scale: the smallest slope of a coupling or an autoregressive map on the data.
    largest_condition: the largest condition number of an invertible convolution's kernel.
    """

    data_error: float
    exact_images: float | None
    latent_error_07: float
    latent_error_10: float
    nonfinite_07: float
    nonfinite_10: float
    smallest_scale: float | None
    largest_condition: float | None


def measure(
    flow: Flow,
    params: Params,
    examples: Array,
    key: PRNGKey,
    *,
    n_bins: int | None,
    cond: Batch | None = None,
) -> Invertibility:
    """Takes examples to latents and back, and as many latents to samples and back.

    A program each way is compiled, once for a flow and a number of examples, and a small one for each
    kind of layer. An error that is not a number counts as inf.

    Args:
      examples: images, integers in [0, n_bins), taken at the middle of their bins; or vectors.
      key: of the latents.
      n_bins: levels of a pixel, None of vectors. cond: one entry an example, where the flow needs it.
    """
    params = _prepare(flow, params)
    x = as_floating(None, examples, n_bins=n_bins)
    data, cool, warm = _round_trips(flow, params, x, key, cond)
    exact = None
    if n_bins is not None:
        same = np.asarray(quantize(data.there_and_back, n_bins=n_bins)) == np.asarray(examples)
        exact = float(same.reshape(len(same), -1).all(1).mean())
    _, seen = layers(flow.bijector, params, x, cond, look=_scale_and_condition)
    scales, conditions = zip(*jax.device_get(seen), strict=True) if seen else ((), ())
    return Invertibility(
        float(data.errors.max()),
        exact,
        float(cool.errors[cool.finite].max(initial=0.0)),
        float(warm.errors[warm.finite].max(initial=0.0)),
        float(1.0 - cool.finite.mean()),
        float(1.0 - warm.finite.mean()),
        min((float(s) for s in scales if s is not None), default=None),
        max((c for c in conditions if c is not None), default=None),
    )


def problems(
    flow: Flow,
    params: Params,
    examples: Array,
    key: PRNGKey,
    *,
    n_bins: int | None,
    cond: Batch | None = None,
    tolerance: float = 1e-3,
) -> list[str]:
    """A line for each of `measure`'s round trips that is off by more than tolerance, or not finite.

    Each names the first layer that goes wrong, in the example that is off most. It takes what measure
    takes, and finds the same.
    """
    params = _prepare(flow, params)
    x = as_floating(None, examples, n_bins=n_bins)
    whats = ["examples", *(f"samples at temperature {t}" for t in TEMPERATURES)]
    lines = []
    for what, trip in zip(whats, _round_trips(flow, params, x, key, cond), strict=True):
        bad, worst = int((trip.errors > tolerance).sum()), int(trip.errors.argmax())
        if not bad:
            continue
        one, its_cond = jax.tree.map(lambda a, i=worst: a[i : i + 1], (trip.start, cond))
        where = first_bad_layer(
            flow, params, one, its_cond, from_latents=what != whats[0], tolerance=tolerance
        )
        amount = f"off by up to {trip.errors[worst]:.1e}"
        if not trip.finite.all():
            bad, amount = int((~trip.finite).sum()), "not finite"
        lines.append(f"{bad} of {len(trip.errors)} {what} are {amount}: {where}")
    return lines


def first_bad_layer(
    flow: Flow,
    params: Params,
    value: Batch,
    cond: Batch | None = None,
    *,
    from_latents: bool = False,
    tolerance: float = 1e-3,
) -> str:
    """Where a round trip of x goes wrong, or from_latents one of z: the layer's name, and what it does.

    On the way there the first layer whose output is not finite; else, on the way back, the first whose
    output differs from what was there by more than tolerance, as a share of the larger of 1 and the
    largest entry.
    """
    run = functools.partial(layers, flow.bijector, params, cond=cond)
    there, back = ("inverse", "forward") if from_latents else ("forward", "inverse")
    result, passed = run(value, inverse=from_latents)
    for layer in passed:
        start, end = _sides(layer, from_latents)
        if not np.isfinite(_rows(end)).all():
            size = np.abs(_rows(start)).max()
            return f"{layer.name}, whose {there} takes values up to {size:.1e} to what is not finite"
    _, returned = run(result, inverse=not from_latents)
    before = {}
    for layer in passed:
        before.setdefault(layer.name, []).append(layer)
    for after in returned:
        # What stands twice, such as the outer of conjugate, comes back last first.
        sides = (_sides(layer, from_latents) for layer in (after, before[after.name].pop()))
        (actual, _), (expected, _) = sides
        error = _relative_error(actual, expected)
        if error > tolerance:
            return f"{after.name}, after whose {back} the values are off by {error:.1e}"
    return "no layer alone"


def _sides(layer: Layer, from_latents: bool) -> tuple[Batch, Batch]:
    """What the round trip has in front of a layer and behind it, on its way there."""
    return (layer.z, layer.x) if layer.inverted != from_latents else (layer.x, layer.z)


def _scale_and_condition(layer: Layer) -> tuple[Array | None, float | None]:
    scale = condition = None
    if layer.bijector.log_slopes is not None:
        scale = _smallest_scale(layer.bijector, layer.inverted, layer.params, layer.x, layer.cond)
    prepared = layer.bijector.prepare(layer.params)
    if isinstance(prepared, dict) and {"kernel", "inverse"} <= prepared.keys():
        kernel = np.asarray(prepared["kernel"], np.float64)
        condition = float(np.linalg.cond(kernel)) if np.isfinite(kernel).all() else math.inf
    return scale, condition


@functools.partial(jax.jit, static_argnums=(0, 1))
def _smallest_scale(bijector, inverted, params, x, cond):
    log_slopes = bijector.log_slopes(params, x, cond)
    return jnp.exp(jnp.min(-log_slopes if inverted else log_slopes))


_prepare, _encode, _decode = (jax.jit(fn, static_argnums=0) for fn in (prepare, encode, decode))


class _RoundTrip(NamedTuple):
    """start: x, or the z of samples. finite: whether what lies at the other end is, for each example.

    errors: the largest |difference| of each example, inf where it is no number or not finite there.
    """

    start: Batch
    there_and_back: Batch
    errors: np.ndarray
    finite: np.ndarray


def _round_trips(flow, params, x, key, cond) -> list[_RoundTrip]:
    """Of the data, and of latents at each of TEMPERATURES."""

    def trip(there, back, start):
        end = there(flow, params, start, cond)
        returned = back(flow, params, end, cond)
        errors = _rows(jax.tree.map(distance, returned, start)).max(1)
        finite = np.asarray(np.isfinite(_rows(end)).all(axis=1))
        return _RoundTrip(start, returned, np.where(finite, errors, np.inf), finite)

    like = latent_shapes(flow, params, x.shape[0], cond)
    latents = [flow.prior.sample(key, like, temperature) for temperature in TEMPERATURES]
    return [trip(_encode, _decode, x), *(trip(_decode, _encode, z) for z in latents)]


def _rows(value: Batch) -> np.ndarray:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(value)]
    return np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def _relative_error(actual: Batch, expected: Batch) -> float:
    size = max(1.0, float(np.abs(_rows(expected)).max()))
    return float(_rows(jax.tree.map(distance, actual, expected)).max()) / size
