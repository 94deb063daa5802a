# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # The invertible 1x1 convolution: a permutation that is learned
#
# Couplings leave half of the channels alone, so the halves have to change between them. RealNVP
# reverses the channels. A permutation is a matrix of zeros and ones; Glow takes any invertible
# matrix $W$ in its place, and learns it: at every pixel, $z = x W$.

# %%
import importlib.util

if importlib.util.find_spec("flowjax_glow") is None:  # in Colab, say
    import IPython

    IPython.get_ipython().run_line_magic("pip", "install --quiet flowjax-glow")

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
from sklearn.datasets import load_sample_image

import flowjax_glow as fg
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.report import plots

key = jax.random.key(0)
conv = fg.invertible_conv()

# %% [markdown]
# ## Channels that are mixed
#
# The channels of a photograph, as grey images: first as they are, then permuted, then mixed by a
# random rotation, which is how $W$ starts. The inverse brings every pixel back.

# %%
photo = load_sample_image("flower.jpg")[60:348:4, 200:488:4]  # 72 x 72
x = jnp.asarray(photo[None] / 255.0 - 0.5, jnp.float32)
swap = {"kernel": jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])}
turn = conv.init(key, x)


def channels(x):
    """(1, height, width, 3) as three grey images, each over the whole range from black to white."""
    planes = np.moveaxis(np.asarray(x[0]), -1, 0)
    low, high = planes.min((1, 2), keepdims=True), planes.max((1, 2), keepdims=True)
    return np.round(255 * (planes - low) / (high - low)).astype(np.uint8)[..., None]


turned, _ = conv.forward(turn, x)
back, _ = conv.inverse(turn, turned)
Image.fromarray(
    plots.image_strip(
        np.stack([channels(v) for v in (x, conv.forward(swap, x)[0], turned, back)]),
        row_labels=["photograph", "permuted", "rotated", "rotated back"],
        column_labels=["channel 1", "channel 2", "channel 3"],
    )
)

# %%
print(f"largest difference after coming back: {jnp.abs(back - x).max():.1e}")

# %% [markdown]
# ## Its log-determinant
#
# Every pixel is multiplied by the same $W$, so the Jacobian of an image of $h \times w$ pixels is
# $W$ repeated $h w$ times along the diagonal, and
#
# $$\log |\det J| = h \, w \, \log |\det W|.$$
#
# On an image of 4 x 4 pixels with 3 channels we can afford the whole matrix, 48 x 48:

# %%
small = x[:, :4, :4]
params = {"kernel": jax.random.normal(key, (3, 3))}
z, logdet = conv.forward(params, small)
jacobian = jax.jacfwd(lambda v: conv.forward(params, v[None])[0].ravel())(small[0]).reshape(48, 48)
print(
    f"the library {logdet[0]:.4f}, the whole Jacobian {jnp.linalg.slogdet(jacobian)[1]:.4f}, ", end=""
)
print(f"h w log|det W| {4 * 4 * jnp.linalg.slogdet(params['kernel'])[1]:.4f}")
Image.fromarray(
    plots.image_strip(
        np.asarray(np.where(jacobian[None, None, ..., None] == 0, 255, 40), np.uint8),
        column_labels=["where the Jacobian is not 0"],
        tile=192,
    )
)

# %% [markdown]
# ## PLU
#
# The determinant of a $c \times c$ matrix costs $c^3$ operations. Written as $W = P L (U +
# \mathrm{diag}(s))$, with $P$ a fixed permutation, $L$ lower triangular with ones on its diagonal
# and $U$ strictly upper triangular, it is a sum: $\log |\det W| = \sum \log |s|$. And $W$ can
# never become singular.

# %%
plu = fg.invertible_conv(parametrization="plu")
params = plu.init(key, jnp.zeros((1, 4, 4, 6)))
lu, permutation = params["lu"], params["permutation"]
log_s = jnp.diag(lu)
lower = jnp.tril(lu, -1) + jnp.eye(6)
upper = jnp.triu(lu, 1) + jnp.diag(params["sign"] * jnp.exp(log_s))
W = (lower @ upper)[permutation]
print(f"W by hand and by the library: {jnp.abs(plu.prepare(params)['kernel'] - W).max():.1e} apart")
print(f"sum of log|s| {log_s.sum():.6f}, log|det W| {jnp.linalg.slogdet(W)[1]:.6f}")

# %% [markdown]
# A rotation has determinant 1, so a new $W$ neither stretches nor shrinks anything.
#
# ## What is learned: colours
#
# Take each pixel of the photograph as a vector of three numbers, and fit a flow that has nothing
# but $W$ between two scalings. Red, green and blue are nearly the same, and all that the flow can
# do is to find mixtures that are not.


# %%
def fit(flow, data, steps, rate):
    params = fg.init(flow, key, data)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(carry, i):
        params, state = carry
        index = jax.random.randint(jax.random.fold_in(key, i), (256,), 0, len(data))
        loss, gradient = jax.value_and_grad(lambda p: -jnp.mean(fg.log_prob(flow, p, data[index])))(
            params
        )
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), loss

    run = jax.jit(
        lambda params: jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))
    )
    (params, _), losses = run(params)
    return params, losses[-100:].mean()


def correlations(v):
    return np.round(np.corrcoef(np.asarray(v).reshape(-1, 3).T), 2)


pixels = x.reshape(-1, 3)
linear = fg.Flow(fg.chain(fg.actnorm(), conv, fg.actnorm()), fg.standard_normal(), (3,))
params, _ = fit(linear, pixels, 1000, 2e-2)
mixed = fg.encode(linear, params, pixels).reshape(x.shape)
print(
    "correlations of red, green and blue",
    correlations(x),
    "and of the mixtures",
    correlations(mixed),
    sep="\n",
)
Image.fromarray(
    plots.image_strip(
        np.stack([channels(x), channels(mixed)]),
        row_labels=["photograph", "W learned"],
        column_labels=["channel 1", "channel 2", "channel 3"],
    )
)

# %% [markdown]
# ## What is learned: which channels belong together
#
# Four numbers, of which the second follows the first and the fourth follows the third. To a
# coupling whose halves are (1, 2) and (3, 4) that is of no use: what belongs together is on the
# same side. Three flows of two couplings each, which differ by what stands before a coupling:

# %%
a, b, *noise = jax.random.normal(key, (4, 8192))
vectors = jnp.stack([a, jnp.sin(2 * a) + 0.1 * noise[0], b, b**2 / 2 + 0.1 * noise[1]], axis=1)


def nats_with(between):
    coupling = fg.affine_coupling(lambda c: MLP(c, width=32), scale="bounded")
    steps = fg.repeat(fg.chain(fg.actnorm(), between, coupling), 2)
    return fit(fg.Flow(steps, fg.standard_normal(), (4,)), vectors, 1000, 1e-2)[1]


entropy = 4 * 0.5 * np.log(2 * np.pi * np.e) + 2 * np.log(0.1)
for name, between in {
    "the halves swapped": fg.swap_halves(),
    "the order reversed": fg.reverse(),
    "a 1x1 convolution ": conv,
}.items():
    print(f"{name}: {nats_with(between):.2f} nats")
print(f"the best there is : {entropy:.2f} nats")

# %% [markdown]
# Where only halves are exchanged, what belongs together stays on one side, and the flow can use
# it by a detour through the other half alone, for which two couplings are few. The learned $W$
# brings it to different sides. On images the same happens to the channels that squeezing makes of
# neighbouring pixels.
