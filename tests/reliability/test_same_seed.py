"""Promise 4: the same seed gives the same bits, however many read the images.

A run decodes its images once, in threads, before it trains, and has no loader workers. In a loop of
one's own a `DataLoader` may have any number of them.
"""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from pipeline import content_of, make_folder, tiny, without_seconds
from tiny import network
from torch.utils.data import DataLoader, Dataset

from atcon.consistency import ConsistencyLoss, MaskOptions
from atcon.data import Reader, few_shot_split, folder, load, loading, stream
from atcon.experiments.run import run
from atcon.records import read_json, read_lines

WORKERS = (0, 1, 4)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Eighteen photographs in three classes, and nine that are left for the test; one is broken."""
    root = make_folder(tmp_path_factory.mktemp("images"))
    (root / "green" / "03.jpg").write_bytes(b"no image")
    return folder(root)


def threads(monkeypatch, count):
    """Let so many threads decode."""
    monkeypatch.setattr(loading.os, "cpu_count", lambda: count)


def jumbled(image_set, seed):
    """Let each image take a time of its own, so that threads end in another order."""
    order, read = np.random.default_rng(seed), image_set.read

    def slowly(example):
        time.sleep(order.random() / 200)
        return read(example)

    return replace(image_set, read=slowly)


def split_with(image_set, size=12):
    reader = Reader(image_set, size)
    split = few_shot_split(
        image_set, per_class=3, validation_images=3, seed=1, problem=reader.problem
    )
    return reader, split


@pytest.mark.parametrize("count", [1, 4])
def test_splits_pixels_and_skips_do_not_depend_on_how_many_decode(images, count, monkeypatch):
    threads(monkeypatch, 2)
    reader, split = split_with(images)
    expected = load(reader, images.pool)
    threads(monkeypatch, count)
    reader, again = split_with(jumbled(images, seed=count))
    found = load(reader, images.pool)
    assert again == split
    assert [example.name for example in found.examples] == [e.name for e in expected.examples]
    assert found.skipped == expected.skipped
    assert [name for name, _ in found.skipped] == ["green/03.jpg"]
    assert found.hashes == expected.hashes
    assert torch.equal(found.pixels, expected.pixels)
    assert torch.equal(found.labels, expected.labels)
    parts = list(stream(reader, images.pool, 5))
    assert torch.equal(torch.cat([part.pixels for part in parts]), expected.pixels)


class Photographs(Dataset):
    """The images of a set, normalised."""

    def __init__(self, image_set):
        self.reader = Reader(image_set, 12)
        self.examples = load(Reader(image_set, 12), image_set.pool).examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        pixels, _ = self.reader.take(self.examples[index])
        return pixels.float() / 255 - 0.5


def losses_of(image_set, workers, seed=0):
    """Two epochs of fine-tuning in a loop of one's own, with masks that are drawn; every loss."""
    torch.manual_seed(seed)
    model = network("plain", dtype=torch.float32)
    loss = ConsistencyLoss(
        model,
        mask_options=MaskOptions(strength=(0.2, 1.0), noise=1.0),
        generator=torch.Generator().manual_seed(seed),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        Photographs(image_set), 5, shuffle=True, num_workers=workers, generator=order
    )
    found = []
    for _ in range(2):
        for batch in loader:
            optimizer.zero_grad()
            value = loss(batch)
            value.backward()
            optimizer.step()
            found.append(float(value.detach()))
    return found, [weight.detach().clone() for weight in model.parameters()]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
def test_losses_and_weights_are_bitwise_equal_with_0_1_and_4_loader_workers(images):
    expected, weights = losses_of(images, 0)
    assert len(set(expected)) == len(expected) == 8
    for workers in WORKERS:
        found, others = losses_of(images, workers)
        assert found == expected
        assert all(map(torch.equal, others, weights))
    assert losses_of(images, 0, seed=1)[0] != expected


@pytest.mark.slow
def test_a_run_is_the_same_to_the_bit_twice_whoever_decodes(tmp_path, monkeypatch):
    config = tiny("consistency.mask_strength=[0.2, 1]", "consistency.mask_noise=1")
    for name, count in (("a", 1), ("b", 4), ("c", 4)):
        threads(monkeypatch, count)
        run(config, tmp_path / name)
    first = tmp_path / "a"
    for other in (tmp_path / "b", tmp_path / "c"):
        ours, theirs = content_of(first), content_of(other)
        assert ours.keys() == theirs.keys()
        clocked = {"summary.json", "metrics.jsonl", "environment.json"}
        clocked |= {name for name in ours if name.startswith("checkpoints/") and "json" in name}
        same = ours.keys() - clocked
        assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
        assert ours["split.json"] == theirs["split.json"]
        for one, two in zip(
            *(read_lines(place / "metrics.jsonl") for place in (first, other)), strict=True
        ):
            assert without_seconds(one) == without_seconds(two)
        summaries = [read_json(place / "summary.json") for place in (first, other)]
        assert without_seconds(summaries[0]) == without_seconds(summaries[1])
