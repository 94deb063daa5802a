# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Change of variables, from scratch
#
# A flow is an invertible map $x = G(z)$. We draw $z$ from a density that we know, the standard
# normal, and ask: how dense are the $x$? Everything else in this library is built on the answer,
#
# $$\log p(x) = \log p(z) + \log |\det J|, \qquad z = G^{-1}(x), \quad J = \partial z / \partial x.$$

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
from flowjax_glow.report import plots

key = jax.random.key(0)

# %% [markdown]
# ## On the line: an interval that stretches
#
# Take $x = G(z) = z + 0.35 \sin 2z$. Its slope is between 0.3 and 1.7, so it always climbs and
# has an inverse. The points of a short interval $[z, z + dz]$ all land in $[x, x + dx]$ with $dx
# = G'(z)\,dz$, and there are as many of them after as before: $p(x)\,dx = p(z)\,dz$. Where $G$
# stretches, the density falls; where it squeezes, the density rises:
#
# $$p(x) = p(z) \Big/ \frac{dx}{dz} = p(z) \, \frac{dz}{dx}.$$


# %%
def g(z):
    return z + 0.35 * jnp.sin(2 * z)


def normal(z):
    return jnp.exp(-(z**2) / 2) / jnp.sqrt(2 * jnp.pi)


z = jnp.linspace(-4, 4, 801)
slope = jax.jit(jax.vmap(jax.grad(g)))(z)
x, density = g(z), normal(z) / slope

samples = g(jax.random.normal(key, (200_000,)))
counts, edges = np.histogram(samples, bins=100, range=(-4, 4), density=True)
counted = counts[np.clip(np.digitize(x, edges) - 1, 0, len(counts) - 1)]

Image.fromarray(
    plots.density_curves(
        np.asarray(x),
        {
            "p(z) at z = x": np.asarray(normal(x)),
            "p(x) by the formula": np.asarray(density),
            "200,000 samples, counted": counted,
        },
        "x",
    )
)

# %% [markdown]
# Two modes out of one, and the area under the curve is still 1. It must be: no point was lost.

# %%
print(f"area under p(x): {jnp.trapezoid(density, x):.5f}")

# %% [markdown]
# ## In the plane: an area that stretches
#
# A linear map $x = A z$ takes the unit square to a parallelogram whose sides are the columns of
# $A$. Its area is $|\det A|$. Here is the grid, with a thousand points in the square; they keep
# their number while their area grows, so they lie less densely.

# %%
A = np.array([[1.5, 0.8], [-0.3, 1.1]], np.float32)
grid = plots.grid_lines(2.0)
square = np.asarray(jax.random.uniform(key, (1000, 2)))
Image.fromarray(
    plots.warped_grid({"z": grid, "x = A z": grid @ A.T}, clouds=[square, square @ A.T], reach=4.7)
)


# %%
def area(corners):
    """Of a polygon, by the shoelace formula."""
    (x1, x2), (y1, y2) = corners.T, np.roll(corners, -1, axis=0).T
    return abs(np.sum(x1 * y2 - x2 * y1)) / 2


corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
print(f"area {area(corners @ A.T):.4f}, |det A| {abs(np.linalg.det(A)):.4f}")

# %% [markdown]
# A curved map is linear when looked at closely enough. The matrix of that linear map at $z$ is
# the Jacobian, $\partial x_i / \partial z_j$; `jax.jacfwd` computes it. We bend the plane into a
# banana that is thin on the left and wide on the right, $G(z_1, z_2) = (z_1,\; e^{z_1/2} z_2 +
# z_1^2/2)$.


# %%
def banana(z):
    return jnp.stack([z[0], jnp.exp(z[0] / 2) * z[1] + z[0] ** 2 / 2])


bend = jax.jit(jax.vmap(banana))
points = jax.random.normal(key, (2000, 2))
bent_grid = np.asarray(bend(grid.reshape(-1, 2))).reshape(grid.shape)
Image.fromarray(
    plots.warped_grid(
        {"z": grid, "x = G(z)": bent_grid},
        clouds=[np.asarray(points), np.asarray(bend(points))],
        reach=5,
    )
)

