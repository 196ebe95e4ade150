import pytest
from grid_records import LIFT, cell_of, small_experiment, small_records

from atcon.errors import InputError
from atcon.experiments.grid import Cell
from atcon.experiments.grid_page import page_of


@pytest.fixture
def experiment(tmp_path):
    return small_experiment(tmp_path)


@pytest.fixture
def page(experiment):
    return page_of(experiment, small_records(experiment))


def test_a_gain_that_is_the_same_everywhere_is_that_gain_without_doubt(page):
    (gain, _) = page["gains"]
    assert (gain["metric"], gain["against"]) == ("map", "supervised")
    for stage, lift in LIFT.items():
        if stage != "supervised":
            for mark in gain["arms"][stage]:
                ends = mark["value"], mark["low"], mark["high"]
                assert ends == pytest.approx((lift, lift, lift), abs=0.011)
                assert mark["clear"]


def test_what_a_stage_is_compared_with_is_no_row_of_its_own(page):
    assert "supervised" not in page["gains"][0]["arms"]
    assert list(page["values"][0]["arms"]) == list(LIFT)


def test_a_metric_that_no_cell_has_is_empty_and_not_an_error(page):
    assert page["gains"][1]["arms"]["consistency"] == [None, None]
    assert page["values"][1]["arms"]["consistency"][0]["value"] is None


def test_the_values_are_means_over_seeds(page):
    first, second = page["values"][0]["arms"]["consistency"]
    assert first["value"] == pytest.approx(42 + 2 + 1)
    assert second["value"] == pytest.approx(42 + 4 + 0.5)
    assert first["low"] < first["value"] < first["high"]


def test_the_state_names_finished_and_missing_cells(page):
    states = [(cell["per_class"], cell["seed"], cell["finished"]) for cell in page["cells"]]
    assert states == [(n, s, (n, s) != (4, 2)) for n in (2, 4) for s in (0, 1, 2)]
    assert page["cells"][1]["seconds"] == 61.0
    assert page["cells"][-1]["seconds"] is None


def test_the_state_gives_the_reason_of_a_failure_until_the_cell_is_finished(experiment):
    last = experiment.cells[-1]
    failed = {last: "no memory", experiment.cells[0]: "an earlier try"}
    cells = page_of(experiment, small_records(experiment), failed)["cells"]
    assert [cell["failed"] for cell in cells] == [None] * 5 + ["no memory"]


def test_the_protocol_says_sizes_seeds_images_and_what_was_set(page):
    said = dict(page["protocol"])
    assert said["Training images per class"] == "N = 2, N = 4"
    assert said["Judged on"] == "1,200 test images; intervals resample them"
    assert said["Configuration"] == "digits, with supervised.epochs = 1; baselines = none"


def test_a_stage_that_only_one_size_has_has_a_gap_at_the_others(experiment):
    records = small_records(experiment)
    for seed in (0, 1, 2):
        records[Cell(2, seed)] = cell_of(2, seed, ("supervised", "consistency"))
    page = page_of(experiment, records)
    assert page["gains"][0]["arms"]["simclr"][0] is None
    assert page["gains"][0]["arms"]["simclr"][1]["value"] == pytest.approx(-3, abs=0.01)
    assert page["seconds"]["simclr"] == [None, {"seconds": 7.0, "epochs": [3, 3]}]


def test_followed_rounds_are_averaged_over_seeds(experiment):
    records = small_records(experiment)
    for cell, record in records.items():
        record["rounds"] = [{"held_out": 50.0 + cell.seed}, {"held_out": 52.0}]
    assert page_of(experiment, records)["followed"] == [[51.0, 52.0], [50.5, 52.0]]


def test_without_a_finished_cell_it_says_how_to_get_one(experiment):
    with pytest.raises(InputError, match=r"no finished cell: atcon experiment run .*small\.yaml"):
        page_of(experiment, {})
