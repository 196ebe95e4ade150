"""Tables of lengths: exact on known lengths, and of the same arithmetic as the published ones."""

import math
import statistics

import numpy as np
import pytest
from hospital import TABLES

from atcon.data.describe import Description, describe
from atcon.data.events import Event
from atcon.errors import InputError

PARTS = ("train", "validation", "test")
CLASSES = tuple(TABLES["train"])
HALF = 0.5 + 1e-9  # of the last digit given


def event(start: float, end: float, label: str = "a", patient: str = "p", part=None) -> Event:
    return Event(f"{start}", "v.mp4", patient, start, end, label, part)


@pytest.fixture
def events() -> list[Event]:
    """Lengths of 1, 2, 4 and 9 s of a, 3.5 s of b; three patients, one with both labels."""
    return [
        event(0, 1, "a", "p", "train"),
        event(10, 12, "a", "p", "train"),
        event(20, 24, "a", "q", "test"),
        event(30.25, 39.25, "a", "r", "test"),
        event(50, 53.5, "b", "q", "test"),
    ]


def test_known_lengths_give_known_numbers(events):
    tables = describe(events)
    assert list(tables) == ["all", "train", "test"]
    whole = tables["all"]
    assert whole.classes["a"] == Description(4, 4.0, 3.0, round(math.sqrt(9.5), 6), 16.0, 3)
    assert whole.classes["b"] == Description(1, 3.5, 3.5, 0.0, 3.5, 1)
    assert whole.all == Description(5, 3.9, 3.5, round(math.sqrt(7.64), 6), 19.5, 3)
    assert tables["train"].classes["a"] == Description(2, 1.5, 1.5, 0.5, 3.0, 1)
    assert tables["train"].classes["b"] == Description(0, None, None, None, 0.0, 0)
    assert tables["test"].all.patients == 2


def test_any_lengths_have_the_statistics_of_the_standard_library():
    random = np.random.default_rng(5)
    found = [
        event(start := float(random.uniform(0, 3600)), start + float(length), "ab"[at % 2], f"{at}")
        for at, length in enumerate(random.exponential(50, 31) + 0.04)
    ]
    for name, row in describe(found)["all"].classes.items():
        seconds = [one.seconds for one in found if one.label == name]
        assert row.windows == row.patients == len(seconds)
        assert row.mean == pytest.approx(statistics.fmean(seconds), abs=1e-6)
        assert row.median == pytest.approx(statistics.median(seconds), abs=1e-6)
        assert row.std == pytest.approx(statistics.pstdev(seconds), abs=1e-6)
        assert row.total == pytest.approx(math.fsum(seconds), abs=1e-6)


def test_a_patient_may_be_given_another_part_or_none(events):
    tables = describe(events, {"p": "validation", "q": "train"})
    assert {part: table.all.windows for part, table in tables.items()} == {
        "all": 5,
        "train": 2,
        "validation": 2,
    }


def test_a_class_called_all_is_a_class(events):
    tables = describe([*events, event(0, 100, "all", "s", "test")])
    assert tables["all"].classes["all"].windows == 1
    assert tables["all"].all.windows == 6


def test_there_must_be_an_event():
    with pytest.raises(InputError, match="no event"):
        describe([])


ROWS = [(part, name, *row) for part, table in TABLES.items() for name, row in table.items()]


def test_no_published_total_deviates_from_windows_times_mean():
    """Totals are whole seconds and means hundredths, so each may be half of that off."""
    deviating = [
        (part, name)
        for part, name, windows, mean, _, _, total, _ in ROWS
        if abs(total - windows * mean) > HALF + windows * 0.01 * HALF
    ]
    assert deviating == []


def test_the_published_classes_add_up_to_all():
    for column in (0, 4):  # windows, total
        of_classes = sum(TABLES["all"][name][column] for name in CLASSES)
        assert of_classes == TABLES["all"]["all"][column]


def test_the_published_parts_add_up_to_all():
    for name in CLASSES:
        for column in (0, 4, 5):  # windows, total; patients, since none is in two parts
            assert sum(TABLES[p][name][column] for p in PARTS) == TABLES["all"][name][column]


def test_the_published_patients_show_several_classes():
    """The 59 patients are no fewer than in any class, and fewer than over all classes."""
    of_class = [TABLES["all"][name][5] for name in CLASSES]
    assert max(of_class) <= TABLES["all"]["all"][5] == 59 < sum(of_class) == 74


def test_the_published_deviations_are_divided_by_n():
    """The deviation of a whole follows from its parts: as published by n, and not by n - 1."""
    wholes = {name: [TABLES[part][name] for part in PARTS] for name in CLASSES}
    wholes["all"] = [TABLES["all"][name] for name in CLASSES]
    for name, parts in wholes.items():
        count, middle, _, published, _, _ = TABLES["all"][name]
        spread = [(n, mean - middle, std) for n, mean, _, std, _, _ in parts]
        by_n = math.sqrt(sum(n * (std**2 + off**2) for n, off, std in spread) / count)
        less = sum((n - 1) * std**2 + n * off**2 for n, off, std in spread)
        assert by_n == pytest.approx(published, abs=0.015)
        assert abs(math.sqrt(less / (count - 1)) - published) > 0.2


def test_the_only_whole_seconds_that_fit_a_published_row_give_it():
    """Chewing in the test part: four events of 333 s have that deviation in one way only."""
    published = TABLES["test"]["chewing"]
    lengths = [4, 5, 84, 240]
    found = [event(0, length, patient="pqrr"[at]) for at, length in enumerate(lengths)]
    row = describe(found)["all"].all
    assert row.median == 44.5  # published as 44
    shown = (row.windows, row.mean, round(row.median), round(row.std, 2), row.total, row.patients)
    assert shown == published
