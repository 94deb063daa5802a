"""A folder of images becomes splits that hang on the files' names alone."""

import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from flowjax_glow import data
from flowjax_glow.data.folder import split_of

COLOURS = {"a/red.png": (255, 0, 0), "green.WEBP": (0, 255, 0), "b/c/blue.jpeg": (0, 0, 255)}


def write(file, image, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)


def names_in(split, number, suffix=".png"):
    """So many file names that fall into a split."""
    names = (f"image{i}{suffix}" for i in range(10_000))
    return [name for name in names if split_of(name) == split][:number]


def load(path, split="train", *, image_size=8, channels=None):
    return data.load("folder", split, path=path, image_size=image_size, channels=channels)


@pytest.fixture
def folder(tmp_path):
    for i, split in enumerate(("train", "valid", "test")):
        for name in names_in(split, 3):
            write(tmp_path / name, Image.new("RGB", (20, 10), (i, i, i)))
    return tmp_path


def test_the_name_sets_the_split(folder):
    for i, split in enumerate(("train", "valid", "test")):
        images, labels = load(folder, split)
        np.testing.assert_array_equal(images, np.full((3, 8, 8, 3), i, np.uint8))
        np.testing.assert_array_equal(labels, [-1, -1, -1])
    # Pinned: another rule would move images from train to test in folders already in use.
    splits = [split_of(f"{i}.png") for i in range(24)]
    assert [i for i in range(24) if splits[i] != "train"] == [5, 9, 23]
    assert [splits[i] for i in (5, 9, 23)] == ["test", "valid", "test"]
    shares = [split_of(str(i)) for i in range(10_000)]
    for split, share in (("train", 0.8), ("valid", 0.1), ("test", 0.1)):
        assert abs(shares.count(split) / 10_000 - share) < 0.015  # 4 standard deviations or more


def test_other_images_do_not_move_an_image(folder):
    before = load(folder, "test").images
    for name in names_in("train", 50):
        write(folder / name, Image.new("RGB", (9, 9)))
    np.testing.assert_array_equal(load(folder, "test").images, before)


def test_formats_at_any_depth_in_the_order_of_their_names(tmp_path):
    written = {}
    for name, colour in COLOURS.items():
        stem, suffix = name.rsplit(".", 1)
        name = next(n for i in range(99) if split_of(n := f"{stem}{i}.{suffix}") == "train")
        options = {"lossless": True} if suffix == "WEBP" else {}
        write(tmp_path / name, Image.new("RGB", (30, 40), colour), **options)
        written[name] = colour
    write(tmp_path / ".hidden" / "image.png", Image.new("RGB", (8, 8)))
    (tmp_path / "notes.txt").write_text("not an image")
    images = load(tmp_path).images
    expected = np.array([written[name] for name in sorted(written)])
    # JPEG's colour conversion is off by a level or two.
    np.testing.assert_allclose(images.mean((1, 2)), expected, atol=2)


def test_the_centre_is_cropped_then_resized(tmp_path):
    (name,) = names_in("train", 1)
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 30:70] = [10, 20, 30]  # the centred square
    write(tmp_path / name, Image.fromarray(pixels))
    # The filter reaches a little beyond the edge of the crop, where it is black.
    np.testing.assert_allclose(load(tmp_path).images[0], np.full((8, 8, 3), [10, 20, 30]), atol=2)


def test_an_image_of_the_size_comes_as_it_is_and_turned_upright(tmp_path):
    one, other = names_in("train", 2)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    write(tmp_path / one, Image.fromarray(pixels))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise to be seen upright
    write(tmp_path / other, Image.fromarray(pixels), exif=exif)
    images = load(tmp_path).images
    np.testing.assert_array_equal(images[0], pixels)
    np.testing.assert_array_equal(images[1], np.rot90(pixels, -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_mode_becomes_grey_or_rgb(tmp_path, mode, channels):
    suffix = ".jpg" if mode == "CMYK" else ".png"
    (name,) = names_in("train", 1, suffix)
    write(tmp_path / name, Image.new("L", (8, 8), 255).convert("RGB").convert(mode))
    images = load(tmp_path, channels=channels).images
    np.testing.assert_array_equal(images, np.full((1, 8, 8, channels), 255))


def test_info_names_the_files(folder):
    info = data.info("folder", path=folder, image_size=8, channels=1)
    assert info[1:4] == ((8, 8, 1), 256, None)
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    assert data.info("folder", path=copy, image_size=8) == info._replace(event_shape=(8, 8, 3))
    (copy / names_in("train", 1)[0]).unlink()
    assert data.info("folder", path=copy, image_size=8).version != info.version


def png_header(width, height):
    """The start of a PNG file that says how large it is, and holds no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 10) + b"IDAT"


def test_a_large_image_is_refused_before_it_is_decoded(folder):
    file = folder / names_in("train", 1)[0]
    file.write_bytes(png_header(4097, 4096))
    with pytest.raises(ValueError, match=f"{file}: it has 4097 x 4096 pixels, and the most is"):
        load(folder)
    file.write_bytes(png_header(4096, 4096))
    with pytest.raises(ValueError, match=f"{file}: .*truncated"):
        load(folder)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9])
def test_a_truncated_image_is_named(tmp_path, suffix, kept):
    file = tmp_path / names_in("train", 1, suffix)[0]
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write(file, Image.fromarray(noise))
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=f"cannot use the image {file}: "):
        load(tmp_path)


def test_16_bits_a_channel_are_refused(tmp_path):
    (name,) = names_in("train", 1)
    write(tmp_path / name, Image.fromarray(np.full((8, 8), 40_000, np.uint16)))
    with pytest.raises(ValueError, match="must have 8 bits a channel; its mode is I;16"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"image_size": None}, "image_size must be given for images of any size, .*; got None"),
        ({"channels": 2}, "channels must be 1 or 3; got 2"),
        ({"path": None}, "path must name a folder of images; got None"),
    ],
)
def test_what_a_folder_needs(folder, options, match):
    options = {"path": folder, "image_size": 8} | options
    with pytest.raises(ValueError, match=match):
        data.load("folder", "train", **options)
    with pytest.raises(ValueError, match=match):
        data.info("folder", **options)


def test_folders_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no folder of images at {tmp_path}/none"):
        load(tmp_path / "none")
    with pytest.raises(ValueError, match=r"must hold PNG, JPEG or WebP files; .* has none"):
        load(tmp_path)
    write(tmp_path / names_in("train", 1)[0], Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match=r"none of .* falls into 'test'"):
        load(tmp_path, "test")
