"""The train state: everything that a run is, so that a run resumed from it goes on bit for bit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from flowjax_glow.base import Params, PRNGKey, merge_trainable, split_trainable


class TrainState(NamedTuple):
    """Everything that a step changes, and the key it draws from.

    step: steps taken, and so the position of the data. bad_steps: those of them that changed nothing
    else, as a number was not finite; bad_in_a_row: the last of them, without one in between that did.
    params: {"flow": those of the flow, "dequantizer": those of its noise}. opt_state, average: of the
    trained leaves alone. average is the exponential moving average of the trained params, with None for
    constants. key is the run's; what a step draws, it draws from fold_in(key, step).
    """

    step: Int[Array, ""]
    bad_steps: Int[Array, ""]
    bad_in_a_row: Int[Array, ""]
    params: Params
    opt_state: optax.OptState
    average: Params
    key: PRNGKey


def init_state(params: Params, optimizer: optax.GradientTransformation, key: PRNGKey) -> TrainState:
    """The state before the first step; the average starts at the params."""
    trained, _ = split_trainable(params)
    average = jax.tree.map(jnp.copy, trained)
    none = jnp.zeros((), jnp.int32)
    return TrainState(none, none, none, params, optimizer.init(trained), average, key)


def averaged_params(state: TrainState) -> Params:
    """The averaged params, complete with the constants."""
    return merge_trainable(state.average, split_trainable(state.params)[1])
