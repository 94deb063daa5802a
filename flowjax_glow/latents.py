"""What people do with exact latents: interpolate, find an attribute's direction, edit, resample.

Pure functions; those that decode take a Flow and params, as flow.py's do, prepared or not. Latents are
what fg.encode gives: one array, or of a multi-scale model a tuple of `levels`, the finest first. Under
the model every latent has the same density whatever the others are, so levels can be taken apart and
joined again. Kingma & Dhariwal 2018, section 6.2, arXiv:1807.03039.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flowjax_glow.base import Batch, Params, PRNGKey
from flowjax_glow.flow import Data, Flow, check_temperature, decode, encode, latent_shapes

# For each example a row of images: the first axis is the batch, the second what was asked for.
Strips = Float[Array, "batch num *event"]


def interpolate(
    flow: Flow,
    params: Params,
    x_a: Data,
    x_b: Array,
    num: int,
    *,
    spherical: bool = False,
    levels: Sequence[int] | None = None,
    cond: Batch | None = None,
) -> Strips:
    """`num` images from each x_a to the x_b beside it, both included, evenly apart in latent space.

    Args:
      spherical: whether the path is straight, or an arc: for ends of one norm that of the sphere, near
        which nearly all of a normal distribution lies (Shoemake 1985). Ends that are opposite or have
        one direction are joined straight.
      levels: those whose latents change, 0 the finest; the others stay as they are in x_a, and the row
        then does not end in x_b. None: all. The arc is that of these levels together.
      cond: one entry an example, of both its ends, where the flow needs it.

    Raises:
      ValueError: for fewer than 2 images, ends of different shapes, and a level that the flow has not.
    """
    _check_num(num, 2)
    if x_a.shape != x_b.shape:
        raise ValueError(f"x_a and x_b must have the same shape; got {x_a.shape} and {x_b.shape}")
    z_a, structure = jax.tree.flatten(encode(flow, params, x_a, cond))
    z_b = jax.tree.leaves(encode(flow, params, x_b, cond))
    chosen = _check_levels(levels, len(z_a))
    shares = jnp.linspace(0.0, 1.0, num, dtype=x_a.dtype)
    if spherical:
        of_a, of_b = _arc(shares, *(_flat([z[i] for i in chosen]) for z in (z_a, z_b)))
    else:
        of_b = jnp.broadcast_to(shares[None], (x_a.shape[0], num))
        of_a = 1 - of_b
    rows = [
        _scaled(of_a, a) + _scaled(of_b, b) if i in chosen else _repeated(a, num)
        for i, (a, b) in enumerate(zip(z_a, z_b, strict=True))
    ]
    return _decode_rows(flow, params, structure.unflatten(rows), cond)


def attribute_direction(z_with: Batch, z_without: Batch, *, whitened: bool = False) -> Batch:
    """The direction in latent space from examples without an attribute to those with it.

    Like the latents, without an axis for the batch. At strength 1, `edit` moves as far along it as the
    two means are apart along it.

    Args:
      z_with, z_without: latents of examples of either kind, at least two; their numbers may differ.
      whitened: False: the difference d of the two means. True: the normal n = S^-1 d of Fisher's linear
        discriminant, as n (n.d) / (n.n), where S is the covariance within the kinds. It plays down what
        goes along with the attribute but varies as much without it (glasses with beards). S is shrunk
        to a multiple of the identity as far as Ledoit & Wolf 2004 have it, and is never formed: memory
        and time are those of the latents.

    Raises:
      ValueError: for fewer than two examples of a kind, and for latents of two flows.
    """
    shapes = [_event_shapes(z) for z in (z_with, z_without)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"z_with and z_without must be latents of one flow; got {shapes}")
    counts = [jax.tree.leaves(z)[0].shape[0] for z in (z_with, z_without)]
    if min(counts) < 2:
        raise ValueError(f"there must be at least 2 examples of each kind; got {counts}")
    leaves, structure = jax.tree.flatten(z_with)
    with_, without = (_flat(jax.tree.leaves(z)) for z in (z_with, z_without))
    means = [jnp.mean(z, axis=0, keepdims=True) for z in (with_, without)]
    direction = (means[0] - means[1])[0]
    if whitened:
        normal = _whiten(jnp.concatenate([with_ - means[0], without - means[1]]), direction)
        direction = normal * ((normal @ direction) / (normal @ normal))
    ends = [math.prod(leaf.shape[1:]) for leaf in leaves]
    parts = jnp.split(direction, [sum(ends[: i + 1]) for i in range(len(ends) - 1)])
    return structure.unflatten(
        [part.reshape(leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)]
    )


def _whiten(
    centred: Float[Array, "examples dim"], direction: Float[Array, " dim"]
) -> Float[Array, " dim"]:
    """The inverse of the rows' shrunk covariance times a direction, by conjugate gradients.

    (1 - share) S + share mean I with S = X^T X / n, mean = tr(S) / D and Ledoit & Wolf's share, which
    needs |S|^2 alone, and that is |X X^T|^2 / n^2 too.
    """
    examples, dim = centred.shape
    mean = jnp.mean(jnp.square(centred))
    gram = centred @ centred.T if examples < dim else centred.T @ centred
    square = jnp.sum(jnp.square(gram)) / examples**2
    far = square - dim * mean**2
    fourth = jnp.mean(jnp.square(jnp.sum(jnp.square(centred), axis=1)))
    share = jnp.clip((fourth - square) / examples / jnp.where(far > 0, far, 1), 0, 1)
    share = jnp.where(far > 0, share, 1)
    # Of examples that do not vary at all, nothing tells directions apart.
    mean = jnp.where(mean > 0, mean, 1)

    def times_covariance(v):
        return (1 - share) * ((centred @ v) @ centred / examples) + share * mean * v

    solution, _ = jax.scipy.sparse.linalg.cg(times_covariance, direction, tol=1e-6, maxiter=1000)
    return solution


def edit(
    flow: Flow,
    params: Params,
    x: Data,
    direction: Batch,
    strengths: Float[Array, " num"] | Sequence[float],
    *,
    cond: Batch | None = None,
) -> Strips:
    """Each x moved along a direction of latent space by each strength; at 0 it is decode(encode(x)).

    Args:
      direction: attribute_direction's, or any like the latents of one example.
      cond: one entry an example, which the edited ones keep.

    Raises:
      ValueError: for no strengths, and for a direction of another flow.
    """
    z = encode(flow, params, x, cond)
    shapes = [leaf.shape for leaf in jax.tree.leaves(direction)]
    if shapes != _event_shapes(z):
        raise ValueError(
            f"direction must be like the latents of one example, {_event_shapes(z)}; got {shapes}"
        )
    amounts = jnp.asarray(strengths, x.dtype)
    if amounts.ndim != 1 or not amounts.size:
        raise ValueError(f"strengths must be one number or more in a row; got {strengths}")

    def moved(leaf, d):
        return leaf[:, None] + jnp.tensordot(amounts, d.astype(leaf.dtype), axes=0)[None]

    leaves, structure = jax.tree.flatten(z)
    rows = [moved(leaf, d) for leaf, d in zip(leaves, jax.tree.leaves(direction), strict=True)]
    return _decode_rows(flow, params, structure.unflatten(rows), cond)


def resample(
    flow: Flow,
    params: Params,
    x: Data,
    key: PRNGKey,
    num: int,
    levels: Sequence[int],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    cond: Batch | None = None,
) -> Strips:
    """`num` images of each x with the latents of some levels drawn anew, and the others kept.

    Redrawing the fine levels changes texture and keeps what is where; the coarse ones the reverse.

    Args:
      levels: those drawn anew, 0 the finest. temperature: scales their deviation.

    Raises:
      ValueError: for no images, a temperature that fg.sample refuses, no level and one there is not.
    """
    _check_num(num, 1)
    check_temperature(temperature)
    z, structure = jax.tree.flatten(encode(flow, params, x, cond))
    chosen = _check_levels(levels, len(z))
    like = latent_shapes(flow, params, num * x.shape[0], _repeated_cond(cond, num))
    drawn = jax.tree.leaves(flow.prior.sample(key, like, temperature))
    rows = [
        drawn[i].reshape(x.shape[0], num, *leaf.shape[1:]) if i in chosen else _repeated(leaf, num)
        for i, leaf in enumerate(z)
    ]
    return _decode_rows(flow, params, structure.unflatten(rows), cond)


def temperature_sweep(
    flow: Flow,
    params: Params,
    key: PRNGKey,
    num: int,
    temperatures: Sequence[float],
    *,
    cond: Batch | None = None,
) -> Strips:
    """`num` samples at each temperature, (num, temperatures, *event_shape).

    A column is what fg.sample draws with this key at its temperature; so along a row the same noise
    grows.

    Raises:
      ValueError: for no samples, no temperature, and one that fg.sample refuses.
    """
    _check_num(num, 1)
    if not len(temperatures):
        raise ValueError("temperatures must be one or more; got none")
    for temperature in temperatures:
        check_temperature(temperature)
    like = latent_shapes(flow, params, num, cond)
    at = [flow.prior.sample(key, like, t) for t in temperatures]
    rows = jax.tree.map(lambda *zs: jnp.stack(zs, axis=1), *at)
    return _decode_rows(flow, params, rows, cond)


def nearest(
    z: Batch, among: Batch, num: int
) -> tuple[Int[Array, "batch num"], Float[Array, "batch num"]]:
    """The `num` latents of `among` nearest to each of z: their places there, and how far they are.

    Euclidean, over all levels together; of equally near ones the first comes first.

    Raises:
      ValueError: for none, or more than there are, and for latents of two flows.
    """
    shapes = [_event_shapes(tree) for tree in (z, among)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"z and among must be latents of one flow; got {shapes}")
    a, b = (_flat(jax.tree.leaves(tree)) for tree in (z, among))
    if not 1 <= num <= b.shape[0]:
        raise ValueError(f"num must be from 1 to the {b.shape[0]} there are; got {num}")

    # A row at a time: |a|^2 + |b|^2 - 2 a.b is one product of matrices, but rounds small distances off.
    def of_row(row):
        return jax.lax.top_k(-jnp.sum(jnp.square(b - row[None]), axis=1), num)

    negative, places = jax.lax.map(of_row, a)
    return places, jnp.sqrt(-negative)


def _arc(
    shares: Float[Array, " num"], a: Float[Array, "batch dim"], b: Float[Array, "batch dim"]
) -> tuple[Float[Array, "batch num"], Float[Array, "batch num"]]:
    """Weights of a and b on the arc between them, sin((1 - t) w) / sin w and sin(t w) / sin w."""
    a, b = (z / jnp.where(norm > 0, norm, 1) for z in (a, b) for norm in (_norm(z),))
    # By arctan, whose error is the same at all angles; that of arccos of a.b is large at small ones.
    angle = 2 * jnp.arctan2(_norm(a - b), _norm(a + b))
    sine = jnp.sin(angle)
    curved = sine > 1e-3
    sine, share = jnp.where(curved, sine, 1), shares[None]
    # The ends are not left to rounding: one there is exactly one.
    of_a = jnp.where(curved & (share > 0), jnp.sin((1 - share) * angle) / sine, 1 - share)
    return of_a, jnp.where(curved & (share < 1), jnp.sin(share * angle) / sine, share)


def _norm(z: Float[Array, "batch dim"]) -> Float[Array, "batch 1"]:
    return jnp.sqrt(jnp.sum(jnp.square(z), axis=1, keepdims=True))


def _flat(leaves: Sequence[Array]) -> Float[Array, "batch dim"]:
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def _event_shapes(z: Batch) -> list[tuple[int, ...]]:
    return [leaf.shape[1:] for leaf in jax.tree.leaves(z)]


def _scaled(weights: Float[Array, "batch num"], leaf: Array) -> Array:
    """(batch, num, ...): each example's latent times each of its weights."""
    return weights.reshape(*weights.shape, *(1,) * (leaf.ndim - 1)) * leaf[:, None]


def _repeated(leaf: Array, num: int) -> Array:
    return jnp.broadcast_to(leaf[:, None], (leaf.shape[0], num, *leaf.shape[1:]))


def _repeated_cond(cond: Batch | None, num: int) -> Batch | None:
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, num, axis=0), cond)


def _decode_rows(flow: Flow, params: Params, rows: Batch, cond: Batch | None) -> Strips:
    examples, num = jax.tree.leaves(rows)[0].shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(examples * num, *leaf.shape[2:]), rows)
    x = decode(flow, params, flat, _repeated_cond(cond, num))
    return x.reshape(examples, num, *x.shape[1:])


def _check_num(num: int, least: int) -> None:
    if isinstance(num, bool) or not isinstance(num, int) or num < least:
        raise ValueError(f"num must be a whole number of at least {least}; got {num!r}")


def _check_levels(levels: Sequence[int] | None, count: int) -> tuple[int, ...]:
    chosen = tuple(range(count)) if levels is None else tuple(levels)
    if not chosen or any(not 0 <= level < count for level in chosen):
        raise ValueError(
            f"levels must be one or more of 0, the finest, to {count - 1}; got {list(chosen)}"
        )
    return chosen
