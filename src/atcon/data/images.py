"""From a file to pixels: every colour mode, rotation as the camera meant it, errors that name it.

Boxes refer to the pixels as a user sees them, that is after the EXIF rotation.
"""

import os
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from atcon.data.dicom import SUFFIXES as DICOM
from atcon.data.dicom import dicom_size, is_dicom, read_dicom
from atcon.errors import BadImageError, InputError
from atcon.plain_text import is_unicode
from atcon.types import Example, Pixels

MAX_PIXELS = 89_478_485
"""Larger images are refused before they are decoded (Pillow's own limit: 256 MiB of RGB)."""
_TEXTS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value of the second


def read_image(path: str | Path) -> Pixels:
    """Decode one image to RGB, uint8 [3, H, W].

    Palette, CMYK and grey images become RGB, transparency is laid over black, 16-bit grey is
    scaled to 8 bits, of an animation the first frame is taken, and EXIF rotation is applied. A
    DICOM file is shown as `atcon.data.dicom` says.

    Raises:
        BadImageError: The file is missing, truncated, no image, a stack of several, of
            floating-point pixels, larger than `MAX_PIXELS`, or its name is no text.
        InputError: It is DICOM, and pydicom is not installed.
    """
    return _named(path, lambda: _decoded(Path(path)))


def read_bytes(content: bytes, name: str) -> Pixels:
    """Decode an image that lies in memory, as `read_image` does; `name` is for its errors."""
    return _named(name, lambda: _with_pillow(BytesIO(content)))


def _named(name: object, decode: Callable[[], np.ndarray]) -> Pixels:
    """Decode, and say in every error which image it was."""
    try:
        array = decode()
    except InputError as error:
        raise type(error)(f"{name}: {error}") from None
    except Exception as error:  # decoders of broken files raise anything
        raise BadImageError(f"{name}: {_cause(error)}") from error
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _decoded(path: Path) -> np.ndarray:
    if not is_unicode(str(path)):
        raise BadImageError("its name is not UTF-8, so no table could hold it; rename it")
    if path.suffix.lower() in DICOM:
        return read_dicom(path, MAX_PIXELS)
    try:
        return _with_pillow(path)
    except UnidentifiedImageError:
        if is_dicom(path):
            return read_dicom(path, MAX_PIXELS)
        raise


def _with_pillow(file: Path | BytesIO) -> np.ndarray:
    with Image.open(file) as image:
        _check_size(image)
        _check_pages(image)
        image.load()
        top, turned = _grey_range(image)
        return np.array(_to_rgb(_upright(image), top, turned=turned))


def image_size(path: str | Path) -> tuple[int, int]:
    """Give width and height after EXIF rotation; no pixel is decoded.

    But those of a PNG with texts behind them, where Pillow finds its EXIF by decoding only.

    Raises:
        BadImageError: The header cannot be read.
    """
    try:
        if is_dicom(Path(path)):
            return dicom_size(Path(path))
        with Image.open(path) as image:
            width, height = image.size
            decoded = image.format == "PNG" and _has_late_texts(Path(path))
            exif = image.getexif if decoded else partial(Image.Image.getexif, image)
            return (height, width) if _orientation(exif) in {5, 6, 7, 8} else (width, height)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # as above
        raise BadImageError(f"{path}: {_cause(error)}") from error


def read_file(example: Example) -> Pixels:
    """Decode the file of an example."""
    if example.path is None:
        raise InputError(f"{example.name}: the example has no file")
    return read_image(example.path)


def resize(pixels: Pixels, size: int) -> UInt8[Tensor, "channel *frames {size} {size}"]:
    """Squash images or clips to `size`, bilinear with anti-aliasing; the aspect ratio is lost."""
    bilinear = InterpolationMode.BILINEAR
    squashed: Tensor = v2.resize(pixels, [size, size], interpolation=bilinear, antialias=True)
    return squashed


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width} x {height} pixels exceed the limit of {MAX_PIXELS}")


def _check_pages(image: Image.Image) -> None:
    """Refuse a stack, of which nobody can say which image is meant; smaller copies are none."""
    if image.format != "TIFF":
        return
    first = image.size
    try:
        image.seek(1)
    except EOFError:
        return
    second = image.size
    image.seek(0)
    if first == second:
        raise BadImageError(
            "a TIFF with several pages of one size; save the one that is meant as a file of its own"
        )


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image.getexif) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _has_late_texts(path: Path) -> bool:
    """Whether EXIF or texts, which may hold it, stand behind the pixels of a PNG."""
    with path.open("rb") as file:
        file.seek(8)
        kind, pixels = b"", False
        while len(head := file.read(8)) == 8 and kind != b"IEND":
            kind = head[4:]
            if pixels and kind in _TEXTS:
                return True
            pixels = pixels or kind == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


def _orientation(exif: Callable[[], Image.Exif]) -> int:
    """Give the EXIF orientation; a damaged EXIF block does not make the pixels unusable."""
    try:
        value = exif().get(0x0112, 1)
    except Exception:  # the EXIF parser raises anything, from SyntaxError to struct.error
        return 1
    return value if value in range(1, 9) else 1


def _grey_range(image: Image.Image) -> tuple[int, bool]:
    """Give the largest value of 16-bit grey, and whether it counts from white to black.

    Both stand in the tags of a TIFF, where Pillow leaves the pixels as they are.
    """
    if not isinstance(image, TiffImageFile):
        return 65535, False
    bits = int(image.tag_v2.get(_BITS, (16,))[0])
    white_is_zero = image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return (2**bits - 1 if 8 < bits < 16 else 65535), white_is_zero


def _to_rgb(image: Image.Image, top: int, *, turned: bool) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bit(image, top, turned=turned)
    elif image.mode == "F":
        raise BadImageError("floating-point pixels have no defined range; convert to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("RGB")


def _eight_bit(image: Image.Image, top: int, *, turned: bool) -> Image.Image:
    """Scale 16-bit grey, which Pillow's own conversion would clip at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > top:
        raise BadImageError(f"grey values outside of 0..{top}; convert to 8 or 16 bits")
    scaled = (255 * values + top // 2) // top
    return Image.fromarray((255 - scaled if turned else scaled).astype(np.uint8))


def _cause(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format, or an empty file"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"the image exceeds the limit of {MAX_PIXELS} pixels"
    return f"cannot be decoded ({error})"
