"""How exact a gradient is in each memory mode: float32 against float64, at init and after training.

"constant" rebuilds every activation by inverting, which could lose digits that "stored" keeps. The
gradient of the mean log-likelihood of a batch, by the parameters and by the input, is compared with the
same model's in float64; errors are Euclidean norms, relative to the norm of the float64 gradient. The
images are sums of smooth random waves with noise, made here.

python -m benchmarks.gradients [--depth 32 --width 64 --steps 200]
"""

import argparse
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import flowjax_glow as fg
from benchmarks.harness import alone, footer, machine, table, versions, write
from flowjax_glow.depth import MEMORY


def images(rng: np.random.Generator, num: int) -> np.ndarray:
    """(num, 32, 32, 3) in [-0.5, 0.5], float32."""
    at = np.arange(32) / 32
    waves = rng.normal(size=(num, 3, 3, 4)) / np.arange(1, 4)[:, None, None]
    basis = np.stack([f(np.pi * k * at) for k in (1, 2) for f in (np.cos, np.sin)])
    smooth = np.einsum("nkcb,kbi->nic", waves, np.stack([basis] * 3))
    x = smooth[:, :, None] * 0.1 + np.einsum("nkcb,bi->nic", waves, basis)[:, None] * 0.1
    return np.clip(x + rng.normal(0, 0.02, x.shape), -0.5, 0.5).astype(np.float32)


def loss(flow: fg.Flow, params: fg.Params, x: jax.Array) -> jax.Array:
    """Negative mean log-likelihood in nats a dimension."""
    return -jnp.mean(fg.log_prob(flow, params, x)) / x[0].size


def train(flow: fg.Flow, params: fg.Params, batches: Any) -> fg.Params:
    """The params after one step of Adam on every batch, its rate warmed up over the first half."""
    rate = optax.linear_schedule(0.0, 1e-3, len(batches) // 2)
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate))

    def step(carry, x):
        params, state = carry
        updates, state = optimizer.update(jax.grad(partial(loss, flow))(params, x), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda p, b: jax.lax.scan(step, (p, optimizer.init(p)), b)[0][0])(params, batches)


def errors(flows: dict[str, fg.Flow], params: fg.Params, x: np.ndarray) -> dict[str, tuple[float, ...]]:
    """{memory: (relative error by the parameters, by the input)}."""

    def gradient(memory, dtype):
        with jax.enable_x64(dtype == np.float64):
            args = jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, x))
            run = jax.jit(jax.grad(partial(loss, flows[memory]), argnums=(0, 1)))
            return jax.tree.map(lambda a: np.asarray(a, np.float64), run(*args))

    def norm(tree):
        return float(np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(tree))))

    exact = gradient("stored", np.float64)
    found = {}
    for memory in flows:
        actual = gradient(memory, np.float32)
        parts = zip(actual, exact, strict=True)
        found[memory] = tuple(norm(jax.tree.map(np.subtract, a, e)) / norm(e) for a, e in parts)
    return found


def main() -> None:
    """Writes and prints the table."""
    parser = argparse.ArgumentParser(description="Errors of gradients")
    for name, default in (("depth", 32), ("width", 64), ("batch", 16), ("steps", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    alone()

    flows = {m: fg.glow((32, 32, 3), depth=args.depth, width=args.width, memory=m) for m in MEMORY}
    rng = np.random.default_rng(0)
    x = images(rng, args.batch)
    batches = np.stack([images(rng, args.batch) for _ in range(args.steps)])
    at_init = fg.init(flows["stored"], jax.random.key(0), jnp.asarray(images(rng, 64)))
    trained = train(flows["constant"], at_init, batches)

    results = {"at init": errors(flows, at_init, x), "trained": errors(flows, trained, x)}
    rows = [
        (
            when,
            memory,
            *(f"{e:.1e}" for e in pair),
            *(e / s for e, s in zip(pair, of["stored"], strict=True)),
        )
        for when, of in results.items()
        for memory, pair in of.items()
    ]
    header = "params", "memory", "error, parameters", "error, input", "/ stored", "/ stored"
    size = f"L=3, K={args.depth}, width {args.width}, batch {args.batch}; trained: {args.steps} steps"
    nats = [float(loss(flows["stored"], p, jnp.asarray(x))) for p in (at_init, trained)]
    markdown = f"{table(header, rows)}\n\n{size} of Adam. {footer(versions())}"
    record = {"options": vars(args), "machine": machine(), "versions": versions(), "errors": results}
    write("gradients", record | {"nats_per_dim": nats}, markdown)


if __name__ == "__main__":
    main()
