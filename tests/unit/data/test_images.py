import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from atcon.data import read_image, resize
from atcon.data.images import MAX_PIXELS, image_size
from atcon.errors import BadImageError, InputError

ORANGE = [200, 100, 50]


def colour_of(path) -> list[int]:
    return read_image(path)[:, 2, 3].tolist()


def test_a_png_is_read_to_the_pixel_as_channels_rows_columns(save):
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    pixels = read_image(save("a.png", array))
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, torch.from_numpy(array).permute(2, 0, 1))


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK"])
def test_every_colour_mode_becomes_the_same_rgb(tmp_path, mode):
    path = tmp_path / "a.tif"
    image = Image.new("RGB", (8, 6), tuple(ORANGE))
    (image.quantize() if mode == "P" else image.convert(mode)).save(path)
    assert np.abs(np.subtract(colour_of(path), ORANGE)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_becomes_three_equal_channels(tmp_path, mode):
    path = tmp_path / "a.png"
    Image.new("L", (8, 6), 255).convert(mode).save(path)
    assert colour_of(path) == [255, 255, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_black(tmp_path, mode):
    path = tmp_path / "a.png"
    Image.new("RGBA", (8, 6), (200, 200, 200, 128)).convert(mode).save(path)
    assert colour_of(path) == [100, 100, 100]


def test_a_transparent_palette_entry_is_black_without_a_warning(tmp_path):
    image = Image.new("P", (8, 6), 1)
    image.putpalette([0, 0, 0, *ORANGE])
    image.save(tmp_path / "whole.png", transparency=0)
    image.save(tmp_path / "clear.png", transparency=b"\xff\x00")
    assert colour_of(tmp_path / "whole.png") == ORANGE
    assert colour_of(tmp_path / "clear.png") == [0, 0, 0]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, name):
    values = np.array([[0, 256, 257, 32768, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    expected = np.round(values / 65535 * 255).astype(int).tolist()
    assert read_image(tmp_path / name).tolist() == [expected] * 3


def test_a_16_bit_gradient_is_scaled_exactly(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "a.png")
    expected = np.floor(values * (255 / 65535) + 0.5).astype(np.uint8)
    assert np.array_equal(read_image(tmp_path / "a.png")[0].numpy(), expected)


def write_tiff(path, values: np.ndarray, *, bits: int = 16, photometric: int = 1) -> None:
    """Write one uncompressed strip of grey, with tags that Pillow does not write itself."""
    height, width = values.shape
    content = pack_12_bits(values) if bits == 12 else values.astype("<u2").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8 + 2 + 12 * 9 + 4,
            277: 1, 278: height, 279: len(content)}  # fmt: skip
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(head + entries + struct.pack("<I", 0) + content)


def pack_12_bits(values: np.ndarray) -> bytes:
    text = "".join(f"{value:012b}" for value in values.flatten())
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def test_a_tiff_that_counts_from_white_to_black_is_turned(tmp_path):
    values = np.array([[0, 256, 257, 32768, 65534, 65535]], dtype=np.uint16)
    for name, photometric in (("plain.tif", 1), ("turned.tif", 0)):
        write_tiff(tmp_path / name, values, photometric=photometric)
    plain, turned = (read_image(tmp_path / name) for name in ("plain.tif", "turned.tif"))
    assert plain[0].tolist() == np.floor(values / 257 + 0.5).astype(int).tolist()
    assert torch.equal(turned, 255 - plain)


def test_a_tiff_of_12_bits_is_scaled_by_its_own_range(tmp_path):
    values = np.array([[0, 16, 2048, 4095]], dtype=np.uint16)
    write_tiff(tmp_path / "a.tif", values, bits=12)
    assert read_image(tmp_path / "a.tif")[0].tolist() == [[0, 1, 128, 255]]


def test_a_stack_of_tiff_pages_is_refused_and_smaller_copies_are_passed_over(tmp_path):
    page, copy = Image.new("RGB", (8, 6), tuple(ORANGE)), Image.new("RGB", (4, 3))
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page, page])
    page.save(tmp_path / "pyramid.tif", save_all=True, append_images=[copy])
    assert colour_of(tmp_path / "pyramid.tif") == ORANGE
    with pytest.raises(BadImageError, match=r"stack\.tif: a TIFF with several pages of one size"):
        read_image(tmp_path / "stack.tif")


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, name):
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 0, 255))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    assert np.abs(np.subtract(colour_of(tmp_path / name), [255, 0, 0])).max() <= 3


