import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from atcon.data import Split, few_shot_split
from atcon.errors import InputError
from atcon.types import Box

LABELS = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)] * 10


def names(examples) -> list[str]:
    return [example.name for example in examples]


def split(image_set, seed=0, **options) -> Split:
    return few_shot_split(
        image_set, **{"per_class": 4, "validation_images": 12, "seed": seed} | options
    )


def test_the_parts_are_disjoint_and_complete_for_200_seeds(names_only):
    made = names_only(LABELS)
    for seed in range(200):
        drawn = split(made, seed)
        train, validation, test = map(names, (drawn.train, drawn.validation, drawn.test))
        everything = train + validation + test
        assert len(set(everything)) == len(everything)
        assert (len(train), len(validation), len(test)) == (12, 12, 4)
        for label in range(3):
            assert sum(label in example.labels for example in drawn.train) >= 4


def test_an_image_is_drawn_for_one_class_and_keeps_all_its_labels(names_only):
    made = names_only(LABELS)
    drawn = split(made)
    assert set(drawn.train) <= set(made.pool)
    for label in range(3):
        group = drawn.train[4 * label : 4 * (label + 1)]
        assert all(label in example.labels for example in group)


def test_seeds_decide_and_nothing_else_does(names_only):
    made = names_only(LABELS)
    first = split(made, 5)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state is what must not matter
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert split(made, 5) == first
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert split(made, 6) != first


def test_the_order_of_the_files_does_not_matter(names_only):
    made = names_only(LABELS)
    backwards = replace(made, pool=made.pool[::-1])
    assert split(backwards, 3) == split(made, 3)


def test_more_images_per_class_leave_the_validation_images_alone(names_only):
    made = names_only(LABELS)
    few, many = split(made, per_class=2), split(made, per_class=6)
    assert few.validation == many.validation
    assert len(many.train) == 18


def test_every_image_can_be_drawn(names_only):
    made = names_only(LABELS)
    seen = {name for seed in range(100) for name in names(split(made, seed).train)}
    assert seen == set(names(made.pool))


def test_an_images_chance_does_not_depend_on_its_place(names_only):
    made = names_only([(0,)] * 10 + [(1,)] * 10 + [(2,)] * 10)
    counts = dict.fromkeys(names(made.pool), 0)
    for seed in range(300):
        for name in names(split(made, seed, per_class=2, validation_images=3).train):
            counts[name] += 1
    assert min(counts.values()) > 30
    assert max(counts.values()) < 95


def hall_holds(labels, per_class: int) -> bool:
    """Tell whether every set of classes has N images for each of them (Hall's theorem)."""
    groups = [set(g) for size in (1, 2, 3) for g in combinations(range(3), size)]
    return all(sum(bool(g & set(row)) for row in labels) >= per_class * len(g) for g in groups)


def test_a_draw_fails_exactly_where_no_draw_exists(names_only):
    generator = np.random.default_rng(0)
    kinds = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    outcomes = []
    for seed in range(300):
        labels = [kinds[i] for i in generator.integers(len(kinds), size=6)]
        made = names_only(labels, validation=[(0,)])
        outcomes.append(hall_holds(labels, 2))
        if outcomes[-1]:
            assert len(split(made, seed, per_class=2, validation_images=1).train) == 6
        else:
            with pytest.raises(InputError, match="2 are needed"):
                split(made, seed, per_class=2, validation_images=1)
    assert 50 < sum(outcomes) < 250


def test_too_few_images_name_class_have_need_and_the_largest_n(names_only):
    made = names_only([(0,)] * 9 + [(1,)] * 3 + [(2,)] * 9, validation=[(0,)] * 2)
    message = "class 'y' of made has 3 images .* 4 are needed.* possible is 3"
    with pytest.raises(InputError, match=message):
        split(made, validation_images=2)
    assert len(split(made, validation_images=2, per_class=3).train) == 9


def test_the_largest_n_counts_images_that_classes_share(names_only):
    made = names_only([(0, 1)] * 5 + [(2,)] * 9, validation=[(0,)])
    with pytest.raises(InputError, match=r"needed by other classes.*possible is 2"):
        split(made, validation_images=1, per_class=3)
    assert len(split(made, validation_images=1, per_class=2).train) == 6


def test_an_empty_class_is_named(names_only):
    with pytest.raises(InputError, match="class 'z' of made has no image"):
        split(names_only([(0,), (1,)] * 20), per_class=1)


def test_validation_images_must_leave_enough_to_draw_from(names_only):
    with pytest.raises(InputError, match=r"class '.' of made has .* images besides 50 validation"):
        split(names_only(LABELS), validation_images=50)


