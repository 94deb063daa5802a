"""Compression gives back the same pixels, at the rate that the likelihood promises, or refuses."""

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from configs import ROOT, tiny
from PIL import Image

import flowjax_glow as fg
from flowjax_glow import data
from flowjax_glow.compression import Coder, Header, read_file, read_images, write_file, write_images
from flowjax_glow.compression.stack import Stack, borrowed_words
from flowjax_glow.compression.steps import steps_of
from flowjax_glow.nets.masked import MADE
from flowjax_glow.testing import perturb
from flowjax_glow.training import loop
from flowjax_glow.training.compressed import compress, decompress
from flowjax_glow.training.experiment import load_trained

RNG = np.random.default_rng(0)

FLOWS = {
    "glow": partial(fg.glow, (4, 4, 2), levels=2, depth=2, width=4),
    "glow, plu, additive": partial(
        fg.glow, (4, 4, 1), levels=1, depth=1, width=4, permutation="plu", coupling="additive"
    ),
    "glow, householder, spline": partial(
        fg.glow, (4, 4, 1), levels=1, depth=1, width=4, permutation="householder", coupling="spline"
    ),
    "real_nvp": partial(fg.real_nvp, (2, 4, 1), scales=1, width=4, blocks=1),
    "nice": partial(fg.nice, (2, 2, 3), depths=(1, 1, 1), width=8, channels_first=True),
}


def _params(flow, n_bins, scale=0.02):
    """Params away from their initialisation, at which couplings do nothing; but not so far that images
    are where a normal's tail is beyond the coder's 24 bits, which takes fewer bits than the tail.
    """
    images = jnp.asarray(RNG.integers(n_bins, size=(64, *flow.event_shape), dtype=np.uint8))
    x = fg.dequantize(jax.random.key(0), images, n_bins=n_bins)
    return perturb(fg.init(flow, jax.random.key(1), x), scale)


def _bits(flow, params, images, n_bins, draws=8):
    """What the model's own bound says that the images take, in bits."""
    params, log_prob_of = fg.prepare(flow, params), jax.jit(partial(fg.log_prob, flow))
    total = 0.0
    for draw in range(draws):
        x = fg.dequantize(jax.random.key(draw), jnp.asarray(images), n_bins=n_bins)
        log_prob = log_prob_of(params, x)
        total += float(fg.bits_per_dim(log_prob, flow.event_shape, n_bins=n_bins).mean()) / draws
    return total * images.size


@pytest.mark.parametrize("name", FLOWS)
def test_every_kind_of_layer_gives_back_the_pixels_at_the_rate_of_the_likelihood(name):
    flow, n_bins = FLOWS[name](), 6
    params = _params(flow, n_bins)
    coder = Coder(flow, params, n_bins=n_bins, batch_size=64)
    num = 480 if name == "nice" else 512  # of one the last batch is a half, which compiles again
    images = RNG.integers(n_bins, size=(num, *flow.event_shape), dtype=np.uint8)
    coded = coder.encode(images)
    np.testing.assert_array_equal(coder.decode(coded.words, coded.initial_bits, num), images)
    # The noise is drawn once in coding: 1% is 3 of its standard errors or more.
    assert coded.bits == pytest.approx(_bits(flow, params, images, n_bins), rel=0.01)


def test_the_codelength_of_a_gaussian_through_an_affine_map_is_its_entropy():
    bijector = fg.chain(fg.invertible_conv(), fg.actnorm(), fg.invertible_conv(parametrization="plu"))
    channels, positions, num, grid = 3, 4, 4000, 2.0**-20
    with jax.enable_x64(True):
        x = jnp.asarray(RNG.normal(size=(8, positions, channels)))
        params = perturb(bijector.init(jax.random.key(0), x), 0.3)
        z = RNG.normal(size=(num, positions, channels))
        x = np.asarray(bijector.inverse(params, jnp.asarray(z))[0])
        params = jax.tree.map(np.asarray, params)
        steps, latents = steps_of(bijector, params, x[0], grid)
        assert sorted(latents.ravel()) == list(range(positions * channels))
        stack = Stack(borrowed_words(100_000))
        before, start = stack.bits, stack.words
        state = np.rint(x.reshape(num, -1) / grid).astype(np.int64)
        given = state.copy()
        for step in steps:
            step.encode(stack, state)
        prior = np.zeros(state.size), np.full(state.size, 1 / grid)
        stack.push_told(state.ravel(), *prior)
        bits = stack.bits - before

        np.testing.assert_array_equal(stack.pop_told(*prior).reshape(num, -1), state)
        for step in reversed(steps):
            step.decode(stack, state)
    np.testing.assert_array_equal(state, given)
    np.testing.assert_array_equal(stack.words, start)

    # Of the covariance of x, by numpy alone: A^-T A^-1 for x = z A^-1.
    columns = [np.cov(x[:, p].T) for p in range(positions)]
    exact = np.mean([0.5 * np.linalg.slogdet(2 * np.pi * np.e * c)[1] / np.log(2) for c in columns])
    entropy = num * positions * (exact - channels * np.log2(grid))
    assert bits == pytest.approx(entropy, rel=2e-4)
    without_grid = bits / (num * positions) + channels * np.log2(grid)
    assert without_grid == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("deviation", [16.0, 31.9, 700.0, 2.0**26])
