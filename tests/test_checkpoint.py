"""Checkpoints: what was saved comes back bit for bit, or with the name of what is damaged."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from soak import damage, toy_state

from flowjax_glow.training import manifest
from flowjax_glow.training.checkpoint import UNFINISHED, Checkpoints
from flowjax_glow.training.manifest import CheckpointError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with two checkpoints, steps 10 and 20."""
    folder = tmp_path_factory.mktemp("saved")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(toy_state(10), 3.0)
        checkpoints.save(toy_state(20), 2.0)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoints"))


def leaves(state):
    state = state._replace(key=jax.random.key_data(state.key))
    return {jax.tree_util.keystr(p): np.asarray(x) for p, x in jax.tree.leaves_with_path(state)}


def assert_same(a, b):
    a, b = leaves(a), leaves(b)
    assert a.keys() == b.keys()
    for path in a:
        assert a[path].dtype == b[path].dtype, path
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def test_all_of_a_state_comes_back_bit_for_bit(saved):
    with Checkpoints(saved, create=False) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (20, 20)
        for step in (10, 20):
            state = toy_state(step)
            assert all(x.any() for x in leaves(state).values())  # of zeros nothing could be forgotten
            assert_same(checkpoints.restore(step, jax.eval_shape(lambda s: s, state)), state)


def test_the_last_two_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.latest_step is None
        assert checkpoints.best_step is None
        for step, valid in enumerate([3.0, 2.0, 2.5, None, 2.6], start=1):
            checkpoints.save(toy_state(step), valid)
            assert checkpoints.latest_step in (step - 1 or None, step)
            checkpoints.wait()
            assert (checkpoints.latest_step, checkpoints.best_step) == (step, min(step, 2))
        checkpoints.save(toy_state(5), 1.0)  # is there, and is left as it is
    assert steps_in(tmp_path / "new" / "checkpoints") == [2, 4, 5]
    assert len(list((tmp_path / "new" / "checkpoints").iterdir())) == 3
    with Checkpoints(tmp_path / "new" / "checkpoints", create=False) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (5, 2)


def test_what_valid_was_can_be_added_to_a_step_that_is_there(folder):
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(toy_state(30), None)
        checkpoints.save(toy_state(30), 1.0)
        assert (checkpoints.best_step, checkpoints.valid(30)) == (30, 1.0)
    assert steps_in(folder) == [20, 30]
    with Checkpoints(folder) as checkpoints:  # whose manifest is whole
        assert checkpoints.best_step == 30
        assert_same(checkpoints.restore(30, toy_state(30)), toy_state(30))
    assert len(list(folder.iterdir())) == 2


def test_every_file_that_is_flipped_deleted_emptied_or_halved_is_named_and_left_behind(folder, capsys):
    files = sorted(path for path in (folder / "20").rglob("*") if path.is_file())
    names = [str(path.relative_to(folder / "20")) for path in files]
    files = [path for path in files if path.name not in ("_CHECKPOINT_METADATA", "commit_success.txt")]
    assert sum("/d/" in f"/{name}" for name in names) >= 2
    rng = np.random.default_rng(0)
    for path in files:
        for how in ("flip", "delete", "empty", "halve"):
            with damage(path, how, rng):
                checkpoints = Checkpoints(folder, create=False)  # as who evaluates
                with pytest.raises(CheckpointError, match=path.name):
                    checkpoints.restore(20, toy_state(20))
                if path.name == manifest.NAME:
                    with pytest.raises(CheckpointError, match=manifest.NAME):
                        checkpoints.best_step  # noqa: B018
                with Checkpoints(folder) as checkpoints:  # as who trains
                    assert (checkpoints.latest_step, checkpoints.best_step) == (10, 10)
                    assert_same(checkpoints.restore(10, toy_state(10)), toy_state(10))
                warned = capsys.readouterr().err
                assert "step 20 is left out" in warned
                assert str(path) in warned
                (folder / "20.damaged").rename(folder / "20")
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest_step == 20
    assert capsys.readouterr().err == ""


