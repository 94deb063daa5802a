# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Glow on digits
#
# A trained Glow comes with the library: handwritten digits, 8 x 8 pixels with 17 levels of grey.
# It was trained for three minutes on two CPU cores.

# %%
import importlib.util

if importlib.util.find_spec("flowjax_glow") is None:  # in Colab, say
    import IPython

    IPython.get_ipython().run_line_magic("pip", "install --quiet flowjax-glow")

# %%
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import flowjax_glow as fg
from flowjax_glow import data, latents, pretrained
from flowjax_glow.report import plots

key = jax.random.key(0)
flow, params = fg.load_pretrained("glow_digits")
n_bins = pretrained.load_config("glow_digits").n_bins
print(f"{fg.count_parameters(params):,} parameters, {n_bins} levels, images {flow.event_shape}")


def show(x):
    """Images in [-0.5, 0.5) as brightness in 0 .. 255, for people."""
    return plots.to_uint8(np.asarray(fg.quantize(x, n_bins=n_bins)), n_bins=n_bins)


# %% [markdown]
# ## Likelihood
#
# Bits per dimension: what an ideal code would spend on a pixel. Digits with independent pixels
# would cost 2.39.

# %%
split = data.load("digits", "test")
images, labels = jnp.asarray(split.images), split.labels
x = fg.dequantize(key, images, n_bins=n_bins)
log_prob = jax.jit(lambda params, x: fg.log_prob(flow, params, x))(params, x)
bits = fg.bits_per_dim(log_prob, flow.event_shape, n_bins=n_bins)
print(f"{bits.mean():.3f} bits/dim on {len(images)} test images")

# %% [markdown]
# The likeliest images of the test set are above, the least likely below:

# %%
order = np.argsort(np.asarray(bits))
rows = show(x)[np.stack([order[:10], order[-10:]])]
Image.fromarray(
    plots.image_strip(
        rows,
        row_labels=[
            f"{bits[order[:10]].mean():.2f} bits/dim",
            f"{bits[order[-10:]].mean():.2f} bits/dim",
        ],
        tile=48,
    )
)

# %% [markdown]
# ## Samples, by temperature
#
# Draw latents, decode. Temperature scales the latents: at 0 there is nothing random left, and one
# image; at 1 samples are as varied as the model has learned. Each row has the same noise.

# %%
temperatures = [0.0, 0.3, 0.5, 0.7, 0.85, 1.0]
sweep = jax.jit(
    lambda params: latents.temperature_sweep(flow, params, jax.random.key(1), 8, temperatures)
)(params)
Image.fromarray(plots.image_strip(show(sweep), column_labels=[f"{t}" for t in temperatures], tile=48))

# %% [markdown]
# ## The code of an image is exact
#
# `encode` gives every latent, by level, and `decode` gives the image back. No autoencoder does
# that.

# %%
encode = jax.jit(lambda params, x: fg.encode(flow, params, x))
decode = jax.jit(lambda params, z: fg.decode(flow, params, z))
middle = fg.dequantize(None, images, n_bins=n_bins)  # the middle of each level
z = encode(params, middle)
again = decode(params, z)
print("latents by level", [leaf.shape[1:] for leaf in z])
print(
    f"largest difference {jnp.abs(again - middle).max():.1e}, a level is {1 / n_bins:.3f} wide; ",
    end="",
)
print("same levels everywhere:", bool((fg.quantize(again, n_bins=n_bins) == images).all()))
Image.fromarray(
    plots.image_strip(
        np.stack([show(middle[:10]), show(again[:10])]), row_labels=["image", "decoded"], tile=48
    )
)

# %% [markdown]
# ## Interpolation
#
# Between two digits there is a straight line of pixels, and it shows two digits at once. Between
# their latents there is a path too, and nearly every image along it is a digit.

# %%
digits = [int(np.flatnonzero(labels == digit)[1]) for digit in (0, 6, 3, 5, 4, 9, 1, 7)]
x_a, x_b = middle[np.array(digits[0::2])], middle[np.array(digits[1::2])]
path = jax.jit(lambda params, a, b: latents.interpolate(flow, params, a, b, 9))(params, x_a, x_b)
share = np.linspace(0, 1, 9, dtype=np.float32)[None, :, None, None, None]
pixels = x_a[:, None] * (1 - share) + x_b[:, None] * share
pairs = np.stack([show(pixels), show(path)], axis=1).reshape(8, 9, 8, 8, 1)
Image.fromarray(plots.image_strip(pairs, row_labels=["pixels", "latents"] * 4, tile=48))

# %% [markdown]
# ## What each level holds
#
# This model has two levels. The first half of the numbers leaves early, the fine latents; the
# rest goes on to the coarse ones. Keep one level of an image and draw the other anew:

# %%
first = middle[np.array(digits[:6])]


def resample(level):
    return jax.jit(
        lambda params, x: latents.resample(flow, params, x, key, 5, [level], temperature=0.8)
    )(params, first)


fine, coarse = resample(0), resample(1)
Image.fromarray(
    plots.image_strip(
        np.concatenate([show(first)[:, None], show(fine), show(coarse)], axis=1),
        column_labels=["image", *["fine\nnew"] * 5, *["coarse\nnew"] * 5],
        tile=48,
    )
)

# %% [markdown]
# New fine latents keep the digit and change how it is written; new coarse ones make another
# digit.
