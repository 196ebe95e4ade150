import re

import pytest
from experiment_page import mark, page_with
from page import parse

from atcon.errors import InputError
from atcon.report import write_experiment_report
from atcon.report.experiment import groups_of, render, series_of


def drawn(**changes):
    return parse(render(page_with(**changes)))


def table_of(page, section: str) -> list[list[str]]:
    (table,) = page.one("section", id=section).all("table")
    return [
        [cell.words for cell in row.inside if cell.tag in ("td", "th")] for row in table.all("tr")
    ]


def test_the_page_is_one_file_that_runs_and_loads_nothing(tmp_path):
    target = write_experiment_report(page_with(), tmp_path / "page.html")
    text = target.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!#|data:)", text)


def test_it_says_what_is_finished_and_what_is_missing():
    page = drawn()
    assert page.one("p", class_="caution").words.startswith("3 of 4 cells are finished.")
    facts = page.one("section", id="protocol").one("dl")
    said = {row.one("dt").words: row.one("dd").words for row in facts.all("div")}
    assert said == {
        "Data": "digits & more",
        "Cells, N = 2": "2 of 2 finished, 1 min 00 s each",
        "Cells, N = 4": "1 of 2 finished, 1 min 00 s each; missing: seed 1",
    }


def test_a_failed_cell_is_named_failed_with_its_reason_in_short():
    def cell(seed: int, **more) -> dict:
        return {"per_class": 2, "seed": seed, "finished": seed == 0, "seconds": None, **more}

    reason = "OutOfMemoryError: <b>no</b> memory\nTraceback"
    cells = [cell(0), cell(1, failed=reason), cell(2, failed="word " * 100), cell(3, failed=None)]
    facts = drawn(cells=cells).one("section", id="protocol").one("dl").all("div")
    said = facts[-1].one("dd").words
    assert said.startswith(
        "1 of 4 finished; missing: seed 3 failed: seed 1: OutOfMemoryError: <b>no</b> memory "
        "failed: seed 2: word word"
    )
    assert said.endswith("word …")
    assert len(said) < 300


def test_the_table_of_gains_has_ours_first_and_a_star_where_it_is_clear():
    head, ours, simclr = table_of(drawn(), "gains")
    assert head == ["Method", "N = 2", "N = 4"]
    assert ours == ["ours", "+2.0 +1.0 to +3.0* clear p 0.040", "+0.5 −0.5 to +1.5 p 0.040"]
    assert simclr == ["Sim<b>CLR", "−3.0 −4.0 to −2.0 p 0.040", "–"]


def test_seconds_stand_with_the_epochs_that_were_kept():
    assert table_of(drawn(), "seconds")[1] == ["Sim<b>CLR", "1 min 15 s 10, 0", "–"]


def test_every_link_of_the_page_leads_to_a_section_that_is_there():
    page = drawn()
    anchors = {e.attributes["href"][1:] for e in page.all("a")}
    assert anchors == {"protocol", "gains", "values", "seconds", "limits"}
    assert anchors <= {section.attributes.get("id") for section in page.all("section")}


def test_every_chart_has_words_for_those_who_cannot_see_it():
    losses = {"rows": ["r"], "columns": ["c"], "cells": [[{"value": 0.5, "paper": 0.65}]]}
    agreement = {"consistency": [[0.2, 0.3], [0.9, -0.1]], "uniform": [[0.2, 0.1]]}
    page = drawn(losses=losses, agreement=agreement, followed=[[50.0, 51.0], [60.0, 61.0]])
    charts = [svg for svg in page.all("svg") if svg.attributes.get("role") == "img"]
    said = [svg.one("title").text for svg in charts]
    assert len(charts) == 4
    assert said[0].startswith("mAP: difference from supervised. ours: N = 2 +2.0")
    assert "r, c: 0.50, paper 0.65" in said[1]
    assert "ours: rose for 1 of 2; uniform: rose for 1 of 1" in said[2]
    assert "N = 2: from 50" in said[3]
    assert "over rounds 0 to 1" in said[3]


def test_many_methods_are_parted_into_charts_that_all_hold_ours_and_the_control():
    names = [f"m{at}" for at in range(9)]
    arms = {name: [mark(1.0), mark(1.0)] for name in [*names, "uniform", "consistency"]}
    gains = {"metric": "map", "title": "mAP", "against": "supervised", "arms": arms}
    page = page_with(gains=[gains])
    parts = groups_of(series_of(page, gains))
    assert [[one.label for one in part] for part in parts] == [
        ["consistency" if page["titles"].get("consistency") is None else "ours", "uniform", *some]
        for some in (names[:4], names[4:8], names[8:])
    ]
    assert all(len({one.style for one in part}) == len(part) for part in parts)


def test_equal_records_give_an_equal_page():
    assert render(page_with()) == render(page_with())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sizes": ["two"]}, "sizes: expected a number"),
        ({"gains": 3}, "gains: expected a list"),
        ({"followed": [["x"]]}, "followed: expected a number"),
    ],
)
def test_a_page_that_holds_something_else_is_refused_by_name(changes, said):
    with pytest.raises(InputError, match=said):
        render(page_with(**changes))
