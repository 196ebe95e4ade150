import re
from xml.etree import ElementTree as ET

import pytest

from atcon.report.formats import Estimate, plain
from atcon.report.gain_chart import BOTTOM, HEIGHT, TOP, Series, gain_chart, key

SIZES = ("N = 2", "N = 4")


def gain(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, f"+{value}", low, high, f"{low} to {high}")


OURS = Series("ours", "ours", (gain(2.0, 1.0, 3.0), gain(4.0, 0.0, 5.0)), (True, False))
CONTROL = Series("uniform", "control", (gain(1.0, -5.0, 2.0), plain(None)), (False, False))


def drawn(*series: Series) -> ET.Element:
    return ET.fromstring(str(gain_chart("mAP", SIZES, series)))  # noqa: S314 - ours


def of(svg: ET.Element, style: str) -> list[ET.Element]:
    return [element for element in svg.iter() if element.get("class") == style]


def up(value: float) -> float:
    """Where a value stands when the ticks run from −6 to 6."""
    return HEIGHT - BOTTOM - (value + 6) / 12 * (HEIGHT - TOP - BOTTOM)


def test_dots_and_bars_stand_where_their_values_are():
    svg = drawn(OURS, CONTROL)
    ticks = [element.text for element in of(svg, "tick end")]
    assert (ticks[0], ticks[-1]) == ("−6", "+6")
    heights = [float(dot.get("cy")) for dot in of(svg, "sign ours")]
    assert heights == pytest.approx([up(2), up(4)], abs=0.06)
    bars = [re.findall(r"[\d.]+", bar.get("d")) for bar in of(svg, "bar ours")]
    assert [float(end) for end in bars[0][1:]] == pytest.approx([up(3), up(1)], abs=0.06)


def test_the_line_at_zero_is_drawn_apart_and_once():
    svg = drawn(OURS, CONTROL)
    (zero,) = of(svg, "rule zero")
    assert float(zero.get("d").split()[1].partition("H")[0]) == pytest.approx(up(0), abs=0.06)


def test_zero_belongs_to_the_axis_though_all_gains_lie_above():
    far = Series("far", "ours", (gain(50.0, 49.0, 51.0),) * 2, (False, False))
    assert of(drawn(far), "rule zero")


def test_what_was_not_measured_is_not_drawn_and_said():
    svg = drawn(CONTROL)
    assert len(of(svg, "sign control")) == len(of(svg, "bar control")) == 1
    nothing = Series("none", "first", (plain(None), plain(None)), (False, False))
    assert "none: not measured" in drawn(CONTROL, nothing).find("title").text


def test_methods_stand_side_by_side_in_the_order_given():
    svg = drawn(OURS, CONTROL)
    ours, control = (float(of(svg, f"sign {one}")[0].get("cx")) for one in ("ours", "control"))
    assert ours < control


def test_a_star_marks_what_is_clear_and_nothing_else():
    (star,) = of(drawn(OURS, CONTROL), "star mid")
    assert float(star.get("y")) < up(3)


def test_the_alternative_text_holds_every_number():
    said = drawn(OURS, CONTROL).find("title").text
    assert said == (
        "mAP. ours: N = 2 +2.0 (1.0 to 3.0) *, N = 4 +4.0 (0.0 to 5.0); "
        "uniform: N = 2 +1.0 (-5.0 to 2.0)."
    )


def test_names_cannot_leave_the_text_they_stand_in():
    hostile = Series("</title><script>", "first", (gain(1.0, 0.0, 2.0),) * 2, (True, True))
    svg = gain_chart("<b>", ("<i>", "&"), (hostile,))
    assert "<script>" not in svg
    assert "<i>" not in svg
    assert ET.fromstring(str(svg)) is not None  # noqa: S314 - ours


def test_every_style_has_a_shape_of_its_own():
    shapes = {
        re.sub(r'class="[^"]*"', "", str(key(style)))
        for style in ("ours", "first", "second", "third", "fourth")
    }
    assert len(shapes) == 5
