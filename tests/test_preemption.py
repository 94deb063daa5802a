"""SIGTERM to a run: whenever it comes nothing is lost, and the run goes on bit for bit."""

import os
import re
import signal
import subprocess
import sys
import threading
from functools import partial

import jax
import numpy as np
import pytest
from configs import ROOT
from ml_collections import ConfigDict

import flowjax_glow as fg
from experiments.configs import moons_spline
from flowjax_glow import models
from flowjax_glow.nets.mlp import MLP
from flowjax_glow.training import loop
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.experiment import abstract_state
from flowjax_glow.training.metrics import read_metrics
from flowjax_glow.training.preemption import PreemptedError, Preemption


def sigterm():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def handler():
    """Notes each SIGTERM that nobody else took."""
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(True))
    yield came
    signal.signal(signal.SIGTERM, before)


def test_sigterm_is_noted_and_then_others_have_it_again(handler):
    def heeds():
        with Preemption() as preemption:
            assert not preemption.stops()
            for _ in range(2):
                sigterm()
                assert preemption.came
                assert preemption.stops()
            raise PreemptedError

    with pytest.raises(PreemptedError):
        heeds()
    assert not handler
    sigterm()
    assert handler == [True]


def test_sigterm_that_the_block_did_not_heed_is_passed_on(handler):
    with Preemption():
        sigterm()
        assert not handler
    assert handler == [True]


def test_where_no_handler_can_be_set_none_is(handler):
    def block():
        with Preemption() as preemption:
            stopped.append(preemption.stops())

    stopped = []
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert stopped == [False]
    sigterm()
    assert handler == [True]


def coupling(event_shape, *, width):
    net = partial(MLP, width=width, depth=1)
    return fg.Flow(fg.affine_coupling(net), fg.standard_normal(), event_shape)


STEPS = 8  # an evaluation after every third, and after the last


class Runs:
    """Runs of one config in new folders, which share what is compiled."""

    def __init__(self, folder):
        config = moons_spline.get_config("smoke")
        config.model = ConfigDict({"name": "coupling", "width": 4})
        config.data.train_examples = 64
        config.optimizer.schedule = "constant"
        config.eval.batch_size = 4000  # of the 10,000 on valid
        config.train.update(steps=STEPS, eval_every=3, log_every=1, watch=0)
        self.ready = loop.set_up(config, str(folder / "whole"))
        make_driver, drivers = loop.make_driver, []

        def once(*arguments):
            if not drivers:
                drivers.append(make_driver(*arguments))
            return drivers[0]

        self.make_driver = once

    def train(self, workdir):
        workdir.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
            patch.setattr(loop, "make_driver", self.make_driver)
            return loop.train(self.ready._replace(workdir=str(workdir)))

    def saved(self, workdir):
        with Checkpoints(workdir / "checkpoints", create=False) as checkpoints:
            step = checkpoints.latest_step
            assert step is not None
            state = checkpoints.restore(step, abstract_state(self.ready.experiment))
            return state, checkpoints.best_step


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "coupling", coupling)
        yield Runs(tmp_path_factory.mktemp("preemption"))


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory):
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("preemption") / "whole"
    runs.train(folder)
    return folder


def logged(workdir):
    times = ("seconds", "examples_per_second")
    return [{k: v for k, v in r.items() if k not in times} for r in read_metrics(workdir)]


def after(function, number, also=lambda: None):
    """The function, with SIGTERM at the end of its call of this number, counted from 1."""
    calls = []

    def called(*args, **kwargs):
        result = function(*args, **kwargs)
        calls.append(None)
        if len(calls) == number:
            sigterm()
            also()
        return result

    return called


def send(patch, runs, moment):
    """Has SIGTERM sent at a moment; the step that must then be saved, 0 for none."""
    likelihood = loop.likelihood

    def in_evaluation(number):
        """In the evaluation of this number, after the first of its three device calls."""
        evaluations = []

        def run(*args, report, **kwargs):
            evaluations.append(None)

            def told(*progress):
                if len(evaluations) == number:
                    sigterm()
                report(*progress)
                assert len(evaluations) != number, "it went on"

            return likelihood(*args, report=told, **kwargs)

        return run

    driver = runs.make_driver()
    match moment:
        case "initialising":
            patch.setattr(loop, "initial_state", after(loop.initial_state, 1))
            return 0
        case "the first compilation":  # no earlier than it ends can Python do anything
            patch.setattr(runs, "make_driver", lambda *_: driver._replace(steps=after(driver.steps, 1)))
            return 1
        case "training":
            patch.setattr(runs, "make_driver", lambda *_: driver._replace(steps=after(driver.steps, 5)))
            return 5
        case "twice":
            close = Checkpoints.close
            patch.setattr(runs, "make_driver", lambda *_: driver._replace(steps=after(driver.steps, 5)))
            patch.setattr(Checkpoints, "close", lambda self: (sigterm(), close(self), sigterm()))
            return 5
        case "the first evaluation":
            patch.setattr(loop, "likelihood", in_evaluation(1))
            return 3
        case "the last evaluation":
            patch.setattr(loop, "likelihood", in_evaluation(3))
            return STEPS
        case "a save":
            patch.setattr(Checkpoints, "save", after(Checkpoints.save, 2))
            return 6
        case "the last save":
            patch.setattr(Checkpoints, "save", after(Checkpoints.save, 3))
            return STEPS
    raise AssertionError(moment)


@pytest.mark.parametrize(
    "moment",
    [
        *("initialising", "the first compilation", "training", "twice", "the first evaluation"),
        *("the last evaluation", "a save", "the last save"),
    ],
)
def test_what_was_trained_is_saved_and_the_run_goes_on(moment, runs, whole, tmp_path, handler):
    workdir = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        reached = send(patch, runs, moment)
        what = "which is saved; run again to go on" if reached else "before the first"
        with pytest.raises(PreemptedError, match=f"^stopped at step {reached}, {what}$"):
            runs.train(workdir)
    assert not handler
    if reached:
        assert int(runs.saved(workdir)[0].step) == reached
    runs.train(workdir)
    (state, best), (expected, expected_best) = runs.saved(workdir), runs.saved(whole)
    for name, found in state._replace(key=jax.random.key_data(state.key))._asdict().items():
        wanted = jax.random.key_data(expected.key) if name == "key" else getattr(expected, name)
        jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert best == expected_best
    assert logged(workdir) == logged(whole)
    assert [r["step"] for r in logged(whole) if "valid_nats" in r] == [3, 6, STEPS]


_LOOP = """
import jax, time
jax.distributed.initialize()
from flowjax_glow.training.preemption import Preemption
with Preemption() as preemption:
    calls = 1
    print("ready", flush=True)
    while not preemption.stops():
        assert not preemption.came
        calls += 1
        time.sleep(0.01 * (1 + jax.process_index()))
print("stopped at call", calls, flush=True)
"""


def test_several_processes_stop_at_the_same_call():
    command = [sys.executable, "-m", "experiments.launch.local", "--processes=2", "--", "-c", _LOOP]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert sorted(run.stdout.readline() for _ in range(2)) == ["[0] ready\n", "[1] ready\n"]
        run.send_signal(signal.SIGTERM)
        printed = run.communicate(timeout=60)[0]
    assert run.returncode == 0
    first, second = re.findall(r"stopped at call (\d+)", printed)
    assert first == second
