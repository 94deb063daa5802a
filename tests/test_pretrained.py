"""Models that ship, and folders of strangers: what loads is whole, and nothing in it runs."""

import hashlib
import json
import math
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from test_strangers import audited  # noqa: F401

import flowjax_glow as fg
from flowjax_glow import pretrained
from flowjax_glow.data import load
from flowjax_glow.evaluation import likelihood
from flowjax_glow.sharding import make_mesh

SHIPPED = Path(fg.__file__).parent / "pretrained_models"
NAMES = sorted(path.name for path in SHIPPED.iterdir())


@pytest.fixture
def model(tmp_path):
    """A copy of the shipped model, to be damaged."""
    return Path(shutil.copytree(SHIPPED / "glow_digits", tmp_path / "model"))


def refused(folder, message, kind: type[Exception] = ValueError):
    """One line, that begins with the file."""
    with pytest.raises(kind, match=message) as caught:
        fg.load_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_the_shipped_are_known_by_name_and_small():
    assert "glow_digits" in NAMES
    assert pretrained.shipped() == NAMES
    for name in NAMES:
        files = {path.name: path.stat().st_size for path in (SHIPPED / name).iterdir()}
        assert files.keys() == {"README.md", "config.json", "model.safetensors"}
        assert sum(files.values()) < 5e6


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_the_one_of_its_card(name):
    flow, params = fg.load_pretrained(name)
    card = (SHIPPED / name / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["license"] == "apache-2.0"
    assert f"| trained parameters | {fg.count_parameters(params):,} |" in card
    assert metadata["model-index"][0]["name"] == name
    config = pretrained.load_config(name)
    assert config.event_shape == flow.event_shape
    x = jax.jit(fg.sample, static_argnums=(0, 3))(flow, params, jax.random.key(1), 8)
    assert np.isfinite(x).all()


def test_the_shipped_digits_have_the_bits_of_their_card(tmp_path):
    """The whole test split with all its draws."""
    card = (SHIPPED / "glow_digits/README.md").read_text()
    (result,) = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"]
    (metric,) = result["metrics"]
    flow, params = fg.load_pretrained("glow_digits")
    dequantizer, noise = pretrained.load_dequantizer("glow_digits")
    found = likelihood(
        flow,
        params,
        load("digits", result["dataset"]["split"], data_dir=tmp_path),
        jax.random.key(0),
        dequantizer=dequantizer,
        noise=noise,
        draws=16,
        mesh=make_mesh(),
    )
    assert "| dequantization | uniform, 16 draws |" in card
    assert result["dataset"]["split"] == "test"
    assert f"| bits/dim | {found.mean:.4f} ± {found.standard_error:.4f} (" in card
    assert metric["value"] == pytest.approx(found.mean, abs=1e-5)


def test_a_path_is_a_folder_and_a_name_the_shipped_model(model, monkeypatch):
    monkeypatch.chdir(model.parent)
    model.rename("glow_digits")
    (model.parent / "glow_digits/model.safetensors").unlink()
    assert fg.load_pretrained("glow_digits").flow.event_shape == (8, 8, 1)
    for path in ("./glow_digits", Path("glow_digits")):
        with pytest.raises(FileNotFoundError, match=r"there is no glow_digits/model.safetensors"):
            fg.load_pretrained(path)
    with pytest.raises(FileNotFoundError, match=r"no folder 'glow_digit' .* are .*glow_digits"):
        fg.load_pretrained("glow_digit")


def test_loading_runs_nothing_and_opens_no_other_file(model, audited, monkeypatch):  # noqa: F811
    (model / "stranger.py").write_text("raise SystemExit")
    (model / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    monkeypatch.syspath_prepend(model)
    rewrite(model, auto_map={"AutoModel": "stranger.Model"}, weights="../../etc/passwd")
    fg.load_pretrained(model)  # what is imported is imported now
    heard = audited(lambda: fg.load_pretrained(model))
    # What is left out is the tests' type checker, which compiles the functions that it wraps.
    assert [event for event in heard if event[0] not in ("compile", "exec")] == []
    assert "stranger" not in sys.modules


def test_a_link_to_the_weights_is_followed_as_the_hubs_cache_has_them(model):
    (model / "model.safetensors").rename(model.parent / "blob")
    (model / "model.safetensors").symlink_to("../blob")
    fg.load_pretrained(model)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 901184\n")


@pytest.mark.parametrize("damage", [truncated, flipped, pointer, lambda path: path.write_bytes(b"")])
def test_damaged_weights_are_told(model, damage):
    damage(model / "model.safetensors")
    refused(model, r"model.safetensors is damaged, or not wholly there: its SHA-256 is not the one in")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_missing_file_is_told(model, file):
    (model / file).unlink()
    refused(model, f"there is no .*/{file}; a folder of", FileNotFoundError)
    (model / file).mkdir()
    refused(model, f"there is no .*/{file}; a folder of", FileNotFoundError)


def rewrite(folder, /, **fields):
    """config.json with other fields, section__name in a section."""
    path = folder / "config.json"
    read = json.loads(path.read_text())
    for name, value in fields.items():
        section, _, field = name.partition("__")
        if field:
            read[section][field] = value
        else:
            read[section] = value
    path.write_text(json.dumps(read))


def with_weights(model, content):
    """A model whose config.json says that the content is right."""
    (model / "model.safetensors").write_bytes(content)
    rewrite(model, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95",
        (1 << 62).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        b"version https://git-lfs",
    ],
    ids=["a pickle", "an endless header", "a list", "a text"],
)
def test_what_is_no_safetensors_file_is_told(model, content):
    with_weights(model, content)
    refused(model, r"model.safetensors must be a safetensors file")


def test_offsets_that_lead_out_of_the_file_are_told(model):
    header = b'{"flow.0":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'
    with_weights(model, len(header).to_bytes(8, "little") + header + bytes(4))
    refused(model, r"model.safetensors must be a safetensors file")


def changed(change):
    """A table of arrays, one of them changed."""

    def make(arrays):
        name = sorted(arrays)[0]
        arrays[name] = change(arrays[name])

    return make


def renamed(arrays):
    arrays["../../outside"] = arrays.pop(sorted(arrays)[0])


def added(arrays):
    arrays["/etc/passwd"] = np.zeros(1, np.float32)


def nan_in(array):
    array.flat[array.size - 1] = math.nan
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, r"must hold the params of the model in config.json; it also holds ../../outside"),
        (added, r"must hold the params of the model in config.json; it also holds /etc/passwd"),
        (lambda arrays: arrays.pop(sorted(arrays)[0]), r"must hold .* config.json; it lacks flow\.\w+"),
        (
            changed(lambda a: a[..., :-1]),
            r"flow\.\S+ must be float32 \(.*\), by the model in .*; got float32 \(",
        ),
        (changed(lambda a: a.astype(np.float64)), r"flow\.\S+ must be float32 .*; got float64 \("),
        (changed(lambda a: a.astype(np.float16)), r"flow\.\S+ must be float32 .*; got float16 \("),
        (changed(lambda a: a.astype(np.int32)), r"flow\.\S+ must be float32 .*; got int32 \("),
        (changed(nan_in), r"flow\.\S+ must be finite; it is not"),
        (changed(lambda a: a / 0), r"flow\.\S+ must be finite; it is not"),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide|invalid)")
