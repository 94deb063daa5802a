# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exploring bijectors
#
# A bijector is three pure functions. `init` makes params from a batch, `forward` goes from data
# to latents, `inverse` comes back; both return the value and log |det Jacobian|, one number an
# example.

# %%
import importlib.util

if importlib.util.find_spec("flowjax_glow") is None:  # in Colab, say
    import IPython

    IPython.get_ipython().run_line_magic("pip", "install --quiet flowjax-glow")

# %%
import jax
import jax.numpy as jnp

import flowjax_glow as fg
from flowjax_glow.nets.convnet import ConvNet

key = jax.random.key(0)
x = 2.0 + 3.0 * jax.random.normal(key, (16, 4, 4, 2))

# %% [markdown]
# Actnorm is initialised from the batch it is given: every channel comes out with mean 0 and
# variance 1.

# %%
actnorm = fg.actnorm()
params = actnorm.init(key, x)
z, logdet = actnorm.forward(params, x)
print("mean", z.mean((0, 1, 2)), "deviation", z.std((0, 1, 2)), "logdet", logdet[0])

# %% [markdown]
# Its log-determinant is exact. Here is the whole Jacobian of one example to compare with.

# %%
jacobian = jax.jacfwd(lambda v: actnorm.forward(params, v[None])[0].ravel())(x[0])
print(jnp.linalg.slogdet(jacobian.reshape(32, 32))[1], "is", logdet[0])

# %% [markdown]
# An invertible 1x1 convolution generalises a permutation of the channels: a permutation matrix as
# kernel turns channels (1, 2, 3) into (3, 1, 2).

# %%
permutation = {"kernel": jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])}
print(fg.invertible_conv().forward(permutation, jnp.array([[1.0, 2.0, 3.0]])))

# %% [markdown]
# Combinators make bijectors of bijectors. `repeat` scans over the depth, so that a deep flow
# compiles as fast as a shallow one, and init gives every depth its own statistics.

# %%
step = fg.chain(fg.actnorm(), fg.invertible_conv(), fg.affine_coupling(lambda c: ConvNet(c, width=16)))
flow = fg.Flow(fg.chain(fg.squeeze(), fg.repeat(step, 8)), fg.standard_normal(), x.shape[1:])
params = fg.init(flow, key, x)
print("parameters", fg.count_parameters(params))
print("log p(x)", jax.jit(lambda p, x: fg.log_prob(flow, p, x))(params, x)[:4])

# %% [markdown]
# The code of an image is exact: decode gives the image back.

# %%
z = fg.encode(flow, params, x)
print("largest difference", jnp.abs(fg.decode(flow, params, z) - x).max())
