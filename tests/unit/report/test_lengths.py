"""The report shows the tables of clips that the run recorded, and nothing where there are none."""

import pytest
from page import parse
from run_folder import edit_json

from atcon.report import write_report


def row(windows: int, total: float, patients: int) -> dict:
    mean = total / windows if windows else None
    shown = {"mean": mean, "median": mean, "std": 0.0 if windows else None}
    return {"windows": windows, **shown, "total": total, "patients": patients}


DESCRIBED = {
    "all": {"classes": {"<b>a": row(5, 20.0, 3), "b": row(3, 12.0, 2)}, "all": row(8, 32.0, 4)},
    "test": {"classes": {"<b>a": row(2, 8.0, 1), "b": row(0, 0.0, 0)}, "all": row(2, 8.0, 1)},
}


@pytest.fixture
def section(run):
    edit_json(run / "summary.json", described=DESCRIBED)
    page = parse(write_report(run).read_text(encoding="utf-8"))
    assert page.one("a", href="#lengths")
    return page.one("section", id="lengths")


def test_every_class_and_split_has_its_row(section):
    rows = section.one("tbody").all("tr")
    expected = [
        (name, part, record)
        for part, table in DESCRIBED.items()
        for name, record in (*table["classes"].items(), ("all", table["all"]))
    ]
    assert [(r.one("th").text, r.all("td")[0].text) for r in rows] == [e[:2] for e in expected]
    for shown, (_, _, record) in zip(rows, expected, strict=True):
        known = [value for value in record.values() if value is not None]
        assert shown.numbers() == known


def test_what_is_not_defined_is_a_dash(section):
    empty = section.one("tbody").all("tr")[4]
    assert [cell.text for cell in empty.all("td")][2:5] == ["–", "–", "–"]


def test_a_run_on_images_has_no_such_section(page):
    assert not page.all("section", id="lengths")
