# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A flow bends its grid, layer by layer
#
# We fit eight couplings to two moons and watch what they do: to the grid of the latent plane, and
# to points drawn from the normal distribution there, on their way to the data.

# %%
import importlib.util

if importlib.util.find_spec("flowjax_glow") is None:  # in Colab, say
    import IPython

    IPython.get_ipython().run_line_magic("pip", "install --quiet flowjax-glow")

# %%
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from IPython.display import Image as Film
from PIL import Image

import flowjax_glow as fg
from flowjax_glow import data
from flowjax_glow.layers import layers
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.report import plots

key = jax.random.key(0)
moons = data.load("moons", "train").examples
moons = jnp.asarray((moons - moons.mean(0)) / moons.std(0))

# %% [markdown]
# ## Training, in seconds
#
# The loss is the mean of -log p(x), in nats; the whole run is one compiled loop. The couplings'
# parts are swapped from one to the next (see the notebook on couplings).


# %%
def coupling(flip):
    return fg.affine_coupling(lambda outputs: MLP(outputs, width=64), scale="bounded", flip=flip)


flow = fg.Flow(fg.repeat(fg.chain(coupling(False), coupling(True)), 4), fg.standard_normal(), (2,))
steps, batch = 2000, 512
optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps))


def step(carry, i):
    params, state = carry
    index = jax.random.randint(jax.random.fold_in(key, i), (batch,), 0, len(moons))
    loss, gradient = jax.value_and_grad(lambda p: -jnp.mean(fg.log_prob(flow, p, moons[index])))(params)
    updates, state = optimizer.update(gradient, state)
    return (optax.apply_updates(params, updates), state), loss


@jax.jit
def train(params):
    return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))


(params, _), losses = train(fg.init(flow, key, moons))
for i in (0, 100, 500, steps - 1):
    print(f"step {i + 1:4d}: {losses[max(0, i - 20) : i + 1].mean():.3f} nats")

# %% [markdown]
# ## What became of the normal distribution

# %%
log_prob = jax.jit(lambda points: fg.log_prob(flow, params, points))


def density(points):
    return np.exp(np.asarray(log_prob(jnp.asarray(points, jnp.float32))))


test = np.asarray(moons[:3000])
samples = np.asarray(fg.sample(flow, params, key, 3000))
Image.fromarray(
    np.hstack(
        [
            plots.scatter({"data": test, "samples": samples}, ["x1", "x2"]),
            plots.heat_map(density, test, "density", ["x1", "x2"], cells=200),
        ]
    )
).resize((900, 300))

# %% [markdown]
# ## Layer by layer
#
# `layers` runs a bijector and keeps what goes in and out of each layer. Couplings move points
# along one axis only, so lines that lie along that axis keep their direction, and the others
# bend.

# %%
grid = plots.grid_lines(2.5, lines=19, points=81)
points = np.asarray(jax.random.normal(key, (800, 2)))
z = jnp.concatenate([grid.reshape(-1, 2), points]).astype(jnp.float32)
_, stages = layers(flow.bijector, params, z, inverse=True, look=lambda layer: layer.x)
stages = [np.asarray(stage) for stage in (z, *stages)]


def apart(stage):
    return stage[: grid[..., 0].size].reshape(grid.shape), stage[grid[..., 0].size :]


shown = {"z": 0, "2 couplings": 2, "4": 4, "6": 6, "8 couplings: x": 8}
Image.fromarray(
    plots.warped_grid(
        {name: apart(stages[i])[0] for name, i in shown.items()},
        clouds=[apart(stages[i])[1] for i in shown.values()],
        reach=3.0,
        size=2.4,
    )
)

# %% [markdown]
# And as a film. Between two layers every point moves straight to where the next layer puts it.

# %%
frames, between = [], 6
for i, (before, after) in enumerate(itertools.pairwise(stages)):
    for share in np.linspace(0, 1, between, endpoint=False):
        eased = share**2 * (3 - 2 * share)
        lines, cloud = apart(before + eased * (after - before))
        name = f"from z to x: coupling {i + 1} of {len(stages) - 1}"
        frames.append(plots.warped_grid({name: lines}, clouds=[cloud], reach=3.0))
lines, cloud = apart(stages[-1])
last = plots.warped_grid({"x": lines}, clouds=[cloud], reach=3.0)
film = plots.gif([frames[0]] * 8 + frames + [last] * 20, milliseconds=70)
print(f"{len(frames) + 1} frames, {len(film) // 1024} KiB")
Film(data=film, format="gif")

# %% [markdown]
# The grid is torn nowhere: a flow is continuous both ways, so two moons out of one cloud must
# stay connected by a thin bridge, where lines lie far apart and the density is low.
