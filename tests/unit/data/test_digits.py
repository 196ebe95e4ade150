from importlib import import_module
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from atcon.data import Reader, digits, digits_source, few_shot_split, load
from atcon.data.digits import MAX_DIGITS, MAX_OVERLAP, SIDE, TASKS
from atcon.errors import InputError

GROUND = 120


@pytest.fixture
def flat(monkeypatch) -> None:
    """Leave nothing in a scene but the digits, on an even ground."""
    module = import_module("atcon.data.digits")  # the package's `digits` is the function
    photographs = [Image.new("RGB", (640, 427), (GROUND,) * 3)]
    monkeypatch.setattr(module, "_photographs", lambda: photographs)
    for name, value in {"STROKES": (0, 0), "FRAGMENTS": (0, 0), "NOISE": 0.0}.items():
        monkeypatch.setattr(module, name, value)


def small(**options):
    return digits(**{"pool": 60, "validation": 40, "test": 50} | options)


def parts_of(made) -> dict[str, tuple]:
    return {"train": made.pool, "validation": made.validation, "test": made.test}


def test_scenes_are_the_same_whenever_and_in_whatever_order_they_are_composed():
    made, again = small(), small()
    for part, examples in parts_of(made).items():
        assert examples == parts_of(again)[part]
    forwards = [made.read(example) for example in made.test[:20]]
    torch.manual_seed(1)
    backwards = [again.read(example) for example in again.test[:20][::-1]][::-1]
    assert all(map(torch.equal, forwards, backwards))
    assert torch.equal(
        load(Reader(made, 64), made.test).pixels, load(Reader(again, 64), again.test).pixels
    )


def test_composing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    made = small()
    made.read(made.pool[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_a_larger_set_begins_with_the_smaller_one():
    assert small(pool=80).pool[:60] == small().pool


def test_no_two_scenes_are_alike_over_parts_seeds_and_tasks():
    sets = [small(), small(seed=1), digits_source(pool=60, validation=40)]
    scenes = [m.read(e).numpy().tobytes() for m in sets for p in parts_of(m).values() for e in p]
    assert len(scenes) == 60 * 3 + 40 * 3 + 50 * 2
    assert len(set(scenes)) == len(scenes)


def test_names_are_unique_and_labels_are_those_of_the_boxes():
    made = small()
    everything = [e for part in parts_of(made).values() for e in part]
    assert len({e.name for e in everything}) == len(everything)
    for example in everything:
        assert example.labels == tuple(sorted({box.label for box in example.boxes}))
        assert 1 <= len(example.boxes) <= MAX_DIGITS
        for box in example.boxes:
            assert 0 <= box.left < box.right <= 1
            assert 0 <= box.top < box.bottom <= 1
    assert {len(e.boxes) for e in everything} == set(range(1, MAX_DIGITS + 1))


def test_digits_of_a_scene_hardly_overlap():
    for example in small(pool=200).pool:
        for one, two in combinations(example.boxes, 2):
            width = min(one.right, two.right) - max(one.left, two.left)
            height = min(one.bottom, two.bottom) - max(one.top, two.top)
            areas = [(b.right - b.left) * (b.bottom - b.top) for b in (one, two)]
            assert max(width, 0) * max(height, 0) <= MAX_OVERLAP * min(areas) + 1e-9


@pytest.mark.usefixtures("flat")
def test_all_ink_lies_in_the_boxes_and_reaches_every_edge_of_them():
    made = small()
    for example in made.pool:
        ink = (made.read(example).int() - GROUND).abs().amax(0)
        outside = ink.clone()
        for box in example.boxes:
            left, top, right, bottom = (round(SIDE * edge) for edge in box[1:])
            inside = ink[top:bottom, left:right]
            edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
            assert min(int(edge.max()) for edge in edges) > 0.1 * int(ink.max())
            assert (inside > 0.2 * int(ink.max())).double().mean() > 0.1
            outside[top:bottom, left:right] = 0
        assert outside.max() <= 0.25 * 255


def test_every_writer_writes_for_one_part_of_one_task_only():
    blocks = sorted(block for task in TASKS.values() for block in task.writers.values())
    assert all(start < end for start, end in blocks)
    assert all(end <= start for (_, end), (start, _) in pairwise(blocks))
    assert blocks[-1][1] <= len(load_digits().images)
    assert not set(TASKS["source"].classes) & set(TASKS["few_shot"].classes)


def test_no_handwritten_digit_occurs_in_two_blocks():
    images = load_digits().images
    seen = [
        {image.tobytes() for image in images[start:end]}
        for task in TASKS.values()
        for start, end in task.writers.values()
    ]
    assert all(not one & two for one, two in combinations(seen, 2))


@pytest.mark.usefixtures("flat")
def test_a_scene_shows_the_digit_it_is_labelled_with():
    made = small(pool=150)
    written = load_digits()
    known = np.isin(written.target, TASKS["few_shot"].classes)
    targets = written.target[known]
    prototypes = {c: written.images[known][targets == c].mean(0) for c in set(targets)}
    right, count = 0, 0
    for example in (e for e in made.pool if len(e.boxes) == 1):
        ink = (made.read(example).float() - GROUND).abs().amax(0)
        left, top, width, height = _square(example.boxes[0])
        crop = Image.fromarray(ink.numpy()).crop((left, top, left + width, top + height))
        seen = np.asarray(crop.resize((8, 8), Image.Resampling.BOX))
        scores = {c: np.corrcoef(seen.ravel(), p.ravel())[0, 1] for c, p in prototypes.items()}
        right += str(max(scores, key=scores.get)) == made.classes[example.boxes[0].label]
        count += 1
    assert count > 20
    assert right / count > 0.6  # chance: 0.2


def _square(box) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(SIDE * edge) for edge in box[1:])
    side = bottom - top
    return (left + right - side) // 2, top, side, side


def test_every_class_is_well_filled_in_every_part():
    made = digits()
    assert made.classes == ("5", "6", "7", "8", "9")
    assert made.multi_label
    assert [len(part) for part in parts_of(made).values()] == [400, 150, 400]
    for part in parts_of(made).values():
        for label in range(5):
            assert 0.2 < sum(label in e.labels for e in part) / len(part) < 0.5


def test_the_source_task_has_the_other_digits_and_no_test_part():
    source = digits_source(pool=50, validation=20)
    assert source.classes == ("0", "1", "2", "3", "4")
    assert [len(part) for part in parts_of(source).values()] == [50, 20, 0]


def test_a_few_shot_split_of_digits_needs_no_files():
    drawn = few_shot_split(small(pool=200), per_class=8, validation_images=40, seed=0)
    assert (len(drawn.train), len(drawn.validation), len(drawn.test)) == (40, 40, 50)
    assert {e.name.split("-")[0] for e in drawn.validation} == {"validation"}


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(InputError, match="'letters' is no task; use one of few_shot, source"):
        digits("letters")
