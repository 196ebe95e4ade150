import json
from pathlib import Path

import pytest
from grid_records import LIFT, YAML, cell_of, small_experiment, small_records

from atcon.errors import InputError
from atcon.experiments.grid import Cell, finished
from atcon.experiments.grid_page import page_of
from atcon.experiments.paper_table import OF_CLASS
from atcon.experiments.shipped import experiment_of

RESULTS = Path(__file__).parents[3] / "results"
TABLE = """\
name: table
title: a table of the paper
protocol: Two rows of four.
expect: The paper has +0.7.
of: {of}
rows: {{supervised: before, uniform: uniform mask, consistency: after}}
metrics: [map, iou]
tables: [{tables}]
paper:
  values: {{map: "table2_pascal.map.{{row}}.{{n}}"}}
  stars: {{map: "table2_pascal.significant.f1.{{row}}"}}
  rows: {{supervised: resnet50, consistency: resnet50+attention}}
"""


def table_page(folder: Path, tables: str = "") -> dict:
    """The page of a table of the paper, whose cells are those of `small_experiment`."""
    other = small_experiment(folder)
    path = folder / "table.yaml"
    path.write_text(TABLE.format(of=folder / "small.yaml", tables=tables))
    return page_of(experiment_of(str(path)), small_records(other))


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


def test_a_table_of_the_paper_has_a_page_of_its_own_name_over_the_cells_of_another(tmp_path):
    page = table_page(tmp_path)
    assert (page["name"], page["title"]) == ("table", "a table of the paper")
    said = dict(page["protocol"])
    assert said["What is done"] == "Two rows of four."
    assert said["What was expected"] == "The paper has +0.7."
    assert said["Cells"] == "those of small"


def test_the_papers_numbers_stand_beside_the_means_and_differences(tmp_path):
    (table,) = table_page(tmp_path)["tables"]
    assert (table["title"], table["against"], table["sizes"]) == ("mAP", "before", [2, 4])
    assert [row["title"] for row in table["rows"]] == ["before", "uniform mask", "after"]
    first = table["rows"][2]["entries"][0]
    assert (first["printed"]["value"], first["printed"]["star"]) == (58.1, True)
    assert first["value"] == pytest.approx(42 + 2 + 1)
    assert first["difference"]["value"] == pytest.approx(2.0)
    assert first["difference"]["star"]
    assert table["note"].startswith("Intervals are over seeds and test images")


def test_the_page_of_a_table_shows_its_rows_alone_by_their_names(tmp_path):
    page = table_page(tmp_path)
    assert page["titles"] == {
        "supervised": "before", "uniform": "uniform mask", "consistency": "after",
    }  # fmt: skip
    assert [list(one["arms"]) for one in page["gains"]] == [["uniform", "consistency"]] * 2
    assert page["gains"][0]["against"] == "before"
    assert list(page["seconds"]) == list(page["titles"])
    assert [one["metric"] for one in page["values"]] == ["iou"]  # the table has those of mAP


def test_an_experiment_that_asks_for_the_gains_of_all_stages_keeps_them(tmp_path):
    page = table_page(tmp_path, tables="gains")
    assert list(page["gains"][0]["arms"]) == ["consistency", "uniform", "simclr"]
    assert page["titles"]["consistency"] == "after"
    assert [one["metric"] for one in page["values"]] == ["map", "iou"]
    assert len(page["tables"][0]["rows"]) == 3


def test_the_page_is_plain_data(tmp_path):
    page = table_page(tmp_path)
    assert json.loads(json.dumps(page)) == page


def test_without_a_table_of_the_paper_there_is_none(page):
    assert page["tables"] == []
    assert page["name"] == "small"
    assert not {"What is done", "What was expected", "Cells"} & {
        term for term, _ in page["protocol"]
    }


def test_the_small_form_has_its_own_name_too(tmp_path):
    (tmp_path / "small.yaml").write_text(YAML)
    path = tmp_path / "table.yaml"
    path.write_text(TABLE.format(of=tmp_path / "small.yaml", tables="") + "small: {title: less}\n")
    names = [experiment_of(str(path), small=small).page_name for small in (False, True)]
    assert names == ["table", "table-small"]


@pytest.mark.parametrize("name", ["laso", "table1", "table2", "table3"])
def test_gains_and_stars_of_the_charts_are_those_of_the_papers_table(name):
    """Of the committed records: Holm's family is the same, so no star differs."""
    experiment = experiment_of(name, small=True)
    page = page_of(experiment, dict(finished(RESULTS, experiment)))
    tables = {table["metric"]: table for table in page["tables"]}
    charted = {metric for metric in tables if not metric.startswith(OF_CLASS)}
    assert charted == {one["metric"] for one in page["gains"]}
    for gain in page["gains"]:
        rows = {row["stage"]: row["entries"] for row in tables[gain["metric"]]["rows"]}
        for stage, marks in gain["arms"].items():
            for mark, entry in zip(marks, rows[stage], strict=True):
                assert mark.pop("clear") is entry["difference"].pop("star")
                assert mark == entry["difference"]


def test_f1_on_validation_samples_says_that_they_chose_the_epoch():
    experiment = experiment_of("svhn", small=True)
    (table,) = page_of(experiment, dict(finished(RESULTS, experiment)))["tables"]
    assert table["rows"][0]["entries"][0]["printed"]["value"] == pytest.approx(13.7)
    assert table["note"].startswith("The validation images also chose the epoch")
