# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Couplings, and why they alternate
#
# A flow needs maps that are easy to invert and whose Jacobian has a cheap determinant, and yet
# bend space as freely as a neural network. A coupling does it by a trick: it cuts $x$ in two
# halves, leaves the first alone, and moves the second by an amount that any network may compute
# from the first.
#
# - additive (NICE): $z_a = x_a, \quad z_b = x_b + t(x_a)$
# - affine (RealNVP, Glow): $z_a = x_a, \quad z_b = (x_b + t(x_a)) \cdot s(x_a)$
#
# To come back, compute $t$ and $s$ again, from $x_a = z_a$, and undo them. The network is never
# inverted.

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

import flowjax_glow as fg
from flowjax_glow import data
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.report import plots

key = jax.random.key(0)


def net(outputs):
    return MLP(outputs, width=32)


# %% [markdown]
# ## One coupling
#
# Networks start at zero output here, so that a coupling starts as the identity; we add noise to
# see it do something. Vectors have 8 numbers: the first 4 are $x_a$, the last 4 $x_b$.

# %%
x = jax.random.normal(key, (5, 8))


def with_noise(params):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noisy = [p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return structure.unflatten(noisy)


coupling = fg.affine_coupling(net, scale="bounded")
params = with_noise(jax.jit(coupling.init)(key, x))
z, logdet = jax.jit(coupling.forward)(params, x)
back, _ = jax.jit(coupling.inverse)(params, z)
print("moved by   ", np.round(np.asarray(z - x)[0], 2))
print(
    "comes back ", bool(jnp.abs(back - x).max() < 1e-5), " log|det J| ", np.round(np.asarray(logdet), 2)
)

# %% [markdown]
# The first four numbers have not moved. To move them, the next coupling must swap the roles of
# the halves, `flip=True`. How many are needed until everything depends on everything? Look at the
# Jacobians, $\partial z_i / \partial x_j$: output $i$ down, input $j$ to the right, white is 0,
# darker is larger.


# %%
def jacobian(bijector, params):
    return jax.jit(jax.jacfwd(lambda v: bijector.forward(params, v[None])[0][0]))(x[0])


def alternating(kind, count, **options):
    return fg.chain(*(kind(net, flip=i % 2 == 1, **options) for i in range(count)))


def picture(matrix):
    return np.round(255 * (1 - np.minimum(np.abs(matrix) / 2, 1) ** 0.5)).astype(np.uint8)[..., None]


rows, logdets = [], []
for kind, options in ((fg.additive_coupling, {}), (fg.affine_coupling, {"scale": "bounded"})):
    rows.append([])
    for count in (1, 2, 3):
        chain = alternating(kind, count, **options)
        params = with_noise(jax.jit(chain.init)(key, x))
        rows[-1].append(jacobian(chain, params))
        logdets.append(jax.jit(chain.forward)(params, x)[1][0])
jacobians = np.array(rows)
Image.fromarray(
    plots.image_strip(
        picture(jacobians),
        row_labels=["additive", "affine"],
        column_labels=["1 coupling", "2 couplings", "3 couplings"],
        tile=128,
    )
)

# %% [markdown]
# **One coupling** has a triangular Jacobian: zeros above, a diagonal in both corners. The
# determinant of a triangular matrix is the product of its diagonal, whatever stands below, and
# that is the whole trick. It is 1 for the additive coupling, which moves but never stretches, and
# the product of the scales $s$ for the affine one.
#
# **Two couplings**: all outputs have moved, but the lower right corner is still diagonal: an
# entry of the second half does not see its neighbours there. **Three couplings**: nothing is 0
# any more. That is why NICE takes at least three. The logarithms of the determinants have simply
# been added up; check it against the whole matrix:

# %%
for i, matrix in enumerate(jacobians.reshape(6, 8, 8)):
    name = ["additive", "affine  "][i // 3]
    print(f"{i % 3 + 1} {name}: {np.sum(matrix == 0):2d} zeros, log|det| {logdets[i]:7.4f}, ", end="")
    print(f"of the whole matrix {np.linalg.slogdet(matrix)[1]:7.4f}")

# %% [markdown]
# ## What it means for a density
#
# We fit two moons with one, two and four couplings. In the plane each half is one number. One
# coupling must leave the first coordinate as it was, normal, and has no way to say that the moons
# end.

# %%
moons = data.load("moons", "train").examples
moons = jnp.asarray((moons - moons.mean(0)) / moons.std(0))


def fit(flow, steps=1000, batch=256):
    params = fg.init(flow, key, moons)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    def step(carry, i):
        params, state = carry
        index = jax.random.randint(jax.random.fold_in(key, i), (batch,), 0, len(moons))
        loss, gradient = jax.value_and_grad(lambda p: -jnp.mean(fg.log_prob(flow, p, moons[index])))(
            params
        )
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), loss

    run = jax.jit(
        lambda params: jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))
    )
    (params, _), losses = run(params)
    return params, losses[-100:].mean()


clouds = {"data": np.asarray(moons[:3000])}
for name, bijector in {
    "4 additive": alternating(fg.additive_coupling, 4),
    "1 affine": alternating(fg.affine_coupling, 1, scale="bounded"),
    "2 affine": alternating(fg.affine_coupling, 2, scale="bounded"),
    "4 affine": alternating(fg.affine_coupling, 4, scale="bounded"),
}.items():
    flow = fg.Flow(bijector, fg.standard_normal(), (2,))
    params, nats = fit(flow)
    clouds[f"{name}: {nats:.2f} nats"] = np.asarray(fg.sample(flow, params, key, 3000))
picture_of_clouds = Image.fromarray(plots.scatter(clouds, ["x1", "x2"]))
picture_of_clouds.resize((picture_of_clouds.width // 2, picture_of_clouds.height // 2))

# %% [markdown]
# Fewer nats are better. Additive couplings keep every area as it is, so their samples are as
# spread out as the normal they came from; affine ones may squeeze it. Real flows alternate more
# often, and mix what belongs to which half in between: Glow does it with a learned 1x1
# convolution, the next notebook.
