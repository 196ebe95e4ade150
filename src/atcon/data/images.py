"""From a file to pixels: every colour mode, rotation as the camera meant it, errors that name it.

Boxes refer to the pixels as a user sees them, that is after the EXIF rotation.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from atcon.errors import BadImageError, InputError
from atcon.types import Example, Pixels

MAX_PIXELS = 89_478_485
"""Larger images are refused before they are decoded (Pillow's own limit: 256 MiB of RGB)."""


def read_image(path: str | Path) -> Pixels:
    """Decode one image to RGB, uint8 [3, H, W].

    Palette, CMYK and grey images become RGB, transparency is laid over black, 16-bit grey is
    scaled to 8 bits, of an animation the first frame is taken, and EXIF rotation is applied.

    Raises:
        BadImageError: The file is missing, truncated, no image, or larger than `MAX_PIXELS`.
    """
    try:
        with Image.open(path) as image:
            _check_size(image)
            image.load()
            array = np.array(_to_rgb(_upright(image)))
    except BadImageError as error:
        raise BadImageError(f"{path}: {error}") from None
    except Exception as error:  # decoders of broken files raise anything
        raise BadImageError(f"{path}: {_cause(error)}") from error
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def image_size(path: str | Path) -> tuple[int, int]:
    """Give width and height after EXIF rotation, from the header alone.

    Raises:
        BadImageError: The header cannot be read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (height, width) if _orientation(image) in {5, 6, 7, 8} else (width, height)
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


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _orientation(image: Image.Image) -> int:
    """Give the EXIF orientation; a damaged EXIF block does not make the pixels unusable."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # the EXIF parser raises anything, from SyntaxError to struct.error
        return 1
    return value if value in range(1, 9) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bit(image)
    elif image.mode == "F":
        raise BadImageError("floating-point pixels have no defined range; convert to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which Pillow's own conversion would clip at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise BadImageError("32-bit pixels outside of 0..65535; convert to 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _cause(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format, or an empty file"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"the image exceeds the limit of {MAX_PIXELS} pixels"
    return f"cannot be decoded ({error})"
