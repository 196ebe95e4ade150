from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from atcon.data import balanced_parts, few_shot_split, group_of, left_over
from atcon.errors import InputError

THIRDS = {"train": 1 / 3, "validation": 1 / 3, "test": 1 / 3}


def recordings(seed: int) -> tuple[list[str], list[list[int]]]:
    """Samples of 24 patients: one to nine each, mostly of one class."""
    generator = np.random.default_rng(seed)
    groups, labels = [], []
    for patient in range(24):
        for _ in range(generator.integers(1, 10)):
            groups.append(f"patient {patient}")
            labels.append([patient % 3 if generator.random() < 0.8 else generator.integers(3)])
    return groups, labels


def test_parts_keep_groups_whole_and_are_close_to_their_shares():
    for seed in range(20):
        groups, labels = recordings(seed)
        found = balanced_parts(groups, labels, THIRDS, classes=3, seed=seed)
        assert set(found.parts) == set(groups)
        assert found.worst < 0.1
        assert sum(found.shares.values()) == pytest.approx(1)
        for label in range(3):
            held = {part: found.class_shares[part][label] for part in THIRDS}
            counted = dict.fromkeys(THIRDS, 0.0)
            of_class = [g for g, ls in zip(groups, labels, strict=True) if label in ls]
            for group in of_class:
                counted[found.parts[group]] += 1 / len(of_class)
            assert held == pytest.approx(counted)


def test_the_search_finds_the_best_division_of_a_small_set():
    """Samples and groups shared out, a group's share a quarter of a sample's in squares."""
    generator = np.random.default_rng(0)
    halves = np.array(list(product([False, True], repeat=8)))
    for seed in range(10):
        sizes = generator.integers(1, 30, 8)
        groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
        found = balanced_parts(
            groups, [[0]] * len(groups), {"a": 0.5, "b": 0.5}, classes=1, seed=seed
        )
        of_samples = np.abs(halves @ sizes / sizes.sum() - 0.5)
        cost = 2 * of_samples**2 + (halves.mean(axis=1) - 0.5) ** 2 / 4
        half = np.array([found.parts[f"g{i}"] == "a" for i in range(8)])
        assert cost[(halves == half).all(axis=1)] == pytest.approx(cost.min())
        assert of_samples.min() - 1e-9 <= found.worst <= of_samples.min() + 0.03


def test_a_group_with_a_third_of_a_class_is_not_all_that_a_part_knows_of_it():
    """By samples alone that were the best division: 12, 12 and 12."""
    groups = ["large"] * 12 + [f"g{i}" for i in range(24)]
    for seed in range(10):
        found = balanced_parts(groups, [[0]] * 36, THIRDS, classes=1, seed=seed)
        assert min(Counter(found.parts.values()).values()) >= 3
        assert found.worst < 0.1


def test_a_class_is_in_every_part_where_that_is_possible():
    groups = [f"g{i}" for i in range(12)]
    labels = [[0]] * 9 + [[1]] * 3  # three groups of the rare class, three parts
    found = balanced_parts(groups, labels, THIRDS, classes=2, seed=0)
    assert {found.parts[group] for group in groups[9:]} == set(THIRDS)


def test_the_seed_and_not_the_order_of_the_samples_decides():
    groups, labels = recordings(0)
    first = balanced_parts(groups, labels, THIRDS, classes=3, seed=1)
    turned = balanced_parts(groups[::-1], labels[::-1], THIRDS, classes=3, seed=1)
    assert turned.parts == first.parts


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(InputError, match="2 groups cannot be divided among 3 parts"):
        balanced_parts(["a", "b"], [[0], [0]], THIRDS, classes=1, seed=0)
    with pytest.raises(InputError, match="add up to 1"):
        balanced_parts(["a", "b"], [[0], [0]], {"a": 0.5, "b": 0.2}, classes=1, seed=0)


@pytest.fixture
def grouped(names_only):
    made = names_only([(i % 3,) for i in range(120)])
    pool = tuple(replace(e, group=f"pool {i // 4}") for i, e in enumerate(made.pool))
    test = tuple(replace(e, group=f"test {i // 4}") for i, e in enumerate(made.test))
    return replace(made, pool=pool, test=test)


def test_no_group_is_in_two_parts_of_a_few_shot_split(grouped):
    for seed in range(100):
        drawn = few_shot_split(grouped, per_class=4, validation_images=14, seed=seed)
        assert (len(drawn.train), len(drawn.validation)) == (12, 14)
        parts = [
            {group_of(example) for example in part}
            for part in (drawn.train, drawn.validation, left_over(grouped, drawn), drawn.test)
        ]
        assert sum(map(len, parts)) == len(set().union(*parts))


def test_a_record_of_a_split_keeps_the_groups(grouped):
    drawn = few_shot_split(grouped, per_class=2, validation_images=4, seed=0)
    record = drawn.to_record({})
    assert record["train"][0]["group"] == drawn.train[0].group
    assert type(drawn).from_record(record, grouped) == drawn


def test_a_group_in_two_parts_of_a_data_set_is_refused_by_name(grouped):
    leaking = replace(grouped.test[0], group=grouped.pool[0].group)
    broken = replace(grouped, test=(leaking, *grouped.test[1:]))
    with pytest.raises(InputError, match=r"group 'pool 0' is in the train part and in the test"):
        few_shot_split(broken, per_class=2, validation_images=4, seed=0)