def test_numbers_come_back_whatever_their_distance_and_the_stack_with_them(deviation):
    start = borrowed_words(4000)
    stack = Stack(start)
    values = np.rint(RNG.normal(size=600) * deviation).astype(np.int64)
    values[:4] = np.array([100, -100, 90_000, -(2**26)]) * int(deviation)
    means, deviations = RNG.uniform(-0.5, 0.5, 600), np.full(600, deviation)
    stack.push_told(values, means, deviations)
    np.testing.assert_array_equal(stack.pop_told(means, deviations), values)
    np.testing.assert_array_equal(stack.words, start)
    drawn = stack.pop_drawn(means, deviations)
    assert np.std(drawn) == pytest.approx(deviation, rel=0.1)
    stack.push_drawn(drawn, means, deviations)
    np.testing.assert_array_equal(stack.words, start)


def test_layers_that_cannot_be_coded_are_named():
    flow = fg.Flow(fg.affine_autoregressive(partial(MADE, width=8)), fg.standard_normal(), (4, 1, 1))
    flow = flow._replace(bijector=fg.chain(fg.reshape((4, 1, 1), (4,)), flow.bijector))
    with pytest.raises(ValueError, match="mix channels; got affine_autoregressive"):
        Coder(flow, _params(flow, 6), n_bins=6)
    mixture = fg.normal_mixture(np.zeros((1, 4)), np.ones(1) * 2)
    flow = fg.Flow(fg.reshape((2, 2, 1), (4,)), mixture, (2, 2, 1))
    with pytest.raises(ValueError, match="standard normal or logistic prior"):
        Coder(flow, {}, n_bins=6)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return data.load("digits", "test", data_dir=folder).images


@pytest.fixture(scope="module")
def shipped():
    return fg.load_pretrained("glow_digits")


