"""Preparing a set: stopped and repeated, its checksums, and what it says where it cannot."""

import functools
import hashlib
import http.server
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from flowjax_glow import data
from flowjax_glow.data import prepared
from flowjax_glow.data.geometry import Geometry
from flowjax_glow.data.preparation import left_behind, prepare
from flowjax_glow.data.without_tensorflow import png

ROOT = Path(__file__).parents[1]


def start(data_dir, *flags, config="glow_photos"):
    command = [sys.executable, "-m", "experiments.prepare"]
    command += [f"--config=experiments/configs/{config}.py:smoke"]
    command += [f"--config.data.data_dir={data_dir}", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **pipes)


def run(*args, **options):
    """Exit code, lines of stdout and of stderr."""
    process = start(*args, **options)
    out, err = process.communicate(timeout=200)
    return process.returncode, out.splitlines(), err.splitlines()


def half_written(data_dir):
    return list((data_dir / "photos").glob("incomplete.*"))


def stop_in_the_middle(data_dir, number):
    """Its exit code, and the folders it left half written."""
    process = start(data_dir)
    deadline = time.monotonic() + 120
    while not half_written(data_dir):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)  # of the many seconds that it writes
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert not (data_dir / "photos/1.0.0").exists()
    return process.returncode, half_written(data_dir)


@pytest.mark.slow
def test_a_preparation_that_was_stopped_is_repeated(tmp_path):
    assert stop_in_the_middle(tmp_path, signal.SIGINT) == (130, [])
    assert stop_in_the_middle(tmp_path, signal.SIGTERM) == (143, [])
    code, (left,) = stop_in_the_middle(tmp_path, signal.SIGKILL)
    assert code == -signal.SIGKILL

    code, lines, errors = run(tmp_path)
    assert code == 0
    assert "Generating train examples" in "".join(errors)
    assert errors[-1].startswith(f"note: {left} is of a preparation that was killed")
    said, *lines = lines[-8:]
    assert said == "prepared"
    facts = dict(re.split(" +", line, maxsplit=1) for line in lines)
    size = facts.pop("bytes")
    assert 20_000_000 < int(size.replace(",", "")) < 80_000_000
    assert facts == {
        "folder": str(tmp_path / "photos/1.0.0"),
        "version": "photos/1.0.0",
        "train": "21,000 images",
        "valid": "1,500 images",
        "test": "2,400 images",
        "image": "32 x 32 x 3",
    }
    file = next((tmp_path / "photos/1.0.0").glob("*train*"))
    written = file.stat().st_mtime_ns
    code, again, _ = run(tmp_path)
    assert (code, again) == (0, ["prepared already", *lines])
    assert file.stat().st_mtime_ns == written
    assert data.load("photos", "valid", data_dir=tmp_path).images.shape == (1_500, 32, 32, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.data.name=celeb_a_hq/256"], r"downloaded by hand; manual_dir is .*: .*data2x2.tar"),
        (["--config.model.levels=9"], r"divisible by 2\^levels"),
    ],
)
def test_a_mistake_ends_with_one_line_and_nothing_prepared(tmp_path, flags, message):
    code, out, errors = run(tmp_path, *flags)
    assert code == 2
    assert not [line for line in out if line.startswith("folder")]
    assert re.match(f"error: .*{message}", errors[-1])
    assert "Traceback" not in "".join(errors)
    assert not list(tmp_path.rglob("*dataset_info.json"))
    assert not list(tmp_path.rglob("incomplete*"))


def test_what_is_read_as_it_is_needs_no_preparation(tmp_path):
    assert run(tmp_path, config="moons_spline")[:2] == (0, ["moons/1 is read as it is"])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The URL of a web server, and the folder it serves."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "published"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):
            del code, size

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder
        httpd.shutdown()
        thread.join()


