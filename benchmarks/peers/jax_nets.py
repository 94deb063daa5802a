"""Conditioners in plain JAX, for the libraries on JAX that bring none of the form."""

import jax
import jax.numpy as jnp


def conv(x, kernel):
    """SAME convolution, NHWC."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def init_conv_net(key, channels: int, out: int, width: int):
    """conv3x3, relu, conv1x1, relu, zero-initialised conv3x3."""
    first, middle = jax.random.split(key)
    zeros = jnp.zeros
    return {
        "first": 0.05 * jax.random.normal(first, (3, 3, channels, width)),
        "middle": 0.05 * jax.random.normal(middle, (width, width)),
        "last": zeros((3, 3, width, out)),
        "biases": (zeros(width), zeros(width), zeros(out)),
    }


def conv_net(params, x):
    """(batch, height, width, channels) -> (batch, height, width, out)."""
    first, middle, last = params["biases"]
    x = jax.nn.relu(conv(x, params["first"]) + first)
    x = jax.nn.relu(x @ params["middle"] + middle)
    return conv(x, params["last"]) + last


def init_mlp(key, inputs: int, out: int, width: int, depth: int):
    """Hidden layers, and a zero-initialised last layer."""
    sizes = [inputs] + [width] * depth
    init = jax.nn.initializers.lecun_normal()
    keys = jax.random.split(key, depth)
    hidden = [
        (init(k, (a, b)), jnp.zeros(b)) for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    return [*hidden, (jnp.zeros((width, out)), jnp.zeros(out))]


def mlp(params, x):
    """(batch, inputs) -> (batch, out)."""
    *hidden, (kernel, bias) = params
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    return x @ kernel + bias


def positive(h):
    """A scale that is 1 at 0 and grows linearly; exp is unstable on moons."""
    return jax.nn.softplus(h + jnp.log(jnp.expm1(1.0))) + 1e-3


def squeeze(x):
    """(batch, h, w, c) -> (batch, h/2, w/2, 4c)."""
    b, h, w, c = x.shape
    return (
        x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(b, h // 2, w // 2, -1)
    )


def unsqueeze(x):
    """The inverse of squeeze."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, -1)


def standard_normal_log_prob(z):
    """(batch,), nats, summed over the event."""
    return jnp.sum(jax.scipy.stats.norm.logpdf(z), axis=tuple(range(1, z.ndim)))


def multiscale(step, init_step, levels: int, depth: int, size: int):
    """(init, log_prob, draw) of a Glow whose steps are a library's bijectors on (batch, h, w, c).

    step: params -> (forward_and_log_det, inverse). init_step: (key, channels) -> params. Squeezes,
    splits and standard normal priors are written out here.
    """
    channels = [3 * 2 ** (level + 2) for level in range(levels)]

    def init(key):
        keys = jax.random.split(key, levels * depth).reshape(levels, depth)
        return [[init_step(k, c) for k in row] for row, c in zip(keys, channels, strict=True)]

    def log_prob(params, x):
        total = 0.0
        for level, steps in enumerate(params):
            x = squeeze(x)
            for p in steps:
                x, logdet = step(p)[0](x)
                total = total + logdet
            if level < levels - 1:
                x, leaves = jnp.split(x, 2, axis=-1)
                total = total + standard_normal_log_prob(leaves)
        return total + standard_normal_log_prob(x)

    def draw(params, key, num):
        x = None
        for level in reversed(range(levels)):
            shape = (num, size // 2 ** (level + 1), size // 2 ** (level + 1), channels[level])
            leaves = jax.random.normal(
                jax.random.fold_in(key, level),
                shape if x is None else (*shape[:-1], channels[level] // 2),
            )
            x = leaves if x is None else jnp.concatenate([x, leaves], axis=-1)
            for p in reversed(params[level]):
                x = step(p)[1](x)
            x = unsqueeze(x)
        return x

    return init, log_prob, draw
