"""The VOC animals: what is indexed equals what plain regular expressions count in the files."""

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from atcon.data import VOC_CLASSES, ImageSet, Reader, Split, few_shot_split, load, voc

pytestmark = pytest.mark.realdata

BESIDE = Path(__file__).parents[3] / "shared" / "data"
ROOT = Path(os.environ.get("ATCON_DATA", BESIDE)) / "voc2012-animals"
BASE = ROOT / "VOCdevkit" / "VOC2012"
ANIMALS = ["dog", "cat", "person", "horse", "sheep", "cow"]


@pytest.fixture(scope="module")
def animals() -> ImageSet:
    return voc(ROOT, classes=ANIMALS)


def annotations(part: str) -> dict[str, str]:
    names = (BASE / "ImageSets/Main" / f"{part}.txt").read_text().split()
    return {name: (BASE / "Annotations" / f"{name}.xml").read_text() for name in names}


def test_all_images_are_indexed_without_a_skip_in_under_two_seconds() -> None:
    start = time.perf_counter()
    made = voc(ROOT)
    assert time.perf_counter() - start < 2
    assert (len(made.pool), len(made.test)) == (1608, 1000)
    assert made.classes == VOC_CLASSES
    assert made.skipped == made.notes == ()


@pytest.mark.parametrize(("part", "attribute"), [("train", "pool"), ("val", "test")])
def test_class_counts_equal_an_independent_count(part: str, attribute: str) -> None:
    expected: Counter[str] = Counter()
    for text in annotations(part).values():
        expected.update(set(re.findall(r"<name>(\w+)</name>", text)))
    made = voc(ROOT)
    examples = getattr(made, attribute)
    found = Counter(VOC_CLASSES[label] for example in examples for label in example.labels)
    assert found == expected
    assert found["dog"] > 100


def test_boxes_are_the_annotated_pixels(animals: ImageSet) -> None:
    texts = annotations("val")
    for example in animals.test:
        text = texts[example.name]
        width, height = (int(re.search(rf"<{t}>(\d+)<", text)[1]) for t in ("width", "height"))
        pattern = r"<name>(\w+)</name>.*?<xmin>(\d+)<.*?<ymin>(\d+)<.*?<xmax>(\d+)<.*?<ymax>(\d+)<"
        expected = [
            (name, *map(int, edges))
            for name, *edges in re.findall(pattern, text, re.DOTALL)
            if name in ANIMALS
        ]
        found = [
            (
                ANIMALS[box.label],
                round(box.left * width) + 1,
                round(box.top * height) + 1,
                round(box.right * width),
                round(box.bottom * height),
            )
            for box in example.boxes
        ]
        assert found == expected


def test_annotated_sizes_are_those_of_the_photographs(animals: ImageSet) -> None:
    for example in animals.test[::50]:
        text = (BASE / "Annotations" / f"{example.name}.xml").read_text()
        size = [int(re.search(rf"<{t}>(\d+)<", text)[1]) for t in ("height", "width")]
        assert list(animals.read(example).shape[1:]) == size


@pytest.mark.parametrize("per_class", [2, 4, 16, 120])
def test_the_protocol_of_the_paper_can_be_drawn(animals: ImageSet, per_class: int) -> None:
    drawn = few_shot_split(
        animals, per_class=per_class, validation_images=300, seed=1, test_images=600
    )
    assert [len(drawn.train), len(drawn.validation), len(drawn.test)] == [6 * per_class, 300, 600]
    parts = [{e.name for e in part} for part in (drawn.train, drawn.validation, drawn.test)]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    for label in range(6):
        assert sum(label in example.labels for example in drawn.train) >= per_class
    assert Split.from_record(drawn.to_record({}), animals) == drawn


def test_photographs_are_decoded_and_labelled(animals: ImageSet) -> None:
    decoded = load(Reader(animals, 96), animals.pool[:40])
    assert decoded.skipped == ()
    assert decoded.pixels.shape == (40, 3, 96, 96)
    assert 60 < decoded.pixels.float().mean() < 180
    assert decoded.pixels.float().std((1, 2, 3)).min() > 15
    assert decoded.labels.sum().item() == sum(len(e.labels) for e in decoded.examples)
