"""Dequantization: noise that makes integer images continuous, learned or not, and the bound it gives.

A density p over x = (images + u) / n_bins - 0.5 and noise u ~ q(u | images) in (0, 1)^D bound the
probability of the images: log P(images) >= E[log (1/K) sum_k p(x_k) / q(u_k | images)] - D log n_bins
for u_1, ..., u_K ~ q, the tighter the larger K. Ho et al. 2019 (Flow++), section 3.1, arXiv:1902.00275;
K > 1: Burda et al. 2016, arXiv:1509.00519. Uniform noise has q = 1; models are trained with K = 1.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flowjax_glow.base import Batch, Bijector, LogDet, Params, PRNGKey
from flowjax_glow.bijectors.logit import logit
from flowjax_glow.combine import invert
from flowjax_glow.flow import Flow, log_prob
from flowjax_glow.likelihood import Pixels, add_noise, as_floating, bits_per_dim, dequantize
from flowjax_glow.priors import standard_normal

# Learned noise is in (MARGIN, 1 - MARGIN): so pixel + noise, with up to 256 levels, never rounds to the
# next level in float32, and the bound stays a bound, of the probability of a bin that is a little
# smaller. What it can cost is -log(1 - 2 MARGIN) nats a dimension, 4.4e-5 bits.
MARGIN = 2.0**-16

Index = Int[Array, " batch"]


class DequantizeFn(Protocol):
    """Draws noise: `(params, key, images, index=None, net_key=None) -> (x, log_q)`.

    Args:
      params: what init returned.
      key: of the noise. images: integers in [0, n_bins), (batch, *event).
      index: a number for each example. The noise of an example depends on the key and its number alone,
        however the batch is sharded or padded; its position in the batch by default.
      net_key: for dropout in the dequantizer's networks. None means none.

    Returns:
      x, (batch, *event), float32 in [-0.5, 0.5), and log q(u | images) of the noise u in it, as a
      density over (0, 1)^D: (batch,), in nats.
    """

    def __call__(
        self,
        params: Params,
        key: PRNGKey,
        images: Pixels | Float[Array, "batch dim"],
        index: Index | None = None,
        net_key: PRNGKey | None = None,
        /,
    ) -> tuple[Float[Array, "batch *event"], LogDet]: ...


class Dequantizer(NamedTuple):
    """Noise for integer images with n_bins levels, as pure functions closed over hyperparameters.

    init(key, images) -> params. sample: see DequantizeFn. A training step descends
    -(log_prob(flow, params, x) - log_q) with (x, log_q) = sample(...), in the params of both.
    n_bins: None where the data are vectors, to which nothing is added.
    """

    init: Callable[[PRNGKey, Pixels], Params]
    sample: DequantizeFn
    n_bins: int | None


def uniform_dequantizer(*, n_bins: int | None = 256) -> Dequantizer:
    """Uniform noise: x is likelihood.dequantize's, log_q is 0, and there are no params.

    n_bins: levels of a pixel; None for vectors, which stay as they are.
    """

    def init(key, images):
        del key, images
        return {}

    def sample(params, key, images, index=None, net_key=None, /):
        del params, net_key
        x = as_floating(key, images, n_bins=n_bins, index=index)
        return x, jnp.zeros((images.shape[0],), x.dtype)

    return Dequantizer(init, sample, n_bins)


def variational_dequantizer(bijector: Bijector, *, n_bins: int = 256) -> Dequantizer:
    """Learned noise: u = sigmoid(g(eps; images)) with eps standard normal.

    log q(u | images) = log N(eps; 0, 1) - logdet of g and of the sigmoid, whose ends are MARGIN away
    from 0 and 1. params: those of g.

    Args:
      bijector: g, on arrays of the images' shape. Its forward goes from eps to the logits of u, because
        a dequantizer draws and never inverts; cond is the images in [-0.5, 0.5], each pixel in the
        middle of its bin. models.flow_plus_plus.dequantization_flow is one.
      n_bins: levels of a pixel, at most 256.

    Raises:
      ValueError: for more than 256 levels.
    """
    if not 1 <= n_bins <= 256:
        raise ValueError(f"n_bins must be between 1 and 256; got {n_bins}")
    sigmoid = invert(logit(margin=0.0, low=MARGIN, high=1.0 - MARGIN))

    def noise(key, images, index):
        index = jnp.arange(images.shape[0]) if index is None else index
        shape = images.shape[1:]
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), shape, jnp.float32))(
            index
        )

    def middle(images):
        return dequantize(None, images, n_bins=n_bins)

    def init(key, images):
        noise_key, init_key = jax.random.split(key)
        return jax.jit(bijector.init)(init_key, noise(noise_key, images, None), middle(images))

    def sample(params, key, images, index=None, net_key=None, /):
        eps = noise(key, images, index)
        logits, logdet = bijector.forward(params, eps, middle(images), net_key)
        u, sigmoid_logdet = sigmoid.forward({}, logits)
        log_q = standard_normal().log_prob(eps) - logdet - sigmoid_logdet
        return add_noise(images, u, n_bins=n_bins), log_q

    return Dequantizer(init, sample, n_bins)


class Bound(NamedTuple):
    """A bound on the likelihood of images, with the number of samples that it was made of.

    Bounds of different K are different metrics: no number without its K.

    log_prob: (images,), log (1/K) sum_k p(x_k) / q(u_k | image), nats. bits_per_dim: (images,), as
    likelihood.bits_per_dim has it; in expectation at least the model's own. samples: K.
    """

    log_prob: Float[Array, " images"]
    bits_per_dim: Float[Array, " images"]
    samples: int

    @property
    def mean(self) -> float:
        """Bits per dimension of the images."""
        return float(np.mean(self.bits_per_dim))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over the images; nan for a single one."""
        bits = np.asarray(self.bits_per_dim)
        return float(bits.std(ddof=1) / math.sqrt(bits.size)) if bits.size > 1 else math.nan

    def __str__(self) -> str:
        return f"{self.mean:.4f} +- {self.standard_error:.4f} bits/dim with K = {self.samples}"