def test_more_validation_images_than_the_pool_holds_is_an_error(names_only):
    with pytest.raises(InputError, match=r"validation_images: 61 .* holds 60"):
        split(names_only(LABELS), validation_images=61)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 0}, "data.per_class: 0"),
        ({"validation_images": -1}, "data.validation_images: -1"),
        ({"seed": -1}, "seed: -1"),
        ({"test_images": 5}, "data.test_images: 5 are asked for, but made has 4"),
        ({"test_images": 0}, "data.test_images: 0"),
    ],
)
def test_a_request_that_makes_no_sense_names_its_key(names_only, options, message):
    with pytest.raises(InputError, match=message):
        split(names_only(LABELS), **options)


def test_validation_images_come_from_the_sets_own_part(names_only):
    made = names_only(LABELS, validation=[(0,)] * 20)
    drawn = split(made)
    assert set(drawn.validation) <= set(made.validation)
    assert len(drawn.validation) == 12


def test_an_image_in_two_parts_is_refused(names_only):
    made = names_only(LABELS)
    with pytest.raises(InputError, match="1 images are in the training pool and also held out"):
        split(replace(made, test=(*made.test, made.pool[0])))


def test_a_subset_of_the_test_images_is_seeded_and_grows_with_its_size(names_only):
    made = names_only(LABELS, test=30)
    small, large = (set(split(made, 1, test_images=n).test) for n in (5, 9))
    assert len(small) == 5
    assert small < large < set(made.test)
    assert set(split(made, 2, test_images=5).test) != small
    assert set(split(made, 1, test_images=5, per_class=2).test) == small


def test_unreadable_candidates_are_replaced_and_named(names_only):
    made = names_only(LABELS)
    plain = split(made)
    bad = {plain.train[0].name, plain.validation[0].name}
    asked: list[str] = []

    def problem_of(example):
        asked.append(example.name)
        return "truncated" if example.name in bad else None

    drawn = split(made, problem=problem_of)
    assert not bad & set(names((*drawn.train, *drawn.validation)))
    assert (len(drawn.train), len(drawn.validation)) == (12, 12)
    assert {name for name, _ in drawn.skipped} == bad
    assert len(set(asked)) == len(asked)
    assert not set(asked) & set(names(made.test))


def test_unreadable_images_do_not_count_as_images_of_a_class(names_only):
    made = names_only([(0,), (1,), (2,)] * 5, validation=[(0,)])
    with pytest.raises(InputError, match=r"class 'x' of made has 3 images .*possible is 3"):
        split(
            made,
            validation_images=1,
            problem=lambda e: "broken" if e.name in {"pool000", "pool003"} else None,
        )


def test_a_record_survives_json_and_finds_the_same_images(names_only):
    made = names_only(LABELS)
    drawn = split(made)
    record = json.loads(json.dumps(drawn.to_record({drawn.train[0].name: "ab"})))
    assert Split.from_record(record, made) == drawn
    assert record["train"][0]["sha256"] == "ab"
    assert record["test"][0] == {"name": "test000", "labels": ["x"], "sha256": None}
    assert [len(record[part]) for part in ("train", "validation", "test")] == [12, 12, 4]


def test_a_record_refuses_images_that_went_missing_or_changed_their_labels(names_only):
    made = names_only(LABELS)
    drawn = split(made)
    record = drawn.to_record({})
    name = drawn.train[0].name
    gone = replace(made, pool=tuple(e for e in made.pool if e.name != name))
    with pytest.raises(InputError, match=f"{name} is no longer in made"):
        Split.from_record(record, gone)
    other = {(0,): (1,)}
    changed = tuple(
        replace(e, labels=other.get(e.labels, (0,))) if e.name == name else e for e in made.pool
    )
    with pytest.raises(InputError, match=rf"labels of {name} were \['.*are now"):
        Split.from_record(record, replace(made, pool=changed))
    with pytest.raises(InputError, match=r"its classes .* are not those of made"):
        Split.from_record(record, replace(made, classes=("x", "y", "w")))


@pytest.mark.parametrize("damage", [{"train": None}, {"train": [{"name": "pool000"}]}, {"test": 3}])
def test_a_damaged_record_is_an_input_error(names_only, damage):
    made = names_only(LABELS)
    with pytest.raises(InputError, match=r"split\.json: not a record of a split"):
        Split.from_record(split(made).to_record({}) | damage, made)


def test_boxes_play_no_part_in_the_draw(names_only):
    made = names_only(LABELS)
    boxed = tuple(replace(e, boxes=(Box(0, 0.0, 0.0, 1.0, 1.0),)) for e in made.pool)
    assert names(split(replace(made, pool=boxed)).train) == names(split(made).train)
    assert "box" not in json.dumps(split(replace(made, pool=boxed)).to_record({}))