def test_the_digits_come_back_at_the_rate_of_the_shipped_model(shipped, digits):
    flow, params = shipped
    coder = Coder(flow, params, n_bins=17, batch_size=60)
    coded = coder.encode(digits)
    assert coded.bits == pytest.approx(_bits(flow, params, digits, 17), rel=0.03)
    np.testing.assert_array_equal(coder.decode(coded.words, coded.initial_bits, len(digits)), digits)

    again = coder.encode(digits[::-1])
    np.testing.assert_array_equal(
        coder.decode(again.words, again.initial_bits, len(digits)), digits[::-1]
    )
    words = coded.words.copy()
    words[len(words) // 2] ^= 1
    with pytest.raises(ValueError, match=r"did not come back|too far|further off|not finite"):
        coder.decode(words, coded.initial_bits, len(digits))


def test_images_unlike_any_digit_come_back_too(shipped):
    flow, params = shipped
    coder = Coder(flow, params, n_bins=17, batch_size=60)
    strange = np.concatenate(
        [np.full((1, 8, 8, 1), 16), np.zeros((1, 8, 8, 1)), RNG.integers(17, size=(58, 8, 8, 1))]
    ).astype(np.uint8)
    coded = coder.encode(strange)
    np.testing.assert_array_equal(coder.decode(coded.words, coded.initial_bits, 60), strange)
    with pytest.raises(ValueError, match="levels must be below 17; got 17"):
        coder.encode(strange + np.uint8(1))
    with pytest.raises(ValueError, match=re.escape("(images, *(8, 8, 1)); got (60, 8, 7, 1)")):
        coder.encode(strange[:, :, :7])


@pytest.fixture
def header():
    return Header(
        images=2,
        event_shape=(8, 8, 1),
        n_bins=17,
        batch_size=1,
        initial_bits=64,
        fingerprint={"jax": "1"},
        pixels="00",
        weights="average",
        names=("a/b.png", "c.png"),
    )


def test_a_file_that_is_damaged_anywhere_or_cut_short_is_refused(header, tmp_path):
    path, words = tmp_path / "file", np.arange(1, 30, dtype=np.uint32)
    sizes = write_file(path, header, words)
    whole = path.read_bytes()
    assert sizes.words + sizes.rest == len(whole)
    read, read_words = read_file(path)
    assert read == header
    np.testing.assert_array_equal(read_words, words)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"damaged|begins otherwise"):
            read_file(path)
        path.write_bytes(whole[:place])
        with pytest.raises(ValueError, match=r"cut short|begins otherwise"):
            read_file(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["../a.png", "c.png"]}, "inside a folder; got '../a.png'"),
        ({"names": ["/a.png", "c.png"]}, "inside a folder"),
        ({"names": ["a\\b.png", "c.png"]}, "inside a folder"),
        ({"names": ["a\n.png", "c.png"]}, "inside a folder"),
        ({"names": ["a//b.png", "c.png"]}, "inside a folder"),
        ({"names": [".bashrc.png", "c.png"]}, "inside a folder"),
        ({"names": ["a" * 300 + ".png", "c.png"]}, "inside a folder"),
        ({"names": ["a.sh", "c.png"]}, "must end in .png"),
        ({"names": ["a.png", "A.PNG"]}, "twice"),
        ({"names": ["a.png", "A.png/c.png"]}, "cannot be a folder"),
        ({"names": ["a.png"]}, "a name for each of 2"),
        ({"names": [1, 2]}, "must be a text"),
        ({"images": 10**9}, "at most"),
        ({"images": True}, "whole and positive"),
        ({"event_shape": [8, -8, 1]}, "whole and positive"),
        ({"event_shape": 8}, "cannot be used"),
        ({"batch_size": 3}, "at most 2, its images"),
        ({"initial_bits": 31}, "multiple of 32"),
        ({"fingerprint": {"jax": 3}}, "texts"),
        ({"fingerprint": []}, "must be an object"),
        ({"more": 1}, "the fields of Header"),
    ],
)
def test_a_file_that_a_stranger_made_is_refused_before_anything_is_made_of_it(
    header, tmp_path, change, message
):
    text = json.dumps({**header._asdict(), **change}).encode()
    _forge(tmp_path / "file", zlib.compress(text))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_file(tmp_path / "file")


def test_a_header_that_unpacks_to_gigabytes_is_refused(tmp_path):
    packer = zlib.compressobj()
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(100)) + packer.flush()
    _forge(tmp_path / "file", bomb)
    with pytest.raises(ValueError, match="header must be at most"):
        read_file(tmp_path / "file")


def _forge(path, text):
    body = b"FGLOWIM\x01" + struct.pack("<I", len(text)) + text + bytes(range(40))
    path.write_bytes(body + hashlib.sha256(body).digest())


