"""A training step's scan over the depth against the same steps unrolled.

A scan compiles in a time that does not grow with the depth. It must not be slower to run: XLA's own
convolution inside a loop on a CPU is 16 to 25 times slower than outside (nets/conv.py). The gradient of
a Glow is timed as repeat gives it, unrolled, and both again with XLA's convolution in place of ours;
rounds alternate between the variants, and medians are printed.

python -m benchmarks.scan_vs_loop [--depth 8 --width 128 --batch 32 --rounds 10 --all]
"""

import argparse
import os
import platform
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp

import flowjax_glow as fg
from flowjax_glow.nets import convnet


def unrolled(block: fg.Bijector, depth: int) -> fg.Bijector:
    """What repeat does, without a scan: the params are stacked, the steps are written out."""
    stacked = fg.repeat(block, depth)

    def forward(params, x, cond=None, key=None):
        logdet = jnp.zeros((x.shape[0],), x.dtype)
        params = stacked.prepare(params)
        for i in range(depth):
            x, ld = block.forward(jax.tree.map(lambda p, i=i: p[i], params), x, cond, key)
            logdet = logdet + ld
        return x, logdet

    return fg.Bijector(stacked.init, forward, stacked.inverse, stacked.prepare)


def xla_conv3x3(x, kernel, ones):
    """XLA's convolution in place of nets.conv.conv3x3."""
    x = jnp.concatenate([x, jnp.ones((*x.shape[:3], 1))], axis=-1)
    kernel = jnp.concatenate([kernel, ones[:, :, None]], axis=2)
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def level(combine, width: int, depth: int) -> fg.Bijector:
    """One level of a Glow: squeeze, then the steps."""
    net = partial(convnet.ConvNet, width=width)
    step = fg.chain(fg.actnorm(), fg.invertible_conv(), fg.affine_coupling(net))
    return fg.chain(fg.squeeze(), combine(step, depth), fg.factor_out(fg.chain()))


def compiled_gradient(combine, convolution, args):
    """(compiled function, its arguments, seconds to compile) for the gradient of a three-level Glow."""
    convnet.conv3x3 = convolution  # looked up when the net is traced, which is in this function
    bijectors = [level(combine, args.width, args.depth) for _ in range(3)]

    def negative_log_prob(params, x):
        total = jnp.zeros(())
        for bijector, p in zip(bijectors, params, strict=True):
            (leaves, x), logdet = bijector.forward(p, x)
            total += jnp.sum(jnp.square(leaves)) - jnp.sum(logdet)
        return total + jnp.sum(jnp.square(x))

    x = jax.random.normal(jax.random.key(0), (args.batch, 32, 32, 3))
    h, params = x, []
    for bijector in bijectors:
        params.append(jax.jit(bijector.init)(jax.random.key(1), h))
        h = jax.jit(bijector.forward)(params[-1], h)[0][1]
    start = time.perf_counter()
    compiled = jax.jit(jax.grad(negative_log_prob)).lower(params, x).compile()
    return compiled, (params, x), time.perf_counter() - start


def main() -> None:
    """Prints a Markdown table: compile seconds, median step milliseconds, ratio to the loop."""
    parser = argparse.ArgumentParser(description="Scan against loop")
    for name, default in (("depth", 8), ("width", 128), ("batch", 32), ("rounds", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--all", action="store_true", help="XLA's convolution too; takes minutes")
    args = parser.parse_args()

    ours = convnet.conv3x3
    variants = {"loop": (unrolled, ours), "scan": (fg.repeat, ours)}
    if args.all:
        variants |= {
            "loop, XLA's convolution": (unrolled, xla_conv3x3),
            "scan, XLA's convolution": (fg.repeat, xla_conv3x3),
        }
    built = {
        name: compiled_gradient(combine, convolution, args)
        for name, (combine, convolution) in variants.items()
    }
    times: dict[str, list[float]] = {name: [] for name in built}
    for _ in range(args.rounds + 1):
        for name, (compiled, arguments, _) in built.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled(*arguments))
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(t[1:]) for name, t in times.items()}

    device = jax.devices()[0].device_kind
    print(f"jax {jax.__version__}, Python {platform.python_version()},")
    size = f"L=3, K={args.depth}, width {args.width}, batch {args.batch}"
    print(f"{device}, {os.cpu_count()} cores; {size}\n")
    print("| variant | compile, s | step, ms | step / loop |\n|---|---|---|---|")
    for name, (_, _, seconds) in built.items():
        ratio = medians[name] / medians["loop"]
        print(f"| {name} | {seconds:.1f} | {medians[name] * 1e3:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
