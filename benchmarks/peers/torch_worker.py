"""What the workers on PyTorch share: settings, the Adam step, sampling, the fit to moons.

A model is an nn.Module with log_prob(x) -> (batch,), nats, and draw(num) -> x.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.peers import data
from benchmarks.peers.protocol import Run, Worker

Module = Callable[[], nn.Module]
Built = tuple[Run, dict[str, Any]]


def relu_conv_net(channels: int, out: int, width: int) -> nn.Sequential:
    """conv3x3, relu, conv1x1, relu, zero-initialised conv3x3."""
    last = nn.Conv2d(width, out, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    first, middle = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, width, 1)
    return nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), last)


def relu_mlp(inputs: int, out: int, width: int, depth: int) -> nn.Sequential:
    """Hidden layers with relu, and a zero-initialised last layer."""
    sizes = [inputs] + [width] * depth
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    layers.append(nn.Linear(sizes[-1], out))
    nn.init.zeros_(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return nn.Sequential(*layers)


def standard_normal_log_prob(z: torch.Tensor) -> torch.Tensor:
    """(batch,), nats, summed over the event."""
    return -0.5 * (z.square() + 1.8378770664093453).flatten(1).sum(1)


def _train(
    model: nn.Module, log_prob, batches, learning_rate: float, threads: int | None = None
) -> Built:
    """A Run of Adam steps over the batches in turn, after its first step."""
    threads = threads or torch.get_num_threads()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    done = 0

    def run(steps: int) -> None:
        nonlocal done
        torch.set_num_threads(threads)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            (-log_prob(batches[done % len(batches)]).mean()).backward()
            optimizer.step()
            done += 1

    run(1)
    return run, {}


def _compiled(fn):
    torch._dynamo.config.recompile_limit = 64  # a model a task, and a seed
    return torch.compile(fn, dynamic=False)


def _no_grad(fn) -> Built:
    def run(steps: int) -> None:
        with torch.no_grad():
            for _ in range(steps):
                fn()

    run(1)
    return run, {}


def glow_worker(
    make: Module, options: dict[str, Any], packages: tuple[str, ...], notes: str = ""
) -> Worker:
    """The tasks train, log_prob, sample and sample1 of an image flow, NCHW."""
    torch.set_num_threads(options["threads"])
    x = (
        torch.from_numpy(data.images(options["batch"], options["size"]))
        .permute(0, 3, 1, 2)
        .contiguous()
    )

    def model(memory_format, *, train):
        torch.manual_seed(0)
        flow = make()
        with torch.no_grad():  # initialises actnorms on the batch
            flow.log_prob(x)
        return flow.to(memory_format=memory_format).train(train)

    formats = {"eager": torch.contiguous_format, "channels_last": torch.channels_last}

    def train(memory_format, compiled):
        flow = model(memory_format, train=True)
        log_prob = _compiled(flow.log_prob) if compiled else flow.log_prob
        batches = [x.to(memory_format=memory_format)]
        return _train(flow, log_prob, batches, options["learning_rate"])

    def log_prob(memory_format, compiled):
        flow = model(memory_format, train=False)
        fn, batch = flow.log_prob, x.to(memory_format=memory_format)
        fn = _compiled(fn) if compiled else fn
        return _no_grad(lambda: fn(batch))

    def draw(num, memory_format, compiled):
        flow = model(memory_format, train=False)
        fn = _compiled(flow.draw) if compiled else flow.draw
        return _no_grad(lambda: fn(num))

    def settings(task, *args):
        plain = {n: (lambda f=f: task(*args, f, False)) for n, f in formats.items()}
        if not options.get("compile", True):
            return plain
        both = {"compiled": lambda: task(*args, torch.contiguous_format, True)}
        return plain | both

    return Worker(
        tasks={
            "train": settings(train),
            "log_prob": settings(log_prob),
            "sample": settings(draw, options["batch"]),
            "sample1": settings(draw, 1),
        },
        calls={"parameters": lambda: sum(p.numel() for p in make().parameters() if p.requires_grad)},
        packages=("torch", "numpy", *packages),
        notes=notes,
    )


def moons_worker(
    make: Module, options: dict[str, Any], packages: tuple[str, ...], notes: str = ""
) -> Worker:
    """The task train of a flow on moons, and the call fit: the held-out NLL after so many steps.

    The tensors are so small that one thread may be faster than all of them: both are tried.
    """
    torch.set_num_threads(options["threads"])

    def batches(seed, steps):
        points = data.moons(steps * options["batch"], seed)
        return torch.from_numpy(points.reshape(steps, options["batch"], 2))

    def start(seed, setting, steps):
        torch.manual_seed(seed)
        flow = make()
        x = batches(seed, steps)
        with torch.no_grad():
            flow.log_prob(x[0])
        threads = 1 if setting.endswith("1 thread") else options["threads"]
        torch.set_num_threads(threads)
        log_prob = _compiled(flow.log_prob) if setting.startswith("compiled") else flow.log_prob
        return flow, _train(flow, log_prob, x, options["learning_rate"], threads)

    def fit(seed, steps, setting):
        flow, (run, _) = start(seed, setting, steps)
        run(steps - 1)
        test = torch.from_numpy(data.moons(options["test"], options["test_seed"]))
        flow.eval()
        with torch.no_grad():
            return float(-flow.log_prob(test).mean())

    kinds = ["eager", "compiled"] if options.get("compile", True) else ["eager"]
    settings = [f"{kind}{threads}" for kind in kinds for threads in ("", ", 1 thread")]
    return Worker(
        tasks={"train": {name: lambda name=name: start(0, name, 200)[1] for name in settings}},
        calls={
            "fit": fit,
            "parameters": lambda: sum(p.numel() for p in make().parameters() if p.requires_grad),
        },
        packages=("torch", "numpy", *packages),
        notes=notes,
    )
