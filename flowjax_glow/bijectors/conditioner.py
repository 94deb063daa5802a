"""How a bijector holds a network: it is given `make_net`, and knows no network by name.

`make_net(out_channels)` returns a flax.linen module that is called as `net(h, cond, deterministic)`,
with h of shape (batch, ..., channels), and returns (batch, ..., out_channels). The module's
parameters live in the bijector's params; its initialisers may look at the batch.
"""

from collections.abc import Callable

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from flowjax_glow.base import Batch, Params, PRNGKey

MakeNet = Callable[[int], nn.Module]


def init_net(net: nn.Module, key: PRNGKey, h: Float[Array, "..."], cond: Batch | None) -> Params:
    """The network's parameters, a plain dict, initialised on the batch h."""
    variables = net.init({"params": key}, h, cond, deterministic=True)
    extra = set(variables) - {"params"}
    if extra:
        raise ValueError(f"a conditioner may hold params only; got collections {sorted(extra)}")
    return variables.get("params", {})


def apply_net(
    net: nn.Module,
    params: Params,
    h: Float[Array, "..."],
    cond: Batch | None,
    key: PRNGKey | None,
) -> Float[Array, "..."]:
    """The network's output for h in h's dtype; dropout is on exactly where there is a key."""
    rngs = {} if key is None else {"dropout": key}
    out = net.apply({"params": params}, h, cond, deterministic=key is None, rngs=rngs)
    return jax.numpy.asarray(out, h.dtype)