def test_a_mistyped_folder_is_told_and_not_made(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no folder of checkpoints at {tmp_path}/chekpoints"):
        Checkpoints(tmp_path / "chekpoints", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fell_back_saves_the_step_again_and_the_damaged_one_stays_aside(folder):
    for _ in range(2):
        next((folder / "20" / "d").iterdir()).write_bytes(b"")
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.latest_step == 10
            checkpoints.save(toy_state(20), 2.0)
        with Checkpoints(folder) as checkpoints:
            assert_same(checkpoints.restore(20, toy_state(20)), toy_state(20))
        assert sorted(path.name for path in folder.iterdir()) == ["10", "20", "20.damaged"]


def test_where_every_checkpoint_is_damaged_nothing_is_begun_again(folder):
    for step in (10, 20):
        (folder / str(step) / "_METADATA").unlink()
    before = sorted(folder.rglob("*"))
    with pytest.raises(
        CheckpointError, match=r"every checkpoint in .* is damaged.*10/_METADATA.*20/_MET"
    ):
        Checkpoints(folder)
    assert sorted(folder.rglob("*")) == before


def test_what_a_killed_run_left_is_cleared_and_links_among_it_go_nowhere(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("stays")
    (folder / f"30{UNFINISHED}").mkdir()
    (folder / f"30{UNFINISHED}" / "part").write_text("half")
    (folder / f"40{UNFINISHED}").symlink_to(other)
    with Checkpoints(folder, create=False) as checkpoints:  # who evaluates touches nothing
        assert checkpoints.latest_step == 20
    assert (folder / f"30{UNFINISHED}").exists()
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest_step == 20
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20"]
    assert (other / "mine").read_text() == "stays"


def _link_a_file(folder, other):
    path = next((folder / "20" / "d").iterdir())
    path.rename(other / path.name)
    path.symlink_to(other / path.name)
    return path.name


def _link_a_folder(folder, other):
    shutil.move(folder / "20" / "d", other / "d")
    (folder / "20" / "d").symlink_to(other / "d")
    return "20/d must be a plain file or folder"


def _link_the_step(folder, other):
    shutil.move(folder / "20", other / "20")
    (folder / "20").symlink_to(other / "20")
    return "20/manifest.json must be a plain file in a plain folder"


def _a_pipe(folder, other):
    del other
    path = folder / "20" / "_METADATA"
    path.unlink()
    os.mkfifo(path)  # to read it would be to wait for ever
    return "_METADATA must be a plain file"


def _a_pipe_for_a_manifest(folder, other):
    del other
    path = folder / "20" / manifest.NAME
    path.unlink()
    os.mkfifo(path)
    return manifest.NAME


def _one_file_more(folder, other):
    del other
    (folder / "20" / "d" / "another").write_text("")
    return "d/another is not of this checkpoint"


def _a_manifest_that_climbs_out(folder, other):
    (other / "secret").write_text("secret")
    path = folder / "20" / manifest.NAME
    contents = json.loads(path.read_text())["contents"]
    contents["files"]["../../other/secret"] = hashlib.sha256(b"secret").hexdigest()
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({"sha256": digest, "contents": contents}))
    return "other/secret is missing"


@pytest.mark.parametrize(
    "spoil",
    [
        _link_a_file,
        _link_a_folder,
        _link_the_step,
        _a_pipe,
        _a_pipe_for_a_manifest,
        _one_file_more,
        _a_manifest_that_climbs_out,
    ],
)
def test_nothing_outside_a_checkpoint_is_read_nor_waited_for(spoil, folder, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    named = spoil(folder, other)
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=named):
        Checkpoints(folder, create=False).restore(20, toy_state(20))
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest_step == 10
    assert named in capsys.readouterr().err
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_another_config_names_every_array_that_differs(saved):
    state = toy_state(20)
    flow = dict(state.params["flow"])
    wider = flow | {"kernel": jnp.zeros((64, 65)), "more": jnp.zeros(3)}
    half = flow | {"kernel": flow["kernel"].astype(jnp.bfloat16)}
    del wider["bias"]
    with Checkpoints(saved, create=False) as checkpoints:
        with pytest.raises(ValueError, match="must be of this config; 3 differ") as error:
            checkpoints.restore(20, state._replace(params={"flow": wider, "dequantizer": {}}))
        for line in (
            "params/flow/kernel is float32 (64, 64) there, float32 (64, 65) here",
            "params/flow/bias is float32 (64,) there, absent here",
            "params/flow/more is absent there, float32 (3,) here",
        ):
            assert line in str(error.value)
        with pytest.raises(ValueError, match=r"1 differ: params/flow/kernel is float32 .*, bfloat16"):
            checkpoints.restore(20, state._replace(params={"flow": half, "dequantizer": {}}))
        rbg = state._replace(key=jax.random.key(0, impl="rbg"))
        with pytest.raises(ValueError, match=r"1 differ: key is uint32 \(2,\) there, uint32 \(4,\)"):
            checkpoints.restore(20, rbg)
        other = state._replace(opt_state=optax.sgd(0.1).init(state.average))
        with pytest.raises(ValueError, match="opt_state/0/mu/flow/bias is float32"):
            checkpoints.restore(20, other)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_no_checkpoint_holds_a_value_that_is_not_finite(value, tmp_path):
    state = toy_state(20)
    flow = {**state.params["flow"], "bias": state.params["flow"]["bias"].at[3].set(value)}
    average = {**state.average, "flow": {**state.average["flow"], "kernel": jnp.full((64, 64), value)}}
    bad = state._replace(params={"flow": flow, "dequantizer": {}}, average=average)
    named = r"at step 20 .* in average/flow/kernel, params/flow/bias$"
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match=named):
        checkpoints.save(bad, 1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "comes_next",
    [lambda c: c.save(toy_state(3), 1.0), Checkpoints.wait, Checkpoints.close],
    ids=["save", "wait", "close"],
)
def test_a_save_that_fails_later_is_raised_by_what_comes_next(comes_next, tmp_path, monkeypatch):
    """Once; and what was there stays."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(toy_state(1), 1.0)
        checkpoints.wait()
        with monkeypatch.context() as patch:
            patch.setattr(manifest, "write", full)  # the last that is written of a checkpoint
            checkpoints.save(toy_state(2), 1.0)
            with pytest.raises(CheckpointError, match=r"/2 could not be saved.*No space left"):
                comes_next(checkpoints)
        checkpoints.wait()  # has nothing more to raise
        assert checkpoints.latest_step == 1
    assert steps_in(tmp_path) == [1]
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(1, toy_state(1)), toy_state(1))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.slow
def test_to_verify_takes_less_than_a_tenth_of_the_time_to_save(tmp_path):
    def seconds(action):
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    def save(checkpoints, step):
        checkpoints.save(toy_state(step, width=500), None)
        checkpoints.wait()

    with Checkpoints(tmp_path) as checkpoints:
        saves = [seconds(partial(save, checkpoints, step)) for step in range(1, 7)]
    verifications = [seconds(partial(manifest.verify, tmp_path / "6")) for _ in range(6)]
    # Without what is done once, and what another process took.
    assert min(verifications) < 0.1 * min(saves)


@pytest.mark.slow
def test_of_several_processes_all_fall_back_and_all_stop(tmp_path):
    code = f"""
import sys
sys.path += [{str(Path(__file__).parent)!r}]
from soak import *
from flowjax_glow.sharding import join_processes
join_processes()
mesh = make_mesh(2)
with Checkpoints({str(tmp_path)!r}) as checkpoints:
    for step in (1, 2):
        checkpoints.save(put_state(toy_state(step), mesh), None)
if jax.process_index() == 0:
    Path({str(tmp_path)!r}, "2", "_METADATA").write_text("")
with Checkpoints({str(tmp_path)!r}) as checkpoints:
    assert checkpoints.latest_step == 1
    state = checkpoints.restore(1, toy_state(1), lambda tree: fsdp_shardings(tree, mesh))
expected = put_state(toy_state(1), mesh)
for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
    assert (a.addressable_data(0) == b.addressable_data(0)).all()
print("fell back", flush=True)
if jax.process_index() == 0:
    Path({str(tmp_path)!r}, "1", "_METADATA").write_text("")
try:
    Checkpoints({str(tmp_path)!r})
except CheckpointError as error:
    print("stopped:", error, flush=True)
"""
    flags = ["--processes=2", "--devices=1", "--", "-c", code]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.launch.local", *flags],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for process in (0, 1):
        assert f"[{process}] fell back\n" in done.stdout
        assert f"[{process}] stopped: " in done.stdout
    assert f"[0] stopped: every checkpoint in {tmp_path} is damaged" in done.stdout
