# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Write a bijector of your own, and know that it is right
#
# A bijector is three pure functions, `init`, `forward` and `inverse`, made by a function that
# closes over its hyperparameters. `forward` goes from data to latents and returns the value
# together with log |det Jacobian|, one number an example, in nats. That is the whole contract:
# whatever keeps it can be chained, repeated with constant memory, trained, and sampled from.
#
# We write the sinh-arcsinh map of Jones & Pewsey (2009), which gives a normal variable skewness
# and tails: z = sinh(tail * arcsinh(x) + skew), for every number alone.

# %%
import importlib.util

if importlib.util.find_spec("flowjax_glow") is None:  # in Colab, say
    import IPython

    IPython.get_ipython().run_line_magic("pip", "install --quiet flowjax-glow")

# %%
import jax
import jax.numpy as jnp
import optax

import flowjax_glow as fg
from flowjax_glow.testing import check_bijector

key = jax.random.key(0)


# %% [markdown]
# `init` is given a real batch, for its shape and, where wanted, its statistics. Parameters are a
# plain pytree; whatever is floating in it is trained. The tail's weight must be positive, so we
# keep its log.


# %%
def sinh_arcsinh():
    def init(key, x, cond=None):
        del key, cond
        dim = x.shape[-1]
        return {"skew": jnp.zeros((dim,), x.dtype), "log_tail": jnp.zeros((dim,), x.dtype)}

    def forward(params, x, cond=None, key=None):
        del cond, key
        skew, tail = params["skew"][None], jnp.exp(params["log_tail"])[None]
        inside = tail * jnp.arcsinh(x) + skew
        return jnp.sinh(inside), jnp.sum(jnp.log(tail) + jnp.log(jnp.cosh(inside)), axis=-1)

    def inverse(params, z, cond=None, key=None):
        del cond, key
        skew, tail = params["skew"][None], jnp.exp(params["log_tail"])[None]
        inside = jnp.arcsinh(z)
        x = jnp.sinh((inside - skew) / tail)
        return x, -jnp.sum(jnp.log(tail) + jnp.log(jnp.cosh(inside)), axis=-1)

    return fg.Bijector(init, forward, inverse)


# %% [markdown]
# Round trips work. Is it right, then?

# %%
x = jax.random.normal(key, (3, 4))
bijector = sinh_arcsinh()
params = bijector.init(key, x)
z, logdet = bijector.forward(params, x)
print("round trip", jnp.abs(bijector.inverse(params, z)[0] - x).max(), "logdet", logdet)

# %% [markdown]
# It is not. `check_bijector` differentiates both directions in double precision and compares,
# with noise on the parameters, because an initialisation near the identity hides mistakes:

# %%
try:
    check_bijector(bijector, x)
except AssertionError as mistake:
    print(mistake)

# %% [markdown]
# The derivative of arcsinh(x), 1 / sqrt(1 + x^2), was forgotten, in both directions alike, so
# that they agreed with each other. A model with this mistake trains, and reports likelihoods that
# are wrong.


# %%
def sinh_arcsinh_right():
    wrong = sinh_arcsinh()

    def missing(x):
        return -0.5 * jnp.sum(jnp.log1p(x**2), axis=-1)

    def forward(params, x, cond=None, key=None):
        z, logdet = wrong.forward(params, x, cond, key)
        return z, logdet + missing(x)

    def inverse(params, z, cond=None, key=None):
        x, logdet = wrong.inverse(params, z, cond, key)
        return x, logdet - missing(x)

    return fg.Bijector(wrong.init, forward, inverse)


report = check_bijector(sinh_arcsinh_right(), x)
print(report)

# %% [markdown]
# Everything it measured is in the report. Now it is a part like any other: twelve steps of it,
# mixed by rotations, are a flow, whose backward pass may rebuild activations instead of keeping
# them.

# %%
step = fg.chain(fg.actnorm(), sinh_arcsinh_right(), fg.invertible_conv())
print(check_bijector(fg.repeat(step, 3, memory="constant"), x, tolerance=1e-8))

flow = fg.Flow(fg.repeat(step, 12, memory="constant"), fg.standard_normal(), (4,))
data = jnp.exp(0.5 * jax.random.normal(key, (4096, 4)))  # skewed
params = fg.init(flow, key, data)


optimizer = optax.adam(1e-2)


@jax.jit
def train_step(params, state):
    nats, gradient = jax.value_and_grad(lambda p: -jnp.mean(fg.log_prob(flow, p, data)))(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, nats


state = optimizer.init(params)
for i in range(401):
    params, state, nats = train_step(params, state)
    if i % 100 == 0:
        print(f"step {i:3d}: {nats:.3f} nats")
print(f"entropy of the data's density: {2 * jnp.log(2 * jnp.pi * jnp.e / 4):.3f} nats")

# %% [markdown]
# Networks come in through `make_net`: `bijectors/coupling.py` makes a coupling of any
# element-wise transform, given as two functions `(h, value) -> (value, log_slope)`, with the hook
# that rebuilds activations included. `ARCHITECTURE.md` says where a new bijector goes and which
# table to add it to.
