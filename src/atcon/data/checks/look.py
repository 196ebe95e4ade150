"""What is kept of an image after it was read once: hashes and sizes, never its pixels."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from os import cpu_count

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from torch import Tensor

from atcon.data.image_set import ImageSet
from atcon.data.images import resize
from atcon.errors import BadImageError
from atcon.types import Example

_SIDE = 64
_WAVES = 8  # of the cosine transform, a side: 64 bits
_FLAT = 4.0  # levels of standard deviation: below, a hash is one of noise
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Look:
    """One image that could be read.

    Attributes:
        digest: SHA-256 of its pixels and their shape.
        hash: 64 bits (pHash): which coarse waves of its cosine transform lie above their median.
        thumbnail: Its colours on 8 x 8 cells.
        size: Width and height.
        mode: Pillow's name of the file's pixel format; None where there is no file that it knows.
        constant: All its pixels are equal.
        flat: It has too little contrast for the hash to mean anything.
    """

    digest: bytes
    hash: int
    thumbnail: NDArray[np.uint8]
    size: tuple[int, int]
    mode: str | None
    constant: bool
    flat: bool


def look_at(image_set: ImageSet, example: Example) -> Look:
    """Read one image, or clip, of a set.

    Raises:
        BadImageError: It cannot be decoded.
    """
    pixels = image_set.read(example)
    content = np.ascontiguousarray(pixels.numpy())
    digest = hashlib.sha256(str(content.shape).encode())
    digest.update(content.data)
    small = resize(_still(pixels), _SIDE).numpy().astype(np.float32)
    thumbnail = small.reshape(len(small), 8, _SIDE // 8, 8, _SIDE // 8).mean(axis=(2, 4))
    waves = dctn(small.mean(axis=0), norm="ortho")[:_WAVES, :_WAVES].ravel()
    bits = np.packbits(waves > np.median(waves[1:]))  # the first is the mean brightness
    return Look(
        digest=digest.digest(),
        hash=int.from_bytes(bits.tobytes(), "big"),
        thumbnail=thumbnail.round().astype(np.uint8),
        size=(content.shape[-1], content.shape[-2]),
        mode=_mode(example),
        constant=bool(content.min() == content.max()),
        flat=bool(thumbnail.mean(axis=0).std() < _FLAT),
    )


def look_at_all(
    image_set: ImageSet, examples: Sequence[Example], advance: Callable[[int], None]
) -> Iterator[Look | str]:
    """Read images in parallel and in order; of one that cannot be read, give the reason.

    Args:
        image_set: Whose they are.
        examples: Which ones.
        advance: Is told how many more were read.
    """

    def look_or_reason(example: Example) -> Look | str:
        try:
            return look_at(image_set, example)
        except BadImageError as error:
            return str(error)

    with ThreadPoolExecutor(max_workers=min(8, cpu_count() or 1)) as workers:
        for start in range(0, len(examples), _CHUNK):  # so that a stop by the user is obeyed soon
            chunk = examples[start : start + _CHUNK]
            for seen in workers.map(look_or_reason, chunk):
                advance(1)
                yield seen


def _still(pixels: Tensor) -> Tensor:
    """Of a clip [3, T, H, W], give the mean over its frames."""
    return pixels if pixels.ndim == 3 else pixels.float().mean(dim=1).round().to(pixels.dtype)


def _mode(example: Example) -> str | None:
    with suppress(Exception):  # what Pillow does not know is read by other means, and has no mode
        if example.path is not None:
            with Image.open(example.path) as image:
                return image.mode
    return None
