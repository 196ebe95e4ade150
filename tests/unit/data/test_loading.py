import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atcon.data import ImageSet, Reader, load, resize, stream
from atcon.data.images import read_file
from atcon.errors import BadImageError, InputError
from atcon.types import Example

BAD = (2, 3, 7)


@pytest.fixture
def images(save) -> ImageSet:
    """Hold eight images of random pixels; those of `BAD` are truncated."""
    generator = np.random.default_rng(0)
    examples = []
    for index in range(8):
        path = save(f"{index}.png", generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        if index in BAD:
            path.write_bytes(path.read_bytes()[:80])
        examples.append(Example(f"n{index}", (index % 3,), path=str(path)))
    return ImageSet("made", ("x", "y", "z"), True, tuple(examples), (), read_file)


def test_loading_keeps_the_order_and_names_what_it_skips(images):
    decoded = load(Reader(images, 6), images.pool)
    kept = [example for i, example in enumerate(images.pool) if i not in BAD]
    assert list(decoded.examples) == kept
    assert [name for name, _ in decoded.skipped] == ["n2", "n3", "n7"]
    assert all(f"{i}.png" in reason for i, (_, reason) in zip(BAD, decoded.skipped, strict=True))
    for row, example in enumerate(kept):
        assert torch.equal(decoded.pixels[row], resize(images.read(example), 6))
        assert decoded.labels[row].nonzero().flatten().tolist() == list(example.labels)
        content = Path(example.path).read_bytes()
        assert decoded.hashes[example.name] == hashlib.sha256(content).hexdigest()
    assert set(decoded.hashes) == {example.name for example in kept}


def test_the_policy_error_ends_at_the_first_bad_image(images):
    with pytest.raises(BadImageError, match=r"2\.png"):
        load(Reader(images, 6), images.pool, on_bad_image="error")
    with pytest.raises(BadImageError, match=r"2\.png"):
        list(stream(Reader(images, 6), images.pool, 3, on_bad_image="error"))


def test_an_unknown_policy_is_named(images):
    with pytest.raises(InputError, match="'ignore' is not a policy"):
        load(Reader(images, 6), images.pool, on_bad_image="ignore")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 100])
def test_a_stream_holds_what_loading_holds(images, batch_size):
    whole = load(Reader(images, 6), images.pool)
    batches = list(stream(Reader(images, 6), images.pool, batch_size))
    assert all(1 <= len(batch.examples) <= batch_size for batch in batches)
    assert torch.equal(torch.cat([batch.pixels for batch in batches]), whole.pixels)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), whole.labels)
    assert sum((batch.examples for batch in batches), ()) == whole.examples
    assert sum((batch.skipped for batch in batches), ()) == whole.skipped
    assert {k: v for batch in batches for k, v in batch.hashes.items()} == whole.hashes


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_stream_that_starts_with_bad_images_tells_of_them(images, batch_size):
    examples = [images.pool[i] for i in (2, 3, 0)]
    (batch,) = stream(Reader(images, 6), examples, batch_size)
    assert [e.name for e in batch.examples] == ["n0"]
    assert [name for name, _ in batch.skipped] == ["n2", "n3"]


def test_nothing_readable_is_an_error_that_names_the_first(images):
    bad = [images.pool[i] for i in BAD]
    with pytest.raises(InputError, match=r"none of 3 images can be read; the first, n2: .*2\.png"):
        load(Reader(images, 6), bad)
    with pytest.raises(InputError, match="none of 3 images"):
        list(stream(Reader(images, 6), bad, 2))


def test_no_examples_give_no_batches(images):
    assert list(stream(Reader(images, 6), [], 2)) == []
    assert load(Reader(images, 6), []).pixels.shape == (0, 3, 6, 6)


def test_a_batch_size_of_zero_is_refused(images):
    with pytest.raises(InputError, match="batch_size: 0"):
        list(stream(Reader(images, 6), images.pool, 0))


def test_an_image_without_labels_has_a_row_of_zeros(images):
    decoded = load(Reader(images, 6), [replace(images.pool[0], labels=()), images.pool[1]])
    assert decoded.labels.tolist() == [[0, 0, 0], [0, 1, 0]]


def test_progress_counts_every_image_once(images):
    seen: list[tuple[int, int]] = []
    load(Reader(images, 6), images.pool, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 8) for i in range(8)]


def test_each_image_is_decoded_once_also_when_it_was_tried_for_the_split(images):
    opened: list[str] = []

    def read(example):
        opened.append(example.name)
        return read_file(example)

    counted = ImageSet("made", images.classes, True, images.pool, (), read)
    reader = Reader(counted, 6)
    usable = [example for example in counted.pool if reader.problem(example) is None]
    list(stream(reader, usable, 3))
    assert sorted(opened) == sorted(example.name for example in images.pool)


def test_what_can_be_read_agrees_with_decoding(images):
    reader = Reader(images, 6)
    assert [i for i, example in enumerate(images.pool) if reader.problem(example)] == list(BAD)


def clips_of(frames: dict[str, int]) -> ImageSet:
    """Clips by name, each with so many frames; the set says four."""
    examples = tuple(Example(name, (0,)) for name in frames)

    def read(example: Example) -> torch.Tensor:
        return torch.full((3, frames[example.name], 6, 8), len(example.name), dtype=torch.uint8)

    return ImageSet("clips", ("a", "b"), False, examples, (), read, frames=4, rate=4.0)


def test_clips_are_decoded_with_their_frames_squashed_to_the_size():
    made = clips_of({"one": 4, "three": 4})
    decoded = load(Reader(made, 5), made.pool)
    assert decoded.pixels.shape == (2, 3, 4, 5, 5)
    assert decoded.pixels.flatten(1).amax(1).tolist() == [3, 5]


def test_a_clip_of_another_length_is_skipped_by_name():
    made = clips_of({"good": 4, "longer": 5})
    decoded = load(Reader(made, 5), made.pool)
    assert [example.name for example in decoded.examples] == ["good"]
    ((name, reason),) = decoded.skipped
    assert name == "longer"
    assert "longer: shape [3, 5, 5, 5], where the clips of clips have [3, 4, 5, 5]" in reason
