"""Many images at once: each is decoded once, in parallel, in order, under a stated policy."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from atcon.data.image_set import ImageSet
from atcon.data.images import resize
from atcon.data.policy import OnBadImage, Skips, check_folder
from atcon.errors import BadImageError, InputError
from atcon.types import Example, Pixels

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all."""


@dataclass(frozen=True)
class Decoded:
    """Images, or clips, in memory.

    Attributes:
        pixels: uint8 RGB, all of one size.
        labels: 1 where the class holds, else 0.
        examples: Those that were kept, in the order asked for; row i of the tensors is example i.
        skipped: Name and reason of those that could not be read.
        hashes: SHA-256 by name, of the file (of the pixels where there is no file).
    """

    pixels: UInt8[Tensor, "image 3 *frames size size"]
    labels: Float[Tensor, "image class"]
    examples: tuple[Example, ...]
    skipped: tuple[tuple[str, str], ...]
    hashes: dict[str, str]

    def rows(self, part: slice) -> "Decoded":
        """Some of them; those that were skipped are told again."""
        return replace(
            self,
            pixels=self.pixels[part],
            labels=self.labels[part],
            examples=self.examples[part],
        )


class Reader:
    """Reads images of a set, squashed to `size`, each once: what was tried is kept until taken."""

    def __init__(self, image_set: ImageSet, size: int) -> None:
        self.image_set = image_set
        self.size = size
        self._tried: dict[str, tuple[Pixels, str]] = {}

    def problem(self, example: Example) -> str | None:
        """Why the image cannot be decoded, or None; for `few_shot_split`."""
        try:
            self._tried[example.name] = self._decode(example)
        except BadImageError as error:
            return str(error)
        return None

    def take(self, example: Example) -> tuple[Pixels, str]:
        """Give the pixels and the SHA-256 of an image.

        Raises:
            BadImageError: It cannot be decoded.
        """
        return self._tried.pop(example.name, None) or self._decode(example)

    def _decode(self, example: Example) -> tuple[Pixels, str]:
        pixels = self.image_set.read(example)
        _check_bytes(pixels, example.name)
        content = Path(example.path).read_bytes() if example.path else pixels.numpy().tobytes()
        pixels = resize(pixels, self.size)
        if pixels.shape != self.image_set.shape(self.size):
            raise BadImageError(
                f"{example.name}: shape {list(pixels.shape)}, where the {self.image_set.unit} of "
                f"{self.image_set.name} have {list(self.image_set.shape(self.size))}"
            )
        return pixels, hashlib.sha256(content).hexdigest()


def _check_bytes(pixels: Pixels, name: str) -> None:
    """Refuse what a reader of a user's own gives instead of bytes; cast, it would be other images.

    Raises:
        BadImageError: The pixels are not uint8.
    """
    if pixels.dtype == torch.uint8:
        return
    broken = pixels.is_floating_point() and not bool(pixels.isfinite().all())
    what = "hold values that are not finite" if broken else f"are {pixels.dtype}"
    raise BadImageError(f"{name}: its pixels {what}, where an image set reads uint8, 0 to 255")


def load(
    reader: Reader,
    examples: Sequence[Example],
    on_bad_image: OnBadImage = "skip",
    progress: Progress | None = None,
) -> Decoded:
    """Decode `examples`, in parallel.

    Raises:
        BadImageError: An image cannot be read and the policy is "error".
        InputError: None could be read, or their folder is gone.
    """
    decoded = _decode(reader, examples, Skips(on_bad_image), progress)
    _check_some(reader, decoded, examples)
    return decoded


def stream(
    reader: Reader,
    examples: Sequence[Example],
    batch_size: int,
    on_bad_image: OnBadImage = "skip",
) -> Iterator[Decoded]:
    """Decode in batches, so that memory stays bounded; no batch is empty.

    Every image passed over stands in the `skipped` of exactly one batch.

    Raises:
        BadImageError: An image cannot be read and the policy is "error".
        InputError: None could be read, or their folder is gone.
    """
    if batch_size < 1:
        raise InputError(f"batch_size: {batch_size} is not positive")
    waiting: Decoded | None = None
    for start in range(0, len(examples), batch_size):
        part = examples[start : start + batch_size]
        batch = _decode(reader, part, Skips(on_bad_image), None)
        if waiting is None or not waiting.examples or not batch.examples:
            waiting = batch if waiting is None else _merge_skips(waiting, batch)
            continue
        yield waiting
        waiting = batch
    _check_some(reader, waiting, examples)
    if waiting is not None:
        yield waiting


def _merge_skips(first: Decoded, second: Decoded) -> Decoded:
    kept = first if first.examples else second
    return replace(kept, skipped=first.skipped + second.skipped)


def _check_some(reader: Reader, decoded: Decoded | None, examples: Sequence[Example]) -> None:
    if decoded is not None and examples and not decoded.examples:
        (name, reason), unit = decoded.skipped[0], reader.image_set.unit
        raise InputError(f"none of {len(examples)} {unit} can be read; the first, {name}: {reason}")


def _decode(
    reader: Reader,
    examples: Sequence[Example],
    skips: Skips,
    progress: Progress | None,
) -> Decoded:
    shape = reader.image_set.shape(reader.size)
    pixels = torch.empty(len(examples), *shape, dtype=torch.uint8)
    kept: list[Example] = []
    hashes: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as workers:
        jobs = [workers.submit(reader.take, example) for example in examples]
        try:
            for done, (example, job) in enumerate(zip(examples, jobs, strict=True), 1):
                try:
                    pixels[len(kept)], hashes[example.name] = job.result()
                    kept.append(example)
                except BadImageError as error:
                    if example.path:
                        check_folder(Path(example.path))
                    skips.add(example.name, error)
                if progress is not None:
                    progress(done, len(examples))
        finally:
            workers.shutdown(wait=True, cancel_futures=True)
    labels = torch.zeros(len(kept), len(reader.image_set.classes))
    for row, example in enumerate(kept):
        labels[row, list(example.labels)] = 1
    return Decoded(pixels[: len(kept)], labels, tuple(kept), tuple(skips.entries), hashes)
