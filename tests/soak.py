"""Faults, how often each was tried, and how often what is promised held.

python tests/soak.py [NAME ...]

prints one table, fault, tried, survived, and exits 1 where the two numbers differ anywhere. The suite
tries each fault less often (tests/test_soak.py).
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before jax is imported

import contextlib
import hashlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from flowjax_glow import data
from flowjax_glow.evaluation import round_trip
from flowjax_glow.sharding import AXES, fsdp_shardings, make_mesh, put_state
from flowjax_glow.training import loop
from flowjax_glow.training.checkpoint import UNFINISHED, Checkpoints
from flowjax_glow.training.config import read_config
from flowjax_glow.training.experiment import abstract_state, build, load_split, load_trained
from flowjax_glow.training.manifest import CheckpointError
from flowjax_glow.training.metrics import read_metrics
from flowjax_glow.training.pictures import draw_samples
from flowjax_glow.training.state import init_state

TESTS = Path(__file__).parent
PATIENCE = 240.0  # seconds until something that should happen counts as not survived


class Fault(NamedTuple):
    """`run(count, folder)` tries the fault about `count` times in an empty folder.

    It returns how often it was tried, 0 where that cannot be done here, and how often survived, and
    prints to stderr what was not. full: the count of `python tests/soak.py`. reduced: the suite's.
    """

    run: Callable[[int, Path], tuple[int, int]]
    full: int
    reduced: int


# What they share.


def toy_state(step: int, width: int = 64) -> Any:
    """A state of which every value is drawn anew from the step, and few are zero."""
    shapes = {"kernel": (width, width), "bias": (width,)}
    params = {"flow": {name: jnp.zeros(shape) for name, shape in shapes.items()}, "dequantizer": {}}
    params["flow"]["permutation"] = jnp.zeros(8, jnp.int32)
    state = init_state(params, optax.adam(1e-3), jax.random.key(0))
    rng = np.random.default_rng(step)

    def draw(leaf: jax.Array) -> jax.Array:
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        values = rng.normal(size=leaf.shape) if floating else rng.integers(1, 99, size=leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    state = jax.tree.map(draw, state._replace(key=jnp.zeros(())))
    return state._replace(step=jnp.asarray(step, jnp.int32), key=jax.random.key(step))


def digests(state: Any) -> dict[str, str]:
    """The SHA-256 of each field of a state."""
    fields = state._replace(key=jax.random.key_data(state.key))._asdict()
    found = {}
    for name, tree in fields.items():
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        described = [(leaf.dtype.str, leaf.shape) for leaf in leaves]
        whole = b"".join([repr(described).encode(), *(leaf.tobytes() for leaf in leaves)])
        found[name] = hashlib.sha256(whole).hexdigest()
    return found


def command(function: str, *arguments: object) -> list[str]:
    """The command that runs a function of this file in a process of its own."""
    return [
        sys.executable,
        "-c",
        f"import soak, sys; soak.{function}(*sys.argv[1:])",
        *map(str, arguments),
    ]


def environment(folder: Path, devices: int = 1) -> dict[str, str]:
    """That of such a process; what it compiles is kept in the folder."""
    return {
        **os.environ,
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def run_alone(
    folder: Path, devices: int, function: str, *arguments: object, within: tuple[str, ...] = ()
) -> tuple[int, str]:
    """Its exit code and what it printed; 124 where it did not end. within: what starts the command."""
    try:
        done = subprocess.run(
            [*within, *command(function, *arguments)],
            env=environment(folder, devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        return 124, str(error.stdout)
    return done.returncode, done.stdout


def lost(what: str) -> bool:
    """Says what was not survived."""
    print(f"NOT SURVIVED: {what}", file=sys.stderr, flush=True)
    return False


# Checkpoints on a bad disk.


@contextlib.contextmanager
def damage(path: Path, how: str, rng: np.random.Generator) -> Iterator[None]:
    """Spoils a file of a step's folder, and mends it in the folder that was set aside, or here."""
    before = path.read_bytes()
    match how:
        case "flip":
            spoilt = bytearray(before)
            spoilt[rng.integers(len(spoilt))] ^= 1 << int(rng.integers(8))
            path.write_bytes(spoilt)
        case "delete":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "halve":
            path.write_bytes(before[: len(before) // 2])
    try:
        yield
    finally:
        step = next(p for p in path.parents if p.name.isdecimal())
        now = step if step.exists() else step.with_name(f"{step.name}.damaged")
        (now / path.relative_to(step)).write_bytes(before)


def _damaged(count: int, folder: Path, *, hows: list[str], only_arrays: bool) -> tuple[int, int]:
    with Checkpoints(folder) as checkpoints:
        for step in (10, 20):
            checkpoints.save(toy_state(step), None)
    files = sorted(path for path in (folder / "20").rglob("*") if path.is_file())
    files = [p for p in files if p.name not in ("_CHECKPOINT_METADATA", "commit_success.txt")]
    if only_arrays:
        files = [path for path in files if path.parent.name == "d"]
    good, rng, survived = digests(toy_state(10)), np.random.default_rng(0), 0
    for i in range(count):
        path, how = files[rng.integers(len(files))], hows[i % len(hows)]
        with damage(path, how, rng):
            named = "nothing"
            with Checkpoints(folder, create=False) as checkpoints:
                try:
                    checkpoints.restore(20, toy_state(20))
                except CheckpointError as error:
                    named = str(error)
            with contextlib.redirect_stderr(io.StringIO()), Checkpoints(folder) as checkpoints:
                step = checkpoints.latest_step
                back = digests(checkpoints.restore(step, toy_state(10))) if step == 10 else {}
        if (folder / "20.damaged").exists():
            (folder / "20.damaged").rename(folder / "20")
        is_good = str(path) in named and back == good
        survived += is_good or lost(f"{how} of {path.relative_to(folder)}: {named}; then step {step}")
    return count, survived


_flipped = partial(_damaged, hows=["flip"], only_arrays=True)
_cut = partial(_damaged, hows=["delete", "empty", "halve"], only_arrays=False)


# A process killed.


def train_and_say(workdir: str) -> None:
    """Trains until it is killed, and says "saved" of each step that is on the disk."""
    wait = Checkpoints.wait

    def say(checkpoints: Checkpoints) -> None:
        wait(checkpoints)
        if checkpoints.latest_step is not None:
            print("saved", checkpoints.latest_step, flush=True)

    ready = loop.set_up(_config(workdir, steps=10**6, eval_every=2, log_every=10**6), workdir)
    with mock.patch.object(Checkpoints, "wait", say):
        loop.train(ready)


def _config(workdir: str, **train: Any) -> Any:
    from configs import tiny

    return tiny(Path(workdir).parent / "data", **train)


def _killed(count: int, folder: Path) -> tuple[int, int]:
    workdir, rng = folder / "run", np.random.default_rng(0)
    checkpoints, said, survived, in_the_middle = workdir / "checkpoints", 0, 0, 0
    for life in range(count + 1):
        with subprocess.Popen(
            command("train_and_say", workdir),
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            watch = Watch(process)
            begun = watch.line(r"(?:goes on from|starts at) step (\d+):")
            stale = list(checkpoints.glob(f"*{UNFINISHED}*/stale"))
            if life > 0:
                is_good = begun is not None and begun >= said and not stale
                what = f"said {said}, went on from {begun}, {stale} there:\n{watch.printed()}"
                survived += is_good or lost(what)
            if begun is None:
                break
            watch.line(r"saved (\d+)")
            time.sleep(rng.uniform(0.0, 1.0))
            process.kill()
        said = max(map(int, re.findall(r"saved (\d+)\n", watch.printed())), default=said)
        for unfinished in checkpoints.glob(f"*{UNFINISHED}*"):
            (unfinished / "stale").write_text("")
            in_the_middle += 1
    print(f"{in_the_middle} of {count + 1} kills were in the middle of a save", file=sys.stderr)
    return count, survived


class Watch:
    """What a process prints, while it prints; it is killed where a line does not come."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process
        self._lines: list[str] = []

    def line(self, pattern: str, patience: float = PATIENCE) -> int | None:
        """The number in the next line that matches; None where the process ends without one."""
        assert self._process.stdout is not None
        alarm = signal.signal(signal.SIGALRM, lambda *_: self._process.kill())
        signal.setitimer(signal.ITIMER_REAL, patience)
        try:
            for line in self._process.stdout:
                self._lines.append(line)
                if match := re.search(pattern, line):
                    return int(match[1])
            return None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)

    def printed(self) -> str:
        """All of it; waits for the end of a process that was killed."""
        assert self._process.stdout is not None
        if self._process.poll() is not None and not self._process.stdout.closed:
            self._lines += self._process.stdout
        return "".join(self._lines)


# A machine that is wanted back.


def _preempted(count: int, folder: Path) -> tuple[int, int]:
    """SIGTERM at some moment of the first compilation, training, evaluations and saves; or two."""
    workdir, rng, said, survived = folder / "run", np.random.default_rng(0), 0, 0
    train = [sys.executable, "-m", "experiments.train", f"--workdir={workdir}"]
    train += ["--config=experiments/configs/glow_digits.py:smoke", f"--config.data.data_dir={folder}"]
    train += ["--config.model.levels=1", "--config.model.depth=1", "--config.model.width=4"]
    train += ["--config.train.steps=1000000", "--config.optimizer.schedule=constant"]
    for life in range(count):
        with subprocess.Popen(
            train,
            cwd=TESTS.parent,
            # So that each life has a compilation for SIGTERM to come in.
            env={**environment(folder), "JAX_ENABLE_COMPILATION_CACHE": "false"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            watch = Watch(process)
            begun = watch.line(r"(?:goes on from|starts at) step (\d+):")
            time.sleep(rng.uniform(0.0, 8.0))
            process.terminate()
            asked = time.monotonic()
            if life % 2:
                time.sleep(rng.uniform(0.0, 0.5))
                process.terminate()
            reached = watch.line(r"error: stopped at step (\d+), ")
            code = process.wait(PATIENCE)
            seconds = time.monotonic() - asked
        logged = max((record["step"] for record in read_metrics(workdir)), default=0)
        with Checkpoints(workdir / "checkpoints", create=False) as checkpoints:
            saved = checkpoints.latest_step or 0
        # The second may come when all is done and the line not yet printed.
        is_good = (code, begun) == (143, said) and reached in (saved, None) and seconds < 30
        what = f"exit code {code} after {seconds:.1f} s, said {reached}, saved {saved}, logged {logged}"
        is_good = is_good and logged <= saved
        survived += is_good or lost(f"{what}, begun at {begun} of {said}:\n{watch.printed()}")
        said = saved
    return count, survived


# A run in two processes.


def train_straight_and_half(straight: str, half: str, steps: str) -> None:
    """Trains all steps in one folder, prints the digests, and dies half way in another."""
    _train_to(straight, int(steps))
    save = Checkpoints.save

    def save_and_die(checkpoints: Checkpoints, state: Any, valid: float | None) -> None:
        save(checkpoints, state, valid)
        checkpoints.wait()
        os._exit(0)

    with mock.patch.object(Checkpoints, "save", save_and_die):
        _train_to(half, int(steps))
    raise AssertionError("nothing was saved")


def train_on(workdir: str, steps: str) -> None:
    """Goes on to the last step, and prints the digests."""
    _train_to(workdir, int(steps))


def _train_to(workdir: str, steps: int) -> None:
    config = _config(workdir, steps=steps, eval_every=steps // 2, batch_size=16)
    loop.train(loop.set_up(config, workdir))
    experiment = build(config)
    with Checkpoints(Path(workdir) / "checkpoints", create=False) as checkpoints:
        assert checkpoints.latest_step == steps
        state = checkpoints.restore(steps, abstract_state(experiment))
    split, ids = load_split(experiment, "train", training=True), hashlib.sha256()
    for step in range(int(state.step), int(state.step) + 100):
        ids.update(data.batch_at(split, step, batch_size=16, seed=config.seed)["index"].tobytes())
    print("digests", json.dumps({**digests(state), "ids": ids.hexdigest()}), flush=True)


def _halved(count: int, folder: Path) -> tuple[int, int]:
    survived, steps = 0, 8
    for devices in (8, 1)[:count]:
        straight, half = (folder / f"{name}{devices}" for name in ("straight", "half"))
        first = run_alone(folder, devices, "train_straight_and_half", straight, half, steps)
        second = run_alone(folder, devices, "train_on", half, steps)
        printed = first[1] + second[1]
        found = re.findall(r"^digests (.*)$", printed, re.MULTILINE)
        same = len(found) == 2 and json.loads(found[0]) == json.loads(found[1])
        is_good = same and f"goes on from step {steps // 2}:" in second[1]
        survived += is_good or lost(f"{steps} steps in two halves on {devices} devices:\n{printed}")
    return min(count, 2), survived


# Other devices.


def save_split(folder: str) -> None:
    """Saves a state whose arrays are split over all devices."""
    state = put_state(toy_state(8), make_mesh(jax.device_count()))
    assert len(state.params["flow"]["kernel"].sharding.device_set) == jax.device_count() == 8
    assert not state.params["flow"]["kernel"].is_fully_replicated
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state, None)


def restore_split(folder: str) -> None:
    """Restores it on all devices, and on half of them, and so on to one."""
    expected, n = digests(toy_state(8)), jax.device_count()
    with Checkpoints(folder, create=False) as checkpoints:
        while n:
            mesh = Mesh(np.array(jax.devices()[:n]).reshape(1, n), AXES)
            back = checkpoints.restore(
                8, toy_state(8), lambda tree, mesh=mesh: fsdp_shardings(tree, mesh)
            )
            kernel = back.params["flow"]["kernel"]
            assert kernel.addressable_shards[0].data.size * n == 64 * 64
            assert digests(back) == expected
            n //= 2


def _other_devices(count: int, folder: Path) -> tuple[int, int]:
    code, printed = run_alone(folder, 8, "save_split", folder / "split")
    if code:
        return count, int(lost(f"saving on 8 devices:\n{printed}"))
    survived = 0
    for devices in (4, 2, 1)[:count]:
        code, printed = run_alone(folder, devices, "restore_split", folder / "split")
        survived += code == 0 or lost(f"8 devices' checkpoint on {devices}:\n{printed}")
    return min(count, 3), survived


# A full disk.


def save_many(folder: str, saves: str) -> None:
    """Saves states of 9 MB each."""
    with Checkpoints(folder) as checkpoints:
        for step in range(1, int(saves) + 1):
            checkpoints.save(toy_state(step, width=760), None)


def fill_disk(folder: str, saves: str) -> None:
    """Saves more than fits on a disk of 24 MiB, and restores what fitted."""
    _mount(folder)
    done = subprocess.run(command("save_many", folder, saves), stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1, done
    assert "3 could not be saved" in done.stderr, done.stderr
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest_step == 2
        for step in (1, 2):
            like = toy_state(step, width=760)
            assert digests(checkpoints.restore(step, like)) == digests(like)
    assert sorted(path.name for path in Path(folder).iterdir()) == ["1", "2"]
    print("survived", flush=True)


def fill_disk_by_training(folder: str) -> None:
    """The same by experiments.train, whose states are of 9 MB too."""
    _mount(folder)
    workdir = Path(folder) / "run"
    flags = {"model.levels": 1, "model.depth": 6, "model.width": 260, "train.eval_every": 1}
    flags |= {"train.watch": 0, "train.steps": 9, "data.data_dir": folder}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.train", f"--workdir={workdir}"),
            "--config=experiments/configs/glow_digits.py:smoke",
            *(f"--config.{name}={value}" for name, value in flags.items()),
        ],
        cwd=TESTS.parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1, done
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(rf"error: {workdir}/checkpoints/\d could not be saved, and", last), done.stderr
    config = read_config(workdir)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        step = checkpoints.latest_step
        assert step is not None
        assert step >= 2
        assert checkpoints.restore(step, abstract_state(build(config))).step == step
    print("survived", flush=True)


def _mount(folder: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)


def _disk_full(count: int, folder: Path) -> tuple[int, int]:
    own_mounts = ("unshare", "--map-root-user", "--mount")
    can_mount = (
        shutil.which("unshare") is not None
        and not subprocess.run(
            [*own_mounts, "mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)],
            capture_output=True,
        ).returncode
    )
    if not can_mount:
        print("no mount of a small disk is allowed here", file=sys.stderr)
        return 0, 0
    survived = 0
    for i in range(count):
        disk = folder / str(i)
        disk.mkdir()
        # The third does not fit. It is the last that a script saves, and fails while that ends; or not.
        ways = [("fill_disk", disk, 3), ("fill_disk", disk, 4), ("fill_disk_by_training", disk)]
        way = ways[i % len(ways)]
        _, printed = run_alone(folder, 1, *way, within=own_mounts)
        survived += "survived" in printed or lost(f"{way}:\n{printed}")
    return count, survived


# Samples that overflow.


def _sampled(count: int, folder: Path) -> tuple[int, int]:
    """Samples at temperature 1.0 of a trained Glow, of which all data must come back too.

    From 1,000 samples on it has 96 steps of flow, and is trained on photographs for 600 steps.
    """
    from experiments.configs import glow_digits, glow_photos

    config = (glow_photos if count >= 1000 else glow_digits).get_config()
    config.data.data_dir = str(folder / "data")
    config.model.levels, config.model.depth, config.model.width = 3, 32 if count >= 1000 else 2, 16
    config.train.steps = config.train.eval_every = 600 if count >= 1000 else 100
    config.optimizer.warmup_examples = 1_600
    config.eval.weights = "raw"
    config.train.watch = 0
    with jax.numpy_dtype_promotion("standard"):  # of optax
        ready = loop.set_up(config, str(folder / "run"))
        loop.train(ready)
        trained = load_trained(str(folder / "run"))
    experiment, n_bins = trained.experiment, trained.experiment.n_bins
    back = round_trip(
        experiment.flow, trained.params, load_split(experiment, "test"), n_bins=n_bins, mesh=ready.mesh
    )
    if not (back.error <= 1e-3 and back.exact_images == 1.0):
        return count, int(lost(f"the round trip of the test images: {back}"))
    samples = draw_samples(
        experiment, trained.params, jax.random.key(0), count, temperature=1.0, batch_size=125
    )
    survived = int(samples.finite.sum())
    return count, survived if survived == count else survived + lost("samples that overflow")


FAULTS: dict[str, Fault] = {
    "a sample at temperature 1 of a trained Glow": Fault(_sampled, 1000, 100),
    "a bit flipped in a file of arrays": Fault(_flipped, 100, 10),
    "a file deleted, emptied or halved": Fault(_cut, 60, 6),
    "kill -9 while training and saving": Fault(_killed, 25, 1),
    "SIGTERM at any moment, once or twice": Fault(_preempted, 20, 2),
    "N steps as N/2 and N/2 in a new process": Fault(_halved, 2, 1),
    "saved on 8 devices, restored on fewer": Fault(_other_devices, 3, 1),
    "a disk of 24 MiB full": Fault(_disk_full, 6, 1),
}


def main(names: list[str]) -> int:
    """Tries each fault its full number of times and prints the table; 1 where one was not survived."""
    chosen = {name: FAULTS[name] for name in names or FAULTS}
    width = max(map(len, chosen))
    print(f"{'fault':<{width}}  {'tried':>6}  {'survived':>8}", flush=True)
    failed = 0
    for name, fault in chosen.items():
        with tempfile.TemporaryDirectory() as folder:
            tried, survived = fault.run(fault.full, Path(folder))
        failed += tried - survived
        print(f"{name:<{width}}  {tried:>6}  {survived:>8}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
