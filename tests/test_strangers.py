"""Files of strangers do no harm: what is read does not run, and nothing is unpacked beside its folder.

Config files in Python are the exception, and are meant to run. Checkpoints with links and paths that
lead out of their folder: tests/test_checkpoint.py. Folders of images: tests/test_data_folder.py.
"""

import ast
import importlib.metadata
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image
from test_data_folder import load as load_folder
from test_data_folder import names_in, png_header
from test_data_prepared import load_made

from flowjax_glow.data.preparation import prepare
from flowjax_glow.training import manifest
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.state import init_state

ROOT = Path(__file__).parents[1]
FOLDERS = ("flowjax_glow", "experiments", "benchmarks", "docs", "notebooks", "tests")
SOURCES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))

# What turns the bytes of a file into something that runs.
MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "jsonpickle", "joblib", "marshal"),
    "shelve",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {"read_pickle", "to_pickle", "unsafe_load"}
CALLS = {"torch.load", "torch.save", "yaml.load", "os.system", "os.popen"}
EXTRACTORS = {"extractall", "unpack_archive"}
LISTENERS = {"listen", "serve_forever", "start_server", "start_unix_server", "create_server"}


def dangers(source):
    """What a source has of these, each with its line."""
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Import(names=names):
                yield from ((line, name.name) for name in names if name.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] in MODULES:
                    yield line, module
                yield from ((line, name.name) for name in names if name.name in MODULES | METHODS)
            case ast.Name(id=name) if name in BUILTINS:
                yield line, name
            case ast.Attribute(value=ast.Name(id="builtins"), attr=name):
                yield line, name
            case ast.Attribute(attr=name) if name in METHODS | LISTENERS:
                yield line, name
            case ast.Attribute() if ast.unparse(node) in CALLS:
                yield line, ast.unparse(node)
            case ast.keyword(arg="allow_pickle" | "shell" as name):
                yield line, name
            case ast.Call(func=ast.Attribute(attr=name), keywords=keywords) if name in EXTRACTORS:
                if "filter" not in {keyword.arg for keyword in keywords}:
                    yield line, f"{name} without a filter"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_source_runs_what_it_reads_or_listens(folder):
    sources = [file for file in SOURCES if file.is_relative_to(ROOT / folder)]
    assert sources
    found = [
        f"{file.relative_to(ROOT)}:{line}: {what}"
        for file in sources
        for line, what in dangers(file.read_text())
    ]
    # The web server of test_prepare is the one that a set is downloaded from.
    allowed = [entry for entry in found if "test_prepare.py" in entry and "serve_forever" in entry]
    assert found == allowed


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import numpy, cloudpickle as c",
        "from pickle import loads",
        "from joblib.numpy_pickle import load",
        "def f():\n  import marshal",
        "eval('1')",
        "run = exec",
        "[*map(eval, lines)]",
        "builtins.exec(text)",
        "__import__(name)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, x, allow_pickle=flag)",
        "pandas.read_pickle(path)",
        "torch.load(path)",
        "yaml.load(text)",
        "subprocess.run(line, shell=True)",
        "tarfile.open(path).extractall(folder)",
        "shutil.unpack_archive(path)",
        "s.listen(1)",
        "jax.profiler.start_server(9999)",
    ],
)
def test_the_scan_finds(source):
    assert list(dangers(source))


def test_the_scan_lets_through_what_only_looks_like_it():
    source = """
model.eval()
re.compile(jitted.lower(x).compile().as_text())
np.load(path)
tarfile.open(path).extractall(folder, filter="data")
"""
    assert not list(dangers(source))


# Of Python's audit events: code that is loaded or run, and programs and connections that are begun.
EVENTS = (
    *("pickle.", "marshal.load", "exec", "compile", "import", "ctypes.dlopen"),
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess."),
    *("socket.connect", "socket.bind", "socket.getaddrinfo"),
)


@pytest.fixture(scope="module")
def audited():
    """audited(fn): the events of EVENTS while fn() runs."""
    heard = []

    def hook(event, args):
        if heard and event.startswith(EVENTS):
            heard[-1].append((event, *map(str, args[:1])))

    sys.addaudithook(hook)  # which stays for as long as the process does

    def audited(fn):
        heard.append([])
        fn()
        return heard.pop()

    return audited


@pytest.mark.usefixtures("optax_promotes")
def test_restoring_a_checkpoint_runs_nothing_that_is_in_it(tmp_path, audited, monkeypatch):
    """Nor does it start a program or ask for the network; nor import what its metadata name."""
    params = {"flow": {"kernel": jnp.arange(64.0).reshape(8, 8)}, "dequantizer": {}}
    state = init_state(params, optax.adam(1e-3), jax.random.key(0))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state, 1.0)
    (tmp_path / "stranger.py").write_text("class Thing: ...")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "checkpoints/0"
    names = 0
    for file in folder.rglob("*META*"):
        content, found = re.subn(r'"(orbax|jax)\.[\w.]+"', '"stranger.Thing"', file.read_text())
        file.write_text(content)
        names += found
    assert names >= 2  # of a class of orbax and of jax
    before = manifest.read(folder)
    manifest.write(folder, before.arrays, before.valid)

    def restore():
        with Checkpoints(tmp_path / "checkpoints", create=False) as checkpoints:
            back = checkpoints.restore(0, state)
        np.testing.assert_array_equal(back.params["flow"]["kernel"], params["flow"]["kernel"])

    restore()  # what is imported is imported now
    assert audited(restore) == []
    assert "stranger" not in sys.modules
    assert [event for event, *_ in audited(lambda: ast.parse("1"))] == ["compile"]  # it does hear