@pytest.fixture
def published(tmp_path, server):
    """published(checksum) is the builder of a set of one file of images, with that checksum."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo
    from tensorflow_datasets.core.units import Size

    address, folder = server
    url = f"{address}/images.npy"
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    content = (folder / "images.npy").read_bytes()

    class Published(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        url_infos = None

        def _info(self):
            features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 3))})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(dl_manager.download(url))}

        def _generate_examples(self, path):
            for i, image in enumerate(np.load(path)):
                yield i, {"image": image}

    def make(checksum="right"):
        digest = hashlib.sha256(content).hexdigest() if checksum == "right" else "0" * 64
        info = UrlInfo(size=Size(len(content)), checksum=digest, filename="images.npy")
        Published.url_infos = None if checksum is None else {url: info}
        return Published(data_dir=tmp_path / "sets")

    return make


def load_all(builder):
    options = {"geometry": Geometry(), "valid_examples": None, "download": True, "memory_gib": 4.0}
    return [len(prepared.load(builder, s, **options).images) for s in ("train", "valid", "test")]


def test_a_file_with_its_checksum_is_taken_and_kept(published, server, tmp_path):
    _, folder = server
    assert load_all(published()) == [24, 3, 3]  # of a set that has only a training split
    assert prepared.split_sizes(prepare(published()), None) == {"train": 24, "valid": 3, "test": 3}
    for file in (tmp_path / "sets/published").rglob("*"):
        if file.is_file():
            file.unlink()
    (tmp_path / "sets/published/1.0.0").rmdir()
    (folder / "images.npy").unlink()  # what was downloaded is not asked for again
    assert load_all(published()) == [24, 3, 3]


@pytest.mark.parametrize(
    ("checksum", "message"),
    [("wrong", r"has wrong checksum: .* Expected: .*0{64}.* Got: "), (None, "Missing checksums url")],
)
def test_a_file_without_its_checksum_is_refused(published, tmp_path, checksum, message):
    with pytest.raises(ValueError, match=message) as refused:
        prepare(published(checksum))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "sets/published/1.0.0").exists()
    assert not list(tmp_path.rglob("incomplete*"))
    # A file of the wrong content is never taken for the right one later.
    assert load_all(published()) == [24, 3, 3]
    assert len(left_behind(published())) == (checksum == "wrong")


def test_a_file_that_cannot_be_downloaded_may_be_put_there(published, server, tmp_path):
    _, folder = server
    content = (folder / "images.npy").read_bytes()
    (folder / "images.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded: .* 404. .*downloads/manual"):
        prepare(published())
    by_hand = tmp_path / "sets/downloads/manual/images.npy"
    by_hand.parent.mkdir()
    by_hand.write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match="has wrong checksum"):
        prepare(published())
    by_hand.write_bytes(content)
    assert load_all(published()) == [24, 3, 3]


def test_files_missing_of_a_set_downloaded_by_hand_are_told(tmp_path):
    builder = prepared.open_builder("celeb_a_hq/256", tmp_path)
    (tmp_path / "downloads/manual").mkdir(parents=True)
    (tmp_path / "downloads/manual/other.tar").touch()
    with pytest.raises(
        FileNotFoundError, match=f"manual_dir is {tmp_path}/downloads/manual: manual_dir"
    ):
        prepare(builder)


def test_a_set_that_needs_tensorflow_names_the_extra(published, monkeypatch):
    from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow

    builder = published()
    monkeypatch.setattr(type(builder), "_generate_examples", lambda *_: [tensorflow.raw_ops])
    told = r"needs TensorFlow \(raw_ops\) to be prepared: pip install 'flowjax-glow\[prepare\]'"
    with pytest.raises(ValueError, match=told):
        prepare(builder)


def test_lsun_needs_lmdb_before_anything_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ValueError, match=r"needs lmdb to be prepared: pip install 'flowjax-glow"):
        prepare(prepared.open_builder("lsun/bedroom", tmp_path))
    assert not list(tmp_path.iterdir())


def test_lsun_is_read_by_lmdb(tmp_path, monkeypatch):
    lmdb = pytest.importorskip("lmdb")
    import tensorflow_datasets as tfds

    images = np.random.default_rng(0).integers(0, 256, (20, 9, 12, 3), dtype=np.uint8)
    for split in ("train", "val"):
        folder = tmp_path / f"bedroom_{split}_lmdb"
        with lmdb.open(str(folder), map_size=2**20) as database, database.begin(write=True) as writing:
            for i, image in enumerate(images):
                writing.put(f"{split}{i:03}".encode(), png(image))
    monkeypatch.setattr(
        tfds.download.DownloadManager,
        "download_and_extract",
        lambda *_: dict.fromkeys(("train", "val"), tmp_path),
    )
    builder = prepare(prepared.open_builder("lsun/bedroom", tmp_path / "sets"))
    assert prepared.split_sizes(builder, None) == {"train": 18, "valid": 2, "test": 20}
    records = builder.as_data_source("train")
    found = {record["id"]: record["image"].tobytes() for record in records}
    assert found == {f"train{i:03}".encode(): image.tobytes() for i, image in enumerate(images)}
