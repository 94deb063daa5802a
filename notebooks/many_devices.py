# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Training on several devices
#
# All devices make one mesh. A batch is split over them, params are on all of them, and JAX puts
# the messages in between: the gradient of the mean is the mean of the devices' gradients. What
# comes out is what one device would have computed. This machine may have one CPU; for the
# notebook it pretends to be four devices.

# %%
import importlib.util

if importlib.util.find_spec("flowjax_glow") is None:  # in Colab, say
    import IPython

    IPython.get_ipython().run_line_magic("pip", "install --quiet flowjax-glow")

# %%
import jax

jax.config.update("jax_num_cpu_devices", 4)  # before any device is used

import jax.numpy as jnp
import numpy as np
import optax

import flowjax_glow as fg
from flowjax_glow import data, sharding

mesh = sharding.make_mesh()
print(len(jax.devices()), "devices:", dict(mesh.shape))

# %% [markdown]
# ## A batch, split
#
# Each device holds a quarter of the rows of an array. The numbers are those of the devices:

# %%
images = data.load("digits", "train").images
key = jax.random.key(0)
x = np.asarray(fg.dequantize(key, jnp.asarray(images[:1024]), n_bins=17))
batch = sharding.shard_batch(x, mesh)
for shard in batch.addressable_shards:
    rows = shard.index[0]
    print(f"device {shard.device.id} holds rows {rows.start} to {rows.stop - 1}, {shard.data.shape}")

# %% [markdown]
# ## The same step, on one device and on four
#
# The training step is written once. Where its arguments lie decides where it runs: jit sees a
# split batch and computes each device's share there.

# %%
flow = fg.glow((8, 8, 1), levels=1, depth=4, width=32)
optimizer = optax.adam(1e-3)


@jax.jit
def step(params, state, batch):
    def loss(params):
        log_prob = fg.log_prob(flow, params, batch)
        return jnp.mean(fg.bits_per_dim(log_prob, flow.event_shape, n_bins=17))

    bits, gradient = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, bits


def train(place_batch, place_state, steps=15, size=256):
    params = place_state(fg.init(flow, key, x))
    state = place_state(jax.jit(optimizer.init)(params))
    bits = []
    for i in range(steps):
        start = i * size % len(x)
        params, state, loss = step(params, state, place_batch(x[start : start + size]))
        bits.append(float(loss))
    return params, bits


on_one, bits_one = train(jnp.asarray, lambda state: state)
on_four, bits_four = train(
    lambda part: sharding.shard_batch(part, mesh), lambda state: sharding.replicate(state, mesh)
)
for i in (0, 4, 9, 14):
    print(f"step {i:2d}: {bits_one[i]:.6f} bits/dim on one device, {bits_four[i]:.6f} on four")
apart = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), on_one, on_four)
print(f"params after {len(bits_one)} steps: at most {max(jax.tree.leaves(apart)):.1e} apart")

# %% [markdown]
# What is left is rounding: sums are taken in another order.
#
# ## A state that one device cannot hold
#
# A second axis of the mesh, `fsdp`, splits the larger arrays of the state too. Here two devices
# share a copy.

# %%
split_mesh = sharding.make_mesh(fsdp=2)
split = sharding.put_state(on_one, split_mesh)


def bytes_on_first(tree):
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


print(f"whole {bytes_on_first(on_four):,} bytes a device, split {bytes_on_first(split):,}")

# %% [markdown]
# ## In an experiment
#
# All of this is in the training loop already. `python -m experiments.train` uses every device
# there is, and these flags say how:
#
#     --config.parallel.fsdp=4          the state is split over 4 devices
#     --config.parallel.driver=pmap     or jit; by default shard_map
#     --config.train.accumulate=4       a batch in four parts, where it does not fit
#
# A run may go on with another number of devices than it was begun on. `experiments/launch/`
# starts it on many hosts.
