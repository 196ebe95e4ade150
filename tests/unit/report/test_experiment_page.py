import re

import pytest
from experiment_page import mark, page_with, paper_table
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
    assert ours == ["ours", "+2.0* clear +1.0 to +3.0, p 0.040", "+0.5 −0.5 to +1.5, p 0.040"]
    assert simclr == ["Sim<b>CLR", "−3.0 −4.0 to −2.0, p 0.040", "–"]


def test_the_papers_number_stands_in_front_of_ours_with_the_difference_beneath():
    head, before, after = table_of(drawn(tables=[paper_table()]), "table")
    assert head == ["Method", "N = 2", "N = 4"]
    assert before == ["base<b>line", "paper 38.3 18.7 14.4 to 22.5", "–"]
    assert after == [
        "resnet50, ours",
        "paper 41.2* 21.2 18.3 to 23.8 +2.5* clear +0.5 to +4.7, p 0.020",
        "paper 51.6 (50.0 to 53.0) 38.9 +4.2",
    ]


def test_the_papers_table_comes_before_all_else_and_scrolls_in_a_box_of_its_own():
    page = drawn(tables=[paper_table()])
    sections = [section.attributes["id"] for section in page.all("section")]
    assert sections[:3] == ["table", "protocol", "gains"]
    box = page.one("section", id="table").one("div", class_="scroll")
    assert (box.attributes["tabindex"], box.attributes["aria-label"]) == ("0", "F1")
    assert box.one("table")


def test_the_page_says_what_the_paper_prints_only_where_it_prints_something():
    bare = paper_table()
    for row in bare["rows"]:
        for entry in row["entries"]:
            entry["printed"] = None
    with_paper, without = (
        drawn(tables=[one]).one("section", id="table").one("p", class_="lede").words
        for one in (paper_table(), bare)
    )
    assert with_paper.startswith("In front stands what the paper prints")
    assert without.startswith("The large number is what was measured: the mean over seeds")
    for words in (with_paper, without):
        assert "its difference from baseline, in percentage points" in words
        assert words.endswith("over the rows of its column. Over seeds and test images.")


def test_several_tables_say_the_same_only_once():
    (lede,) = drawn(tables=[paper_table()] * 2).one("section", id="table").all("p")
    assert lede.words.count("Over seeds and test images.") == 1


def test_seconds_stand_with_the_epochs_that_were_kept():
    assert table_of(drawn(), "seconds")[1] == ["Sim<b>CLR", "1 min 15 s 10, 0", "–"]


def test_every_link_of_the_page_leads_to_a_section_that_is_there():
    page = drawn(tables=[paper_table()])
    anchors = {e.attributes["href"][1:] for e in page.all("a")}
    assert anchors == {"table", "protocol", "gains", "values", "seconds", "limits"}
    assert anchors <= {section.attributes.get("id") for section in page.all("section")}


def test_every_chart_has_words_for_those_who_cannot_see_it():
    losses = {"rows": ["r"], "columns": ["c"], "cells": [[{"value": 0.5, "paper": 0.65}]]}
    agreement = {"consistency": [[0.2, 0.3], [0.9, -0.1]], "uniform": [[0.2, 0.1]]}
    page = drawn(losses=losses, agreement=agreement, followed=[[50.0, 51.0], [60.0, 61.0]])
    charts = [svg for svg in page.all("svg") if svg.attributes.get("role") == "img"]
    said = [svg.one("title").text for svg in charts]
    assert len(charts) == 4
    assert "r, c: 0.50, paper 0.65" in said[0]
    assert said[1].startswith("mAP: difference from supervised. ours: N = 2 +2.0")
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
        ({"tables": [{"sizes": 2}]}, "sizes: expected a list"),
    ],
)
def test_a_page_that_holds_something_else_is_refused_by_name(changes, said):
    with pytest.raises(InputError, match=said):
        render(page_with(**changes))
