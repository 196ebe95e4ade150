from xml.etree import ElementTree as ET

import pytest

from atcon.report.formats import Estimate, plain
from atcon.report.heat_map import DEEPEST, Cell, Heat, heat_map

HEAT = Heat(
    ("first row", "a row with a name that is too long for one line"),
    ("Pearson", "<SSIM>"),
    (
        (Cell(Estimate(0.5, "0.50", 0.4, 0.6, "0.40 to 0.60"), "paper 0.65"), Cell(plain(None))),
        (Cell(Estimate(-1.0, "−1.00")), Cell(Estimate(3.0, "3.00"))),
    ),
)


@pytest.fixture
def svg() -> ET.Element:
    return ET.fromstring(str(heat_map("Table 4", HEAT)))  # noqa: S314 - ours


def test_colour_says_the_sign_and_depth_the_size_up_to_the_end_of_the_scale(svg):
    cells = [e for e in svg.iter() if (e.get("class") or "").startswith("heat")]
    drawn = [(cell.get("class"), float(cell.get("fill-opacity"))) for cell in cells]
    assert drawn == [
        ("heat above", DEEPEST / 2),
        ("heat none", 0.0),
        ("heat below", DEEPEST),
        ("heat above", DEEPEST),
    ]


def test_every_cell_has_its_number_its_interval_and_the_papers(svg):
    texts = [element.text for element in svg.iter() if element.tag == "text"]
    assert [
        text for text in texts if text in ("0.50", "0.40 to 0.60", "paper 0.65", "–", "−1.00")
    ] == ["0.50", "0.40 to 0.60", "paper 0.65", "–", "−1.00"]


def test_long_names_are_broken_between_words(svg):
    heads = [e.text for e in svg.iter() if e.get("class") == "head"]
    assert heads[0] == "first row"
    assert " ".join(heads[1:]) == HEAT.rows[1]
    assert all(len(line) <= 18 for line in heads)


def test_long_names_of_losses_are_broken_after_an_underscore():
    cells = ((Cell(plain(0.5)),),)
    svg = ET.fromstring(str(heat_map("t", Heat(("guided_backprop_pooled",), ("c",), cells))))  # noqa: S314 - ours
    heads = [e.text for e in svg.iter() if e.get("class") == "head"]
    assert heads == ["guided_backprop_", "pooled"]


def test_the_alternative_text_holds_every_number_and_names_stay_text(svg):
    said = svg.find("title").text
    assert "first row, Pearson: 0.50 (0.40 to 0.60), paper 0.65; first row, <SSIM>: –" in said
    assert "a row with a name that is too long for one line, <SSIM>: 3.00" in said
