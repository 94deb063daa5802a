"""Paths, directions and neighbours in latent space, against their definitions."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import perturb

import flowjax_glow as fg
from flowjax_glow import latents
from flowjax_glow.nets.table import Table

KEY = jax.random.key(0)
SHAPE = (8, 8, 1)


def images(n, seed=1, shape=SHAPE):
    return jax.random.uniform(jax.random.key(seed), (n, *shape), minval=-0.5, maxval=0.5)


@pytest.fixture(scope="module")
def exact():
    """Three levels of pixels in another order, so that latents come back bit by bit; and its params."""
    bijector = fg.chain(fg.squeeze(), fg.actnorm())
    for _ in range(2):
        bijector = fg.chain(fg.squeeze(), fg.actnorm(), fg.factor_out(bijector))
    flow = fg.Flow(bijector, fg.standard_normal(), SHAPE)
    return flow, jax.tree.map(jnp.zeros_like, fg.init(flow, KEY, images(4)))


@pytest.fixture(scope="module")
def glow():
    """A Glow whose last latents depend on a label; params, images and labels."""
    flow = fg.glow(SHAPE, levels=2, depth=1, width=4, num_classes=3)
    x, labels = images(4), jnp.array([0, 1, 2, 1])
    return flow, perturb(fg.init(flow, KEY, x, labels)), x, labels


def flat(z):
    leaves = jax.tree.leaves(z)
    return np.concatenate([np.asarray(leaf).reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def encode_rows(flow, params, rows):
    """Latents of the images of strips: (batch, num, dim)."""
    z = flat(fg.encode(flow, params, rows.reshape(-1, *flow.event_shape)))
    return z.reshape(*rows.shape[:2], -1)


# interpolate


@pytest.mark.parametrize("spherical", [False, True])
def test_interpolation_has_both_ends_and_follows_its_path(exact, spherical):
    flow, params = exact
    x_a, x_b = images(3), images(3, seed=2)
    rows = latents.interpolate(flow, params, x_a, x_b, 5, spherical=spherical)
    assert rows.shape == (3, 5, *SHAPE)
    np.testing.assert_array_equal(rows[:, 0], x_a)
    np.testing.assert_array_equal(rows[:, -1], x_b)

    z = encode_rows(flow, params, rows).astype(np.float64)
    for a, b, path in zip(z[:, 0], z[:, -1], z, strict=True):
        angle = np.arccos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        for t, point in zip(np.linspace(0, 1, 5), path, strict=True):
            if spherical:
                expected = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
            else:
                expected = (1 - t) * a + t * b
            np.testing.assert_allclose(point, expected, atol=1e-6)


def test_an_arc_between_ends_of_one_norm_keeps_it_and_turns_evenly(exact):
    flow, params = exact
    x_a, x_b = (
        x / jnp.linalg.norm(x.reshape(3, -1), axis=1)[:, None, None, None]
        for x in (images(3), images(3, seed=2))
    )
    z = encode_rows(flow, params, latents.interpolate(flow, params, x_a, x_b, 7, spherical=True))
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, atol=1e-6)
    between = np.sum(z[:, 1:] * z[:, :-1], axis=-1)
    np.testing.assert_allclose(between, between[:, :1].repeat(6, axis=1), atol=1e-6)
    straight = encode_rows(flow, params, latents.interpolate(flow, params, x_a, x_b, 7))
    assert np.linalg.norm(straight[:, 3], axis=-1).max() < 0.9


def test_an_arc_that_there_is_not_is_straight(exact):
    flow, params = exact
    x = images(4)
    ends = jnp.stack([x[0], -x[1], jnp.zeros(SHAPE), 3 * x[3]])
    starts = x.at[2].set(0)
    rows = latents.interpolate(flow, params, starts, ends, 3, spherical=True)
    np.testing.assert_allclose(rows[:, 1], (starts + ends) / 2, atol=1e-6)


def test_only_the_levels_asked_for_change(exact):
    flow, params = exact
    x_a, x_b = images(3), images(3, seed=2)
    rows = latents.interpolate(flow, params, x_a, x_b, 4, levels=[1])
    a, b = (fg.encode(flow, params, x) for x in (x_a, x_b))
    for i in range(4):
        fine, middle, coarse = fg.encode(flow, params, rows[:, i])
        np.testing.assert_array_equal(fine, a[0])
        np.testing.assert_array_equal(coarse, a[2])
        np.testing.assert_allclose(middle, a[1] + i / 3 * (b[1] - a[1]), atol=1e-6)
    # The angle of an arc is that of the levels that change, whatever the others are.
    other = fg.decode(flow, params, (9 + a[0], b[1], a[2]))
    arcs = [
        latents.interpolate(flow, params, x_a, x, 4, spherical=True, levels=[1]) for x in (x_b, other)
    ]
    np.testing.assert_array_equal(arcs[0], arcs[1])


# attribute_direction


def gaussian(rng, n, mean, root):
    """Latents of two levels, of a normal distribution with covariance root root^T."""
    z = (mean + rng.normal(size=(n, len(mean))) @ root.T).astype(np.float32)
    return jnp.asarray(z[:, :4].reshape(n, 2, 2)), jnp.asarray(z[:, 4:])


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def test_directions_of_gaussian_latents():
    rng = np.random.default_rng(0)
    root, difference = np.eye(6) + 0.8 * rng.normal(size=(6, 6)), rng.normal(size=6)
    with_, without = (gaussian(rng, n, m, root) for n, m in ((9_000, difference), (6_000, np.zeros(6))))
    mean = latents.attribute_direction(with_, without)
    assert [leaf.shape for leaf in mean] == [(2, 2), (2,)]
    np.testing.assert_allclose(
        flat([leaf[None] for leaf in mean])[0], flat(with_).mean(0) - flat(without).mean(0), atol=1e-5
    )

    found = jax.jit(functools.partial(latents.attribute_direction, whitened=True))(with_, without)
    normal = np.linalg.solve(root @ root.T, difference)
    direction = flat([leaf[None] for leaf in found])[0]
    assert cosine(normal, difference) < 0.9  # the two methods differ here ...
    assert cosine(direction, normal) > 0.995  # ... and this is the discriminant
    # At strength 1 the discriminant's score moves as far as its means are apart.
    np.testing.assert_allclose(direction @ normal, difference @ normal, rtol=0.05)


@pytest.mark.usefixtures("float64")
def test_the_discriminant_is_that_of_the_shrunk_covariance():
    """Also of fewer examples than dimensions, where only the shrinkage makes it invertible."""
    from sklearn.covariance import ledoit_wolf

    rng = np.random.default_rng(0)
    for n in (12, 200):
        with_, without = (rng.normal(size=(n, 30)) @ rng.normal(size=(30, 30)) for _ in range(2))
        found = latents.attribute_direction(jnp.asarray(with_), jnp.asarray(without), whitened=True)
        difference = with_.mean(0) - without.mean(0)
        centred = np.concatenate([with_ - with_.mean(0), without - without.mean(0)])
        covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
        assert 0.01 < shrinkage < 0.9
        normal = np.linalg.solve(covariance, difference)
        expected = normal * (normal @ difference) / (normal @ normal)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_discriminant_of_examples_that_do_not_vary_is_the_difference():
    z = jnp.ones((3, 4))
    for whitened in (False, True):
        found = latents.attribute_direction(2 * z, -z, whitened=whitened)
        np.testing.assert_allclose(found, 3 * np.ones(4), rtol=1e-6)


# edit


def test_edits_move_latents_by_the_strength(exact):
    flow, params = exact
    x = images(3)
    direction = jax.tree.map(lambda leaf: leaf[0], fg.encode(flow, params, images(1, seed=3)))
    rows = latents.edit(flow, params, x, direction, [-1.0, 0.0, 0.5])
    np.testing.assert_array_equal(rows[:, 1], x)
    z = encode_rows(flow, params, rows)
    step = flat([leaf[None] for leaf in direction])
    np.testing.assert_allclose(z[:, 0], flat(fg.encode(flow, params, x)) - step, atol=1e-6)
    np.testing.assert_allclose(z[:, 2], flat(fg.encode(flow, params, x)) + 0.5 * step, atol=1e-6)


def test_edits_keep_cond_and_are_the_same_under_jit_and_prepared(glow):
    flow, params, x, labels = glow
    z = jax.jit(fg.encode, static_argnums=0)(flow, params, x, labels)
    direction = latents.attribute_direction(
        *(jax.tree.map(lambda leaf, half=half: leaf[half], z) for half in (slice(2), slice(2, 4)))
    )
    edit = jax.jit(latents.edit, static_argnums=0)
    strengths = jnp.array([0.0, 1.0])
    rows = edit(flow, fg.prepare(flow, params), x, direction, strengths, cond=labels)
    np.testing.assert_allclose(rows[:, 0], x, atol=1e-5)
    moved = jax.jit(fg.encode, static_argnums=0)(flow, params, rows[:, 1], labels)
    for leaf, start, d in zip(moved, z, direction, strict=True):
        np.testing.assert_allclose(leaf, start + d[None], atol=1e-4)
    other = edit(flow, fg.prepare(flow, params), x, direction, strengths, cond=(labels + 1) % 3)
    assert np.abs(other[:, 1] - rows[:, 1]).max() > 1e-3


# resample, temperature_sweep, sampling of a class


def test_resampling_keeps_the_other_levels(exact):
    flow, params = exact
    x = images(3)
    rows = latents.resample(flow, params, x, KEY, 5, [0], temperature=0.5)
    assert rows.shape == (3, 5, *SHAPE)
    z = fg.encode(flow, params, x)
    drawn = fg.encode(flow, params, rows.reshape(-1, *SHAPE))
    for level in (1, 2):
        np.testing.assert_array_equal(drawn[level], np.repeat(z[level], 5, axis=0))
    fine = np.asarray(drawn[0])
    assert len(np.unique(fine.reshape(15, -1)[:, 0])) == 15
    # 15 * 32 draws of deviation 1/2: its standard error is 0.016, and the mean's 0.023.
    assert abs(fine.std() - 0.5) < 0.08
    assert abs(fine.mean()) < 0.12
    again = latents.resample(flow, params, x, jax.random.key(1), 5, [0, 1, 2])
    assert (np.asarray(again) != np.asarray(x)[:, None]).all()


def test_a_temperature_sweep_is_fg_sample_at_each_temperature(glow):
    flow, params, _, labels = glow
    temperatures = [0.0, 0.7, 1.0]
    sweep = jax.jit(lambda p: latents.temperature_sweep(flow, p, KEY, 4, temperatures, cond=labels))
    rows = sweep(params)
    sample = jax.jit(fg.sample, static_argnums=(0, 3))
    for i, temperature in enumerate(temperatures):
        expected = sample(flow, params, KEY, 4, temperature=temperature, cond=labels)
        np.testing.assert_allclose(rows[:, i], expected, atol=1e-5)


def test_samples_are_of_the_class_that_cond_says():
    """A conditional flow whose classes are apart: p(x | y) = N(3 y, 0.1^2)."""
    classes = fg.learned_prior(functools.partial(Table, num_classes=3))
    flow, labels = fg.Flow(classes, fg.standard_normal(), (4,)), jnp.arange(300) % 3
    shifts, log_scales = -3.0 * jnp.arange(3.0)[:, None], jnp.full((3, 4), math.log(10.0))
    rows = jnp.concatenate([jnp.broadcast_to(shifts, (3, 4)), log_scales], axis=1)
    params = jax.tree.map(lambda _: rows, fg.init(flow, KEY, jnp.zeros((3, 4)), labels[:3]))
    x = np.asarray(fg.sample(flow, params, KEY, 300, cond=labels))
    own, after = (3.0 * np.asarray(y, np.float32)[:, None] for y in (labels, (labels + 1) % 3))
    assert np.abs(x - own).max() < 0.6  # six deviations
    assert 0.09 < (x - own).std() < 0.11
    # Latents of one class decoded as another go to the other's place, and nothing else changes.
    z = fg.encode(flow, params, jnp.asarray(x), labels)
    other = fg.decode(flow, params, z, (labels + 1) % 3)
    np.testing.assert_allclose(other - after, x - own, atol=1e-5)


# nearest


def test_nearest_is_what_comparing_all_finds(exact):
    flow, params = exact
    among = images(40)
    query = among[jnp.array([7, 3])] + 1e-4
    z, z_among = (fg.encode(flow, params, x) for x in (query, among))
    places, distances = jax.jit(latents.nearest, static_argnums=2)(z, z_among, 6)
    all_distances = np.linalg.norm(
        flat(z).astype(np.float64)[:, None] - flat(z_among).astype(np.float64)[None], axis=-1
    )
    np.testing.assert_array_equal(places, np.argsort(all_distances, axis=1)[:, :6])
    np.testing.assert_array_equal(places[:, 0], [7, 3])
    np.testing.assert_allclose(distances, np.sort(all_distances, axis=1)[:, :6], rtol=1e-4)


# mistakes


def test_mistakes_are_named(exact):
    flow, params = exact
    x = images(2)
    z = fg.encode(flow, params, x)
    one = jax.tree.map(lambda leaf: leaf[0], z)
    key, path = KEY, latents.interpolate
    for message, wrong in {
        "num must be a whole number of at least 2; got 1": lambda: path(flow, params, x, x, 1),
        "x_a and x_b must have the same shape; got": lambda: path(flow, params, x, x[:1], 3),
        "levels must be one or more of 0, the finest, to 2; got [3]": lambda: path(
            flow, params, x, x, 3, levels=[3]
        ),
        "to 2; got []": lambda: path(flow, params, x, x, 3, levels=[]),
        "to 2; got [-1]": lambda: latents.resample(flow, params, x, key, 2, [-1]),
        "num must be a whole number of at least 1; got 0": lambda: latents.resample(
            flow, params, x, key, 0, [0]
        ),
        "temperature must be finite and not negative; got -1": lambda: latents.resample(
            flow, params, x, key, 2, [0], temperature=-1.0
        ),
        "temperature must be finite and not negative; got inf": lambda: latents.temperature_sweep(
            flow, params, key, 2, [1.0, float("inf")]
        ),
        "temperatures must be one or more; got none": lambda: latents.temperature_sweep(
            flow, params, key, 2, []
        ),
        "at least 2 examples of each kind; got [2, 1]": lambda: latents.attribute_direction(
            z, jax.tree.map(lambda leaf: leaf[:1], z)
        ),
        "z_with and z_without must be latents of one flow; got": lambda: latents.attribute_direction(
            z, z[0]
        ),
        "direction must be like the latents of one example, [": lambda: latents.edit(
            flow, params, x, z, [1.0]
        ),
        "strengths must be one number or more in a row; got []": lambda: latents.edit(
            flow, params, x, one, []
        ),
        "num must be from 1 to the 2 there are; got 3": lambda: latents.nearest(z, z, 3),
        "z and among must be latents of one flow; got": lambda: latents.nearest(z, z[0], 1),
    }.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            wrong()