def importance_bound(
    flow: Flow,
    params: Params,
    dequantizer: Dequantizer,
    dequantizer_params: Params,
    images: Pixels,
    key: PRNGKey,
    *,
    samples: int,
    index: Index | None = None,
    cond: Batch | None = None,
) -> Bound:
    """The bound of K = `samples` draws of the noise for each image; K = 1 is the plain one.

    In expectation it rises with K to the log-probability of the image. One draw is in memory at a time.
    The noise of draw k depends on fold_in(key, k) and the image's index; nothing else is random.

    Args:
      images: integers, (batch, *event). index: as in DequantizeFn.
      cond: of the flow.

    Raises:
      ValueError: for no samples, for vectors, or for a flow whose log-determinant is an estimate, which
        the bound does not allow.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1; got {samples}")
    if dequantizer.n_bins is None or flow.bijector.stochastic:
        raise ValueError("an importance bound needs images and an exact log-determinant")
    params = flow.bijector.prepare(params)

    def add(total, k):
        x, log_q = dequantizer.sample(dequantizer_params, jax.random.fold_in(key, k), images, index)
        log_ratio = log_prob(flow, params, x, cond) - log_q
        largest, rest = total
        # The sum is kept relative to the largest term, which at some 10,000 nats would round it away.
        new = jnp.maximum(largest, log_ratio)
        return (new, rest * jnp.exp(largest - new) + jnp.exp(log_ratio - new)), None

    shape = (images.shape[0],)
    start = jnp.full(shape, jnp.finfo(jnp.float32).min), jnp.zeros(shape, jnp.float32)
    (largest, rest), _ = jax.lax.scan(add, start, jnp.arange(samples))
    log_mean = largest + jnp.log(rest / samples)
    bits = bits_per_dim(log_mean, flow.event_shape, n_bins=dequantizer.n_bins)
    return Bound(log_mean, bits, samples)
