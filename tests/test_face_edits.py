"""An edit does what it says: along "smiling" a smile comes and goes, and all else of the face stays.

What the edited pictures show is said by classifiers that know nothing of the flow, trained here on
faces that are in no split.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flowjax_glow as fg
from flowjax_glow.data.cartoon_faces import FACES, HAIR_COLOURS, draw_face, random_face
from flowjax_glow.likelihood import dequantize, quantize

STRENGTHS = (-1.6, -0.8, 0.0, 0.8, 1.6)
OTHERS = ("glasses", "pose", "eye_size", "hair_colour")


def _shows(face):
    """What a face shows, each as the number of a class; -1 of eyes neither large nor small."""
    large = int(face.eye_size > 1.1)
    return {
        "smiling": face.smiling,
        "glasses": face.glasses,
        "pose": face.pose > 0.0,
        "eye_size": large if large or face.eye_size < 0.9 else -1,
        "hair_colour": list(HAIR_COLOURS).index(face.hair_colour),
    }


class Drawn(NamedTuple):
    """images: uint8 (faces, 32, 32, 3). shown: of each attribute the classes, (faces,)."""

    images: np.ndarray
    shown: dict[str, np.ndarray]


def _draw(numbers):
    faces = [random_face(i) for i in numbers]
    shown = [_shows(face) for face in faces]
    columns = {name: np.array([row[name] for row in shown], np.int32) for name in shown[0]}
    return Drawn(np.stack([draw_face(face) for face in faces]), columns)


def cross_entropy(logits, classes):
    """Mean over the faces that are of a class."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(classes, 0))
    return jnp.mean(losses, where=classes >= 0)


class Classifier(nn.Module):
    """Logits of the classes of each attribute: of one network, with an output for each."""

    @nn.compact
    def __call__(self, images):
        x = jnp.asarray(images, jnp.float32) / 128.0 - 1.0
        for width in (24, 48):
            x = nn.relu(nn.Conv(width, (3, 3), (2, 2))(x))
        x = nn.relu(nn.Dense(64)(x.reshape(x.shape[0], -1)))
        classes = dict.fromkeys(("smiling", *OTHERS), 2) | {"hair_colour": len(HAIR_COLOURS)}
        return {name: nn.Dense(num)(x) for name, num in classes.items()}


@pytest.fixture(scope="module")
def classify():
    """images -> logits by attribute, after training."""
    jax.config.update("jax_disable_most_optimizations", False)
    drawn, network = _draw(range(20_000, 26_000)), Classifier()
    epochs, size = 8, 100
    with jax.numpy_dtype_promotion("standard"):
        params = jax.jit(network.init)(jax.random.key(0), drawn.images[:1])
        steps = epochs * len(drawn.images) // size
        optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))

        def loss(params, images, shown):
            logits = network.apply(params, images)
            return sum(cross_entropy(logits[name], shown[name]) for name in shown)

        @jax.jit
        def step(params, state, images, shown):
            updates, state = optimizer.update(jax.grad(loss)(params, images, shown), state, params)
            return optax.apply_updates(params, updates), state

        state, rng = optimizer.init(params), np.random.default_rng(0)
        for _ in range(epochs):
            for rows in rng.permutation(len(drawn.images)).reshape(-1, size):
                shown = {name: values[rows] for name, values in drawn.shown.items()}
                params, state = step(params, state, drawn.images[rows], shown)
    yield jax.jit(partial(network.apply, params))
    jax.config.update("jax_disable_most_optimizations", True)


def test_the_classifiers_know_what_a_face_shows(classify):
    held_out = _draw(range(26_000, 27_000))
    logits = classify(held_out.images)
    right = {
        name: np.mean((np.argmax(logits[name], -1) == shown)[shown >= 0])
        for name, shown in held_out.shown.items()
    }
    assert min(right.values()) > 0.95, right


@pytest.fixture(scope="module")
def edited(classify):
    """The first test faces, and what they become along the direction of training faces that smile."""
    del classify  # after it: its programs are optimized, and these too
    flow, params = fg.load_pretrained("glow_cartoon_faces")
    params = fg.prepare(flow, params)
    drawn = _draw(FACES["train"][:1_000])
    encode = jax.jit(partial(fg.encode, flow, params))
    x = dequantize(jax.random.key(0), jnp.asarray(drawn.images))
    parts = [encode(part) for part in jnp.split(x, 10)]
    z = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    smiling = drawn.shown["smiling"] == 1
    with_ = jax.tree.map(lambda leaf: leaf[smiling], z)
    without = jax.tree.map(lambda leaf: leaf[~smiling], z)
    direction = fg.latents.attribute_direction(with_, without)
    images = _draw(FACES["test"][:60]).images
    edit = jax.jit(partial(fg.latents.edit, flow, params, strengths=STRENGTHS))
    parts = [edit(dequantize(None, part), direction) for part in jnp.split(jnp.asarray(images), 3)]
    return images, np.asarray(quantize(jnp.concatenate(parts)))


@pytest.fixture(scope="module")
def seen(classify, edited):
    """Logits of the edited faces by attribute, (faces, strengths, classes)."""
    _, strips = edited
    logits = classify(strips.reshape(-1, *strips.shape[2:]))
    return {name: np.asarray(v).reshape(*strips.shape[:2], -1) for name, v in logits.items()}


def test_at_strength_0_every_pixel_comes_back(edited):
    images, strips = edited
    np.testing.assert_array_equal(strips[:, STRENGTHS.index(0.0)], images)


def test_the_smile_comes_and_goes_with_the_strength(seen):
    logit = seen["smiling"][..., 1] - seen["smiling"][..., 0]
    rises = (np.diff(logit, axis=1) > 0).all(axis=1)
    changes_its_mind = (logit[:, 0] < 0) & (logit[:, -1] > 0)
    assert np.mean(rises & changes_its_mind) >= 0.9, (rises.mean(), changes_its_mind.mean())


@pytest.mark.parametrize("name", OTHERS)
def test_all_else_stays(seen, name):
    classes = np.argmax(seen[name], axis=-1)
    kept = (classes == classes[:, [STRENGTHS.index(0.0)]]).all(axis=1)
    assert np.mean(kept) >= 0.8