def made_of(images):
    """A tfds builder of a set of images that come encoded, as their files are."""
    import tensorflow_datasets as tfds

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(None, None, 3))
            features = tfds.features.FeaturesDict({"image": image})
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            del dl_manager
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            for i, image in enumerate(images):
                yield i, {"image": io.BytesIO(image)}

    return Made


def encoded(file_format="PNG", size=(64, 64)):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, file_format)
    return buffer.getvalue()


BAD = {
    "too large": (png_header(4097, 4096), "it has 4097 x 4096 pixels, and the most is 16777216"),
    "truncated": (encoded()[:4000], "truncated"),
    "cut off in its header": (encoded()[:20], "Truncated File Read"),
    "no image": (b"#!/bin/sh\n", "cannot identify image file"),
    "a program in PostScript": (encoded("EPS"), "cannot identify image file"),
}


@pytest.mark.parametrize("memory_gib", [4.0, 0.0])
def test_a_prepared_set_names_the_image_that_cannot_be_used(tmp_path, memory_gib):
    """Whether it is decoded at once or when it is read."""
    good = encoded()
    for name, (content, message) in BAD.items():
        folder = tmp_path / name
        builder = made_of([good, good, content, good])
        with pytest.raises(ValueError, match=rf"row 2 of the split: .* of made/1.0.0: .*({message})"):
            load_made(builder, folder, "test", image_size=8, memory_gib=memory_gib).images[1:]


@pytest.mark.parametrize("name", ["no image", "a program in PostScript"])
def test_a_folder_reads_by_what_is_in_a_file_and_not_by_its_name(tmp_path, name):
    content, message = BAD[name]
    file = tmp_path / names_in("train", 1)[0]
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"cannot use the image {file}: {message}"):
        load_folder(tmp_path)


def archive_of(path, names):
    """A tar or zip of files under these names, and in a tar two links that lead out."""
    content = b"content"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, content)
        return
    with tarfile.open(path, "w") as archive:
        for name, target in (("link", "/etc/hostname"), ("up", "..")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_an_archive_is_unpacked_into_its_folder_and_nowhere_else(tmp_path, suffix):
    """tfds extracts; what leaves the folder is passed over, and links are not made."""
    archive = tmp_path / f"archive{suffix}"
    outside = tmp_path / "absolute.txt"
    archive_of(archive, ["in/a.txt", "../b.txt", "in/../../c.txt", str(outside), "up/d.txt"])
    found = []

    class Made(made_of([encoded()]), skip_registration=True):
        def _split_generators(self, dl_manager):
            folder = dl_manager.extract(archive)
            found.extend(sorted(Path(folder).rglob("*")))
            return super()._split_generators(dl_manager)

    prepare(Made(data_dir=tmp_path / "sets"))
    assert {path.name for path in found} == {"in", "a.txt", "up", "d.txt"}
    assert not any(path.is_symlink() for path in found)
    assert not outside.exists()
    assert {path.name for path in tmp_path.rglob("*.txt")} == {"a.txt", "d.txt"}


# For a process of its own, in which asking for the network through Python is an error.
OFFLINE = """
import os, runpy, socket, sys

def hook(event, args):
    if event.startswith(("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")):
        raise PermissionError(f"{event} {args[1:]}: the network was asked for")

sys.addaudithook(hook)
try:
    socket.create_connection(("127.0.0.1", 9))
    raise SystemExit("the network is not blocked")
except PermissionError:
    pass

sys.argv = ["experiments.train", *sys.argv[1:]]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code

tables = [open(f"/proc/self/net/{name}").readlines()[1:] for name in ("tcp", "tcp6")]
listening = {f"socket:[{row.split()[9]}]" for rows in tables for row in rows if row.split()[3] == "0A"}
mine = {os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)}
assert not listening & mine, listening & mine
print("done")
"""


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="where it listens is told by Linux")
def test_a_run_asks_for_no_network_and_listens_to_none(tmp_path):
    # Where the system lets it, it has no network at all, whatever it is that asks.
    cut_off = ["unshare", "--map-root-user", "--net"]
    done = shutil.which("unshare") and subprocess.run([*cut_off, "true"], capture_output=True)
    command = [*(cut_off if done and done.returncode == 0 else []), sys.executable, "-c", OFFLINE]
    command += ["--config=experiments/configs/glow_digits.py:smoke", f"--workdir={tmp_path / 'run'}"]
    command += [f"--config.data.data_dir={tmp_path}"]
    command += [f"--config.model.{name}" for name in ("depth=1", "levels=1", "width=4")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("done\n")
    assert (tmp_path / "run/evaluation.json").exists()


def pinned():
    """{name: version} of constraints.txt, every line of which pins one."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pins)
    assert len({canonicalize_name(pin.name) for pin in pins}) == len(pins)
    return {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins}


def installed_by(requirements):
    """The distributions that installing these requirements installs, by their metadata."""
    found, left = set(), [(requirement, "") for requirement in requirements]
    seen = set()
    while left:
        requirement, extra = left.pop()
        requirement = Requirement(requirement)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.add(name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                left += [(inner, extra) for inner in importlib.metadata.requires(name) or []]
    return found


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="constraints.txt is for Python 3.11")
def test_all_that_is_installed_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["dev"], *extras["docs"]]
    assert installed_by(requirements) == pinned().keys()
