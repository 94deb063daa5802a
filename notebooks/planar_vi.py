# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Variational inference with planar flows
#
# So far there were data and no formula for their density. Here it is the other way round: we know
# a density up to its integral, $p(x) = e^{-U(x)} / Z$, as with a posterior, and have no samples
# of it. We fit a flow $q$ by drawing from $q$ itself and raising
#
# $$\mathrm{ELBO} = \mathbb{E}_q[-U(x) - \log q(x)] = \log Z - \mathrm{KL}(q \,\|\, p) \le \log Z.$$
#
# The flow is planar (Rezende & Mohamed 2015): each layer pushes space away from a line, or
# towards it, $x = z + u \tanh(w^\top z + b)$, and $|\det|$ is $|1 + u^\top w \tanh'|$, a dot
# product.

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
import optax
from PIL import Image

import flowjax_glow as fg
from flowjax_glow.energies import ENERGIES, grid, log_partition_on_grid
from flowjax_glow.layers import layers
from flowjax_glow.report import plots
from flowjax_glow.variational import elbo, fit, log_partition

key = jax.random.key(0)
energy = ENERGIES["U1"]  # two arcs of a ring
log_z = log_partition_on_grid(energy)  # in two dimensions we can afford to know it

# %% [markdown]
# ## Fit
#
# From latents to data each layer is a formula, which is the direction that drawing needs.

# %%
flow = fg.planar_flow((2,), depth=16)
cells, _ = grid(4.0, 100)
steps = 4000
optimizer = optax.chain(
    optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(1e-2, steps))
)
params, bounds = fit(
    flow, fg.init(flow, key, cells), energy, key, steps=steps, optimizer=optimizer, warm_up=steps // 2
)
print(f"{fg.count_parameters(params)} parameters")
for i in (100, 500, 1000, 2000, steps):
    print(f"step {i:4d}: ELBO {bounds[i - 100 : i].mean():.3f} nats")

# %% [markdown]
# ## How good is it?
#
# The gap between the ELBO and log Z is KL(q | p). Importance sampling corrects what is left:
# draws of the flow are weighted with $e^{-U(x)} / q(x)$, and the mean weight is Z.


# %%
@jax.jit
def estimates(params):
    return elbo(flow, params, energy, key, 20_000), log_partition(flow, params, energy, key, 20_000)


bound, partition = estimates(params)
print(f"log Z, by a fine grid     {log_z:.4f}")
print(f"ELBO                      {bound.mean:.4f} +- {bound.standard_error:.4f}")
print(f"log Z, by importance      {partition.log_z:.4f} +- {partition.standard_error:.4f}")
print(f"20,000 draws are worth    {partition.effective_samples:,.0f}")

# %%
log_q = jax.jit(functools.partial(fg.log_prob, flow, params))
corners = np.array([[-3.3, -3.3], [3.3, 3.3]])


def of(log_density):
    return lambda points: np.exp(np.asarray(log_density(jnp.asarray(points, jnp.float32))))


Image.fromarray(
    np.hstack(
        [
            plots.heat_map(of(lambda x: energy(x) - log_z), corners, "target", ["x1", "x2"], cells=150),
            plots.heat_map(of(log_q), corners, "16 planar maps", ["x1", "x2"], cells=150),
        ]
    )
).resize((700, 350))

# %% [markdown]
# ## Layer by layer
#
# Each map acts across one line. The normal distribution on the left is pushed apart, then bent
# into the ring.

# %%
lines = plots.grid_lines(2.5, lines=13, points=61)
points = np.asarray(jax.random.normal(key, (600, 2)))
z = jnp.concatenate([lines.reshape(-1, 2), points]).astype(jnp.float32)
_, stages = layers(flow.bijector, params, z, inverse=True, look=lambda layer: layer.x)
stages = [np.asarray(stage) for stage in (z, *stages)]
shown = {"z": 0, "4 maps": 4, "8": 8, "12": 12, "16 maps: x": 16}
count = lines[..., 0].size
Image.fromarray(
    plots.warped_grid(
        {name: stages[i][:count].reshape(lines.shape) for name, i in shown.items()},
        clouds=[stages[i][count:] for i in shown.values()],
        reach=4.0,
        size=2.0,
    )
)

# %% [markdown]
# The KL from q to p punishes mass where the target has none, and forgives missing a mode. The
# warm-up, which counts the target less at first, lets q spread over both arcs before it settles.
#
# All four energies of the paper: `python -m experiments.energies --out=energies.png`.