def _save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def test_images_that_the_flow_cannot_take_as_they_are_are_refused(tmp_path):
    grey = RNG.integers(17, size=(8, 8), dtype=np.uint8)
    _save(tmp_path / "good/sub/b.png", grey)
    _save(tmp_path / "good/a.png", grey.T)
    (tmp_path / "good/readme.txt").write_text("no image")
    read = partial(read_images, event_shape=(8, 8, 1), n_bins=17)
    names, images = read([tmp_path / "good", tmp_path / "good/sub/b.png"])
    assert names == ("a.png", "sub/b.png", "b.png")
    np.testing.assert_array_equal(images[..., 0], [grey.T, grey, grey])

    _save(tmp_path / "size.png", grey[:7])
    _save(tmp_path / "levels.png", grey + np.uint8(1) * 10)
    _save(tmp_path / "colour.png", np.stack([grey] * 3, axis=-1))
    _save(tmp_path / "alpha.png", np.stack([grey] * 2, axis=-1))
    _save(tmp_path / "clear.png", grey, transparency=3)
    _save(tmp_path / "lossy.jpg", grey)
    for name, message in (
        ("size.png", "8 x 8, and none is resized; got 8 x 7"),
        ("levels.png", "levels below 17"),
        ("colour.png", "mode L; got PNG, RGB"),
        ("alpha.png", "mode L; got PNG, LA"),
        ("clear.png", "mode L"),
    ):
        with pytest.raises(ValueError, match=re.escape(name) + ".*" + re.escape(message)):
            read([tmp_path / name])
    with pytest.raises(ValueError, match=re.escape("must end in .png; got 'lossy.jpg'")):
        read([tmp_path / "lossy.jpg"])
    with pytest.raises(ValueError, match="twice"):
        read([tmp_path / "good/a.png", tmp_path / "good/a.png"])
    with pytest.raises(FileNotFoundError, match="no/such"):
        read([tmp_path / "no/such"])


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("kept")
    images = np.zeros((1, 8, 8, 1), np.uint8)
    with pytest.raises(ValueError, match="there is something in"):
        write_images(tmp_path / "full", None, images)
    assert [p.name for p in tmp_path.rglob("*")] == ["full", "mine"]
    (tmp_path / "empty").mkdir()
    write_images(tmp_path / "empty", ("x/y.png",), images)
    assert (tmp_path / "empty/x/y.png").is_file()


def _command(name, *flags, expect=0, **env):
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *map(str, flags)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env},
        timeout=280,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, as short as can be, whose images are (8, 8, 1) in 17 levels."""
    folder = tmp_path_factory.mktemp("compressed")
    config = tiny(folder, steps=2, eval_every=2, steps_per_call=1)
    with jax.numpy_dtype_promotion("standard"):
        loop.train_and_evaluate(config, str(folder / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))  # of the commands
        # Without optimizations no machine rounds otherwise than another.
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "false")
        yield folder / "run"


def test_the_commands_give_back_pixels_and_names_in_another_process_and_else_refuse(run, tmp_path):
    for name in ("a.png", "more/b.png", "more/c.png"):
        _save(tmp_path / "in" / name, RNG.integers(17, size=(8, 8), dtype=np.uint8))
    file, out = tmp_path / "file", tmp_path / "out"
    done = _command("compress", f"--workdir={run}", tmp_path / "in", f"--out={file}")
    rate, model = (
        float(re.findall(rf"{row} \| \| (.*) \|", done.stdout)[0])
        for row in ("without its initial bits", "its likelihood promises")
    )
    assert rate == pytest.approx(model, rel=0.03)
    for codec in ("png", "webp", "jpegxl"):
        assert f"| {codec} | " in done.stdout
    assert f"{file.stat().st_size:,} bytes" in done.stdout

    _command("decompress", f"--workdir={run}", file, f"--out={out}")
    given, back = ({p.relative_to(f): p for p in f.rglob("*.png")} for f in (tmp_path / "in", out))
    assert given.keys() == back.keys()
    for name in given:
        np.testing.assert_array_equal(Image.open(given[name]), Image.open(back[name]))

    # As on a processor without fused multiply-add, of before 2013.
    elsewhere = tmp_path / "elsewhere"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa=SSE4_2"
    other = {"XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    flags = f"--workdir={run}", file, f"--out={elsewhere}"
    done = _command("decompress", *flags, expect=2, **other)
    assert "error: the file must be decompressed with what it was made by" in done.stderr
    assert "arithmetic was " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not elsewhere.exists()


def test_another_fingerprint_other_params_and_wrong_pixels_are_refused(run):
    trained = load_trained(str(run))
    images = RNG.integers(17, size=(2, 8, 8, 1), dtype=np.uint8)
    path = run / "file"
    compress(trained, images, path)
    header, words = read_file(path)
    np.testing.assert_array_equal(decompress(trained, header, words), images)
    for name in header.fingerprint:
        other = header._replace(fingerprint={**header.fingerprint, name: "another"})
        with pytest.raises(ValueError, match=f"{name} was another, and is "):
            decompress(trained, other, words)
    moved = trained._replace(params=perturb(trained.params, 1e-6))
    with pytest.raises(ValueError, match="params was "):
        decompress(moved, header, words)
    with pytest.raises(ValueError, match="got other pixels"):
        decompress(trained, header._replace(pixels="00"), words)
    with pytest.raises(ValueError, match=re.escape("images (9, 9, 1)")):
        decompress(trained, header._replace(event_shape=(9, 9, 1)), words)
