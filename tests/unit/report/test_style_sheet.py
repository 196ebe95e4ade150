"""The style sheet of the page, read for charts that no browser draws."""

import pytest

from atcon.report.style import look_of


@pytest.mark.parametrize(
    ("tag", "classes", "expected"),
    [
        ("path", "bar ours", {"stroke": "#0b6b62", "stroke-width": "2.25"}),
        ("path", "bar control", {"stroke": "#96590a", "stroke-width": "1.5"}),
        ("polyline", "line second", {"stroke": "#8a3f86", "stroke-dasharray": "1 4"}),
        ("circle", "sign control", {"fill": "#fff", "stroke": "#96590a", "stroke-width": "2"}),
        ("text", "tick mid", {"fill": "#5a6066", "text-anchor": "middle"}),
        ("text", "value mid", {"fill": "#1d2023", "font-size": "13px", "font-weight": "600"}),
        ("path", "rule zero", {"stroke": "#1d2023", "fill": "none"}),
        ("rect", "heat none", {"fill": "none", "stroke": "#e2dfd8"}),
    ],
)
def test_the_more_particular_rule_wins_and_colours_are_those_of_the_light_theme(
    tag, classes, expected
):
    look = look_of(tag, classes)
    assert {key: look.get(key) for key in expected} == expected


def test_rules_on_what_surrounds_an_element_and_of_other_media_are_not_its_own():
    assert "flex" not in look_of("svg", "key")
    assert look_of("svg", "")["font"].startswith("10px")