def test_32_bit_grey_within_16_bits_is_scaled_and_beyond_is_refused(tmp_path):
    Image.fromarray(np.array([[0, 65535]], dtype=np.int32)).save(tmp_path / "fits.tif")
    Image.fromarray(np.array([[0, 65536]], dtype=np.int32)).save(tmp_path / "beyond.tif")
    assert read_image(tmp_path / "fits.tif")[0].tolist() == [[0, 255]]
    with pytest.raises(BadImageError, match=r"beyond\.tif: grey values outside of 0\.\.65535"):
        read_image(tmp_path / "beyond.tif")


def test_floating_point_pixels_are_refused_by_name(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(BadImageError, match=r"f\.tif: floating-point"):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_shows_the_image_as_its_viewer_does(tmp_path, orientation):
    upright = np.zeros((40, 60, 3), dtype=np.uint8)
    upright[:20, :30] = 255
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif)
    assert torch.equal(read_image(path), torch.from_numpy(upright).permute(2, 0, 1))
    assert image_size(path) == (60, 40)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("block", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_a_damaged_exif_block_leaves_the_pixels_usable(save, block):
    path = save("a.jpg", quality=95, exif=block)
    assert np.abs(np.subtract(colour_of(path), ORANGE)).max() <= 3
    assert image_size(path) == (8, 6)


def broken_files(save) -> dict[str, object]:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    jpeg, png = save("cut.jpg", noise), save("cut.png", noise)
    for path in (jpeg, png):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    empty, text = jpeg.with_name("empty.jpg"), jpeg.with_name("text.png")
    empty.write_bytes(b"")
    text.write_text("not an image")
    flipped = save("flipped.png", noise)
    content = bytearray(flipped.read_bytes())
    content[60] ^= 0xFF
    flipped.write_bytes(content)
    folder, missing = jpeg.with_name("folder.jpg"), jpeg.with_name("missing.jpg")
    folder.mkdir()
    return {
        "truncated": jpeg,
        "known format": empty,
        "not an image": text,
        "no such file": missing,
        "directory": folder,
        "cannot be decoded": png,
        "decoded": flipped,
    }


def test_a_broken_file_is_named_with_its_cause(save):
    for cause, path in broken_files(save).items():
        with pytest.raises(BadImageError, match=cause) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert isinstance(caught.value, InputError)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    side = int(MAX_PIXELS**0.5) + 1
    path = tmp_path / "bomb.png"
    Image.new("1", (side, side)).save(path)
    with pytest.raises(BadImageError, match=f"{re.escape(str(path))}: .* exceeds? the limit"):
        read_image(path)


def test_the_limit_on_pixels_holds_without_pillow_warnings(save, monkeypatch):
    monkeypatch.setattr("atcon.data.images.MAX_PIXELS", 47)
    with pytest.raises(BadImageError, match="8 x 6 pixels exceed the limit of 47"):
        read_image(save("a.png"))


def test_resize_squashes_and_keeps_a_constant_colour(save):
    pixels = resize(read_image(save("a.png", size=(50, 20))), 16)
    assert pixels.shape == (3, 16, 16)
    colour = torch.tensor(ORANGE, dtype=torch.uint8)
    assert torch.equal(pixels, colour[:, None, None].expand(3, 16, 16))


def test_resize_averages_instead_of_dropping_pixels():
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    assert (resize(stripes, 8).float() - 100).abs().max() <= 4


@pytest.mark.parametrize("late", [False, True])
def test_the_size_of_a_turned_png_needs_its_pixels_only_where_its_exif_stands_behind_them(
    late, save, monkeypatch
):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save("turned.png", size=(8, 6), exif=exif)
    if late:
        content = path.read_bytes()
        start = content.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        last = content.index(b"IEND") - 4
        path.write_bytes(content[:start] + content[end:last] + content[start:end] + content[last:])
    plain = save("plain.png", size=(8, 6))
    loaded = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda image: (loaded.append(image.filename), load(image))[1]
    )
    assert image_size(path) == (6, 8)
    assert image_size(plain) == (8, 6)
    assert [Path(one).name for one in loaded] == (["turned.png"] if late else [])
    assert tuple(read_image(path).shape[1:]) == (8, 6)
