# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Edits: moving along an attribute
#
# The codes of images with an attribute have a mean, and so have the codes of those without. The
# difference of the two is a direction in latent space. Add it to the code of any image, decode,
# and the image gains the attribute: this is how Glow makes faces smile (Kingma & Dhariwal 2018,
# figure 6). Nothing is trained for it.

# %%
import importlib.util

if importlib.util.find_spec("flowjax_glow") is None:  # in Colab, say
    import IPython

    IPython.get_ipython().run_line_magic("pip", "install --quiet flowjax-glow")

# %%
import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from sklearn.svm import SVC

import flowjax_glow as fg
from flowjax_glow import data, latents, pretrained
from flowjax_glow.data import cartoon_faces
from flowjax_glow.report import plots

key = jax.random.key(0)
flow, params = fg.load_pretrained("glow_digits")
n_bins = pretrained.load_config("glow_digits").n_bins
encode = jax.jit(functools.partial(fg.encode, flow))
edit = jax.jit(functools.partial(latents.edit, flow))


def show(x):
    return plots.to_uint8(np.asarray(fg.quantize(x, n_bins=n_bins)), n_bins=n_bins)


train, test = data.load("digits", "train"), data.load("digits", "test")
codes = encode(params, fg.dequantize(key, jnp.asarray(train.images), n_bins=n_bins))


def those(rows):
    return jax.tree.map(lambda leaf: leaf[np.flatnonzero(rows)], codes)


# %% [markdown]
# ## Stroke weight
#
# With: the quarter of the training digits that are brightest. Without: the darkest quarter. Six
# test digits, from thinner to bolder. Strength 1 is the whole way from one mean to the other. At
# strength 0 nothing has been added, and the decoded image is the image, pixel by pixel.

# %%
brightness = train.images.mean((1, 2, 3))
low, high = np.quantile(brightness, [0.25, 0.75])
bolder = latents.attribute_direction(those(brightness >= high), those(brightness <= low))
strengths = [-1.0, -0.5, 0.0, 0.5, 1.0]
names = [f"{s:+g}" if s else "0" for s in strengths]
chosen = test.images[
    np.array([np.flatnonzero(test.labels == digit)[3] for digit in (0, 2, 3, 4, 6, 9)])
]
x = fg.dequantize(None, jnp.asarray(chosen), n_bins=n_bins)
strip = edit(params, x, bolder, jnp.array(strengths))
print(
    "strength 0 gives back every pixel:",
    bool((fg.quantize(strip[:, 2], n_bins=n_bins) == chosen).all()),
)
print("mean brightness by strength:", np.round(np.asarray(show(strip), float).mean((0, 2, 3, 4)), 1))
Image.fromarray(plots.image_strip(show(strip), column_labels=names, tile=48))

# %% [markdown]
# ## Classes
#
# From 1 to 7: with are the sevens, without are the ones. The model was never told which digit is
# which.

# %%
amounts = [0.0, 0.5, 1.0, 1.5, 2.0]


def between(start, end):
    """Forty digits of one class, on the way to another: (40, 5, 8, 8, 1)."""
    direction = latents.attribute_direction(those(train.labels == end), those(train.labels == start))
    chosen = np.resize(np.flatnonzero(test.labels == start), 40)
    middle = fg.dequantize(None, jnp.asarray(test.images[chosen]), n_bins=n_bins)
    return show(edit(params, middle, direction, jnp.array(amounts)))


ways = [(1, 7), (3, 8), (4, 9)]
strips = [between(*way) for way in ways]
Image.fromarray(
    plots.image_strip(
        np.concatenate([of_way[:3] for of_way in strips]),
        row_labels=[f"{start} to {end}" for start, end in ways for _ in range(3)],
        column_labels=[f"{amount:g}" for amount in amounts],
        tile=48,
    )
)

# %% [markdown]
# Did it work? We ask a classifier of pixels, trained apart: the share that it takes for the class
# that we went to, by strength. A straight line through latent space is a plain tool. It is good
# at what changes an image evenly, like the weight of the stroke, and less so at classes, which
# are clusters.

# %%
scale = 255.0
classifier = SVC().fit(
    plots.to_uint8(train.images, n_bins=n_bins).reshape(-1, 64) / scale, train.labels
)
print("strength", *(f"{amount:5.1f}" for amount in amounts))
for (start, end), of_way in zip(ways, strips, strict=True):
    taken = classifier.predict(of_way.reshape(-1, 64) / scale).reshape(40, len(amounts))
    print(f"{start} to {end}  ", *(f"{share:5.2f}" for share in (taken == end).mean(0)))

# %% [markdown]
# ## The difference of means, or the discriminant
#
# What goes along with an attribute moves with it: bold digits are more often eights.
# `whitened=True` divides by the covariance of the codes, as a linear discriminant does, and so
# keeps to what tells the two kinds apart.

# %%
discriminant = latents.attribute_direction(
    those(brightness >= high), those(brightness <= low), whitened=True
)
pair = np.stack([show(strip)[:3], show(edit(params, x, discriminant, jnp.array(strengths)))[:3]], 1)
Image.fromarray(
    plots.image_strip(
        pair.reshape(6, 5, 8, 8, 1),
        row_labels=["difference", "discriminant"] * 3,
        column_labels=names,
        tile=48,
    )
)

# %% [markdown]
# ## A smile
#
# Faces, at last. The second model that ships was trained on cartoon faces, drawn from known
# attributes: a face is the picture of its number, so that we know who smiles. Below are six
# faces that the model never saw, three that do not smile and three that do.

# %%
faces, face_params = fg.load_pretrained("glow_cartoon_faces")
drawn = [cartoon_faces.random_face(number) for number in cartoon_faces.FACES["train"][:600]]
pictures = np.stack([cartoon_faces.draw_face(face) for face in drawn])
smiling = np.array([face.smiling for face in drawn])
face_codes = jax.jit(functools.partial(fg.encode, faces))(
    face_params, fg.dequantize(key, jnp.asarray(pictures))
)
smile = latents.attribute_direction(
    jax.tree.map(lambda leaf: leaf[smiling], face_codes),
    jax.tree.map(lambda leaf: leaf[~smiling], face_codes),
)

unseen = [cartoon_faces.random_face(number) for number in cartoon_faces.FACES["test"]]
chosen = [face for face in unseen if not face.smiling][:3] + [f for f in unseen if f.smiling][:3]
x = fg.dequantize(None, jnp.asarray(np.stack([cartoon_faces.draw_face(face) for face in chosen])))
amounts = [-1.5, -0.75, 0.0, 0.75, 1.5]
strip = jax.jit(functools.partial(latents.edit, faces))(face_params, x, smile, jnp.array(amounts))
Image.fromarray(
    plots.image_strip(
        np.asarray(fg.quantize(strip)),
        column_labels=[f"{amount:+g}" if amount else "0" for amount in amounts],
        tile=72,
    )
)

# %% [markdown]
# Hair, skin, glasses and background stay as they are, because faces with a smile and without
# one have as many of each: the difference of their means is the smile alone.

# %% [markdown]
# For images of your own, in a folder or of TensorFlow Datasets, the same is one command:
#
#     python -m experiments.edit --workdir=runs/glow_cartoon_faces --attribute=smiling \
#         --strengths=-1.5,-.75,0,.75,1.5 --out=smile.png