def test_other_params_than_the_models_are_told(model, change, message):
    arrays = load_file(model / "model.safetensors")
    change(arrays)
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    save_file(arrays, model / "changed")
    with_weights(model, (model / "changed").read_bytes())
    refused(model, rf"model.safetensors:? {message}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "pt"}, "must be written by experiments.export"),
        ({"format_version": 2}, "must be of format_version 1, .*; got 2, of flowjax_glow 0.1.0"),
        (
            {"model__name": "gpt2"},
            "model.name must be one of ffjord, flow_plus_plus, glow, .*; got 'gpt2'",
        ),
        ({"model__name": ["glow"]}, "model.name must be a string"),
        (
            {"model__depht": 3},
            "there is no field model.depht of glow; got 3; did you mean model.depth?",
        ),
        ({"model__depth": "16"}, "model.depth must be a whole number; got '16', a str"),
        ({"model__depth": True}, "model.depth must be a whole number; got True"),
        ({"model__depth": -1}, "model.depth must be at least 1; got -1"),
        ({"model__dropout": math.nan}, "model.dropout must be finite; got nan"),
        ({"model__coupling": "os.system"}, "coupling must be one of .*; got 'os.system'"),
        ({"model__dtype": "object"}, "model.dtype must be one of"),
        ({"model__levels": 9}, "height and width must be divisible by 2.levels"),
        ({"model": "glow"}, "model must be an object; got 'glow'"),
        ({"event_shape": [8, 8]}, r"event_shape must be \(height, width, channels\)"),
        ({"event_shape": [8, 8.5, 1]}, "event_shape must be a tuple of whole numbers"),
        ({"event_shape": 8}, "event_shape must be a tuple of whole numbers"),
        ({"n_bins": 1000}, "n_bins must be at most 256"),
        ({"dequantization__name": "none"}, "dequantization.name must be one of uniform, variational"),
        (
            {"dequantization": {"name": "variational", "deep": 1}},
            "there is no field dequantization.deep",
        ),
        ({"dequantization": None}, "dequantization must be an object; got None"),
        ({"sha256": None}, "sha256 must be a string"),
    ],
)
def test_a_foreign_or_wrong_config_is_told(model, fields, message):
    rewrite(model, **fields)
    refused(model, rf"config.json:? {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged: it must be JSON"),
        ('{"format": ', "is damaged: it must be JSON"),
        ("[" * 100_000, "is damaged: it must be JSON"),
        (b"\xff\xfe", "is damaged: it must be JSON"),
        ("[]", "must be written by experiments.export"),
        (
            '{"model_type": "bert", "architectures": ["BertModel"]}',
            "must be written by experiments.export",
        ),
        ('{"format": "flowjax_glow", "format_version": 1}', "is damaged: it must have model"),
    ],
)
def test_what_is_no_config_is_told(model, content, message):
    (model / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(model, f"config.json {message}")


def test_a_larger_model_than_the_weights_is_refused_before_it_is_allocated(model):
    rewrite(model, model__width=10**6)
    refused(model, r"model.safetensors: flow\.\S+ must be float32 \(.*1000000")