# %% [markdown]
# Tiny squares at five places, and how much larger each becomes:

# %%
side = 1e-2
print("   z1     z2   area after / before   |det dx/dz|")
for place in np.array([[-2, 0], [-1, 1], [0, 0], [1, -1], [2, 0]], np.float32):
    after = np.asarray(bend(place + side * (corners - 0.5)))
    determinant = jnp.linalg.det(jax.jacfwd(banana)(place))
    ratio = area(after.astype(np.float64)) / side**2
    print(f"{place[0]:5.1f}  {place[1]:5.1f}   {ratio:19.3f}   {abs(determinant):11.3f}")

# %% [markdown]
# ## The density
#
# The same mass on a larger area: $p(x) = p(z) / |\det \partial x / \partial z|$. The determinant
# of the inverse map is one over that of the map, so we may as well go from $x$ to $z$ and write
# $p(x) = p(z)\, |\det J|$ with $J = \partial z / \partial x$. A flow is trained in this
# direction: it is given $x$, computes $z$ and $\log |\det J|$, and never has to invert anything.


# %%
def unbend(x):
    return jnp.stack([x[0], (x[1] - x[0] ** 2 / 2) * jnp.exp(-x[0] / 2)])


def log_density(x):
    z = unbend(x)
    _, logdet = jnp.linalg.slogdet(jax.jacfwd(unbend)(x))
    return jnp.sum(jnp.log(normal(z))) + logdet


log_densities = jax.jit(jax.vmap(log_density))


def density_at(points):
    return np.asarray(jnp.exp(log_densities(jnp.asarray(points, jnp.float32))))


x = np.asarray(bend(points))
Image.fromarray(
    np.hstack(
        [
            plots.scatter({"2,000 samples of x": x}, ["x1", "x2"]),
            plots.heat_map(density_at, x, "p(x) by the formula", ["x1", "x2"], cells=150),
        ]
    )
).resize((800, 400))

# %%
axis = np.linspace(-12, 28, 1601)
cells = np.stack(np.meshgrid(axis[640:321:-1], axis), -1).reshape(-1, 2)  # x1 from -4 to 4
print(f"integral of p(x): {density_at(cells).sum() * (axis[1] - axis[0]) ** 2:.4f}")

# %% [markdown]
# ## Why the logarithm
#
# A flow is many maps one after the other. Their Jacobians multiply, so the logarithms of the
# determinants add up. And the product itself does not fit into a float: shrink each of the 3,072
# numbers of a small colour image by a tenth, and the determinant is already too small.

# %%
scales = jnp.full((32 * 32 * 3,), 0.9)
print(f"det {jnp.prod(scales)}, log det {jnp.sum(jnp.log(scales)):.2f}")

# %% [markdown]
# A determinant of 3,072 x 3,072 numbers costs billions of operations, for every image and every
# map. The maps that flows are made of have Jacobians whose determinant is cheap; how, is the
# subject of the next notebook, on couplings. The banana is one already: its Jacobian has a zero
# above the diagonal, so that the determinant is the product of the diagonal.
#
# ## The same with the library
#
# A bijector is three functions. `forward` goes from data to latents and returns $z$ and $\log
# |\det J|$, one number an example; `fg.log_prob` adds them up.


# %%
def init(key, x, cond=None):
    del key, x, cond
    return {}


def forward(params, x, cond=None, key=None):
    del params, cond, key
    return jax.vmap(unbend)(x), -x[:, 0] / 2


def inverse(params, z, cond=None, key=None):
    del params, cond, key
    return bend(z), z[:, 0] / 2


flow = fg.Flow(fg.Bijector(init, forward, inverse), fg.standard_normal(), (2,))
by_library = fg.log_prob(flow, {}, jnp.asarray(x))
by_hand = log_densities(jnp.asarray(x))
print(f"largest difference of log p(x): {jnp.abs(by_library - by_hand).max():.1e}")
