import csv
import io
import re

import pytest
from grid_records import cell_of

from atcon.errors import InputError
from atcon.experiments.grid_tables import drawn_as, tables_of
from atcon.experiments.paper_table import paper_tables
from atcon.experiments.shipped import experiment_of
from atcon.experiments.table_formats import FORMATS

YAML = """\
name: mine
title: "A & B_1: 50 % of them"
config: digits
per_class: [2, 4]
seeds: [0, 1, 2]
rows: {supervised: "=before", consistency: "after <b>", absent: not run}
metrics: [map]
tables: []
paper:
  values: {map: "table2_pascal.map.{row}.{n}"}
  stars: {map: "table2_pascal.significant.f1.{row}"}
  rows: {supervised: resnet50, consistency: resnet50+attention}
"""


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "mine.yaml").write_text(YAML)
    return experiment_of(str(tmp_path / "mine.yaml"))


@pytest.fixture
def cells(experiment):
    return {cell: cell_of(cell.per_class, cell.seed) for cell in experiment.cells}


def test_the_papers_numbers_stand_beside_the_means_and_differences_of_the_records(
    experiment, cells
):
    (table,) = paper_tables(experiment, cells)
    before, after, absent = table.rows
    assert [one.printed.value for one in before.entries] == [57.4, 67.2]
    assert after.entries[0].printed.star
    assert before.entries[0].value == pytest.approx(43.0)  # 40 + N + mean of the seeds
    assert after.entries[1].value == pytest.approx(47.0)
    assert after.entries[1].difference.value == pytest.approx(2.0)  # the lift of the support file
    assert after.entries[1].difference.star
    assert before.entries[0].difference is None
    assert absent.entries[0].value is None
    assert table.against == "=before"


def test_without_any_record_the_papers_numbers_are_drawn_alone(experiment):
    drawn = tables_of(experiment, {})
    assert "No cell is finished yet" in drawn
    assert "| =before | paper | 57.4 | 67.2 |" in drawn
    assert "| =before | here | – | – |" in drawn


def test_text_has_a_line_of_the_paper_and_one_of_the_records(experiment, cells):
    drawn = drawn_as("text", experiment, cells)
    assert "| after <b> | paper | 58.1* | 67.9* |" in drawn
    assert re.search(r"\| after <b> \| here \| 45\.0 \(.*\); \+2\.0\*", drawn)


def test_csv_has_a_line_per_row_and_size_and_no_formula(experiment, cells):
    lines = list(csv.DictReader(io.StringIO(drawn_as("csv", experiment, cells))))
    assert len(lines) == 6
    assert lines[0]["method"] == "'=before"
    assert (lines[0]["paper"], lines[0]["per_class"], lines[0]["seeds"]) == ("57.4", "2", "3")
    assert float(lines[3]["difference"]) == pytest.approx(2.0)
    assert (lines[3]["star"], lines[3]["paper_star"]) == ("1", "1")
    assert lines[5]["value"] == ""


def test_latex_escapes_what_latex_reads(experiment, cells):
    drawn = drawn_as("latex", experiment, cells)
    assert drawn.count(r"\begin{tabular}") == drawn.count(r"\end{tabular}") == 1
    assert r"after <b>" in drawn
    body = drawn.split(r"\begin{tabular}")[1]
    assert re.search(r"(?<!\\)[%#_]", body) is None
    assert all(line.endswith(r"\\") for line in body.splitlines() if " & " in line)


def test_html_escapes_labels_and_needs_nothing_else(experiment, cells):
    drawn = drawn_as("html", experiment, cells)
    assert "after &lt;b&gt;" in drawn
    assert "after <b>" not in drawn
    assert "A &amp; B_1" in drawn
    assert "http" not in drawn


@pytest.fixture
def by_class(tmp_path):
    """An experiment that asks for F1 of its classes, one of which the paper has too."""
    text = YAML.replace("tables: []", "tables: [classes]").replace(
        "  stars:", '    F1 of cares: "table1_video.16.baseline.cares"\n  stars:'
    )
    text = text.replace("values: {map:", "values:\n    map:").replace('{n}"}', '{n}"', 1)
    (tmp_path / "mine.yaml").write_text(text)
    experiment = experiment_of(str(tmp_path / "mine.yaml"))
    cells = {cell: cell_of(cell.per_class, cell.seed) for cell in experiment.cells}
    for record in cells.values():
        for stage, lift in (("supervised", 0), ("consistency", 5), ("uniform", 0)):
            record["stages"][stage]["per_class"] = {"<b>|%": 50.0 + lift, "never": None}
            record["stages"][stage]["per_class_resampled"] = {
                "<b>|%": " ".join(str(5000 + 100 * lift + move) for move in range(200)),
                "never": " ".join("-" * 200),
            }
    return experiment, cells


def test_f1_of_every_class_has_a_table_the_papers_classes_too(by_class):
    tables = {table.metric: table for table in paper_tables(*by_class)}
    assert list(tables) == ["map", "F1 of cares", "F1 of <b>|%", "F1 of never"]
    before, after, _ = (row.entries[0] for row in tables["F1 of <b>|%"].rows)
    assert before.value == pytest.approx(50)
    assert after.difference.value == pytest.approx(5)
    assert after.difference.star
    other = tables["F1 of cares"].rows[0].entries[0]
    assert (other.printed.value, other.value) == (30.7, None)
    assert tables["F1 of never"].rows[0].entries[0].value is None


@pytest.mark.parametrize("form", FORMATS)
def test_the_name_of_a_class_is_text_in_every_form(by_class, form):
    drawn = drawn_as(form, *by_class)
    named = {
        "text": "F1 of <b>/%", "csv": "F1 of <b>|%", "latex": r"F1 of <b>|\%",
        "html": "F1 of &lt;b&gt;|%",
    }  # fmt: skip
    assert named[form] in drawn


def test_records_without_f1_by_class_are_named(by_class):
    experiment, cells = by_class
    for record in cells.values():
        del record["stages"]["supervised"]["per_class_resampled"]
    with pytest.raises(InputError, match="n2-seed-0 was recorded before F1 was kept by class"):
        tables_of(experiment, cells)


def test_a_form_that_does_not_exist_is_refused_by_name(experiment, cells):
    with pytest.raises(InputError, match="latex"):
        drawn_as("latx", experiment, cells)
    assert list(FORMATS) == ["text", "csv", "latex", "html"]


def test_another_row_to_compare_with_can_be_named(experiment, cells):
    lines = list(csv.DictReader(io.StringIO(drawn_as("csv", experiment, cells, "consistency"))))
    assert float(lines[0]["difference"]) == pytest.approx(-2.0)
    assert lines[2]["difference"] == ""


def test_tables_of_lengths_are_the_papers_and_those_at_hand():
    assert "| all | 158 | 52.57 | 25 | 104.47 | 8306 | 59 |" in tables_of(
        experiment_of("supplement-tables"), {}
    )
