"""The page of an experiment, with every section that it can have."""

import json
from pathlib import Path

import pytest
from experiment_page import mark, page_with, paper_table

from atcon.report import write_experiment_report

pytestmark = pytest.mark.browser


def full_page() -> dict:
    """Ten methods, a wide table of the paper, table 4, the scatter, rounds, and a failed cell."""
    names = [*(f"method-{at}" for at in range(8)), "uniform", "consistency"]
    arms = {name: [mark(float(at)), mark(1.0 - at)] for at, name in enumerate(names)}
    wide = paper_table()
    wide["sizes"] = [2, 4, 8, 12, 16, 135]  # of the paper's table 2
    for row in wide["rows"]:
        row["entries"] = row["entries"] * 3
    both = {"value": 0.5, "low": 0.4, "high": 0.6, "paper": 0.65}
    page = page_with(
        tables=[wide],
        gains=[{"metric": "map", "title": "mAP", "against": "supervised", "arms": arms}],
        losses={"rows": ["r1", "r2"], "columns": ["a", "b", "c"], "cells": [[both] * 3] * 2},
        agreement={"consistency": [[0.2, 0.3], [0.9, -0.1]], "uniform": [[0.2, 0.1]]},
        followed=[[50.0, 51.0], [60.0, 61.0]],
    )
    page["cells"][-1]["failed"] = "FileNotFoundError: /" + "very-long-name/" * 9
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment_report(full_page(), tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture
def shown(browser, page):
    """The page in place of that of a run, as fresh as that."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())
    return browser


def emulate(browser, *, media: str = "", scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def resize(browser, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def background(browser) -> str:
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def test_loads_without_a_word_on_the_console_and_without_the_network(shown, page):
    assert shown.title == "small: an experiment on attention consistency"
    assert shown.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in shown.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_overflows_sideways(shown, width):
    resize(shown, width)
    assert shown.execute_script("return innerWidth") == width
    wide = shown.execute_script(
        "return [...document.querySelectorAll('main *')].filter((e) => {"
        "  const box = e.getBoundingClientRect();"
        "  return box.width && box.right > innerWidth + 1 && !e.closest('.scroll, svg, .unseen')"
        "}).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    box = "document.querySelector('#table .scroll')"
    assert shown.execute_script(f"return {box}.scrollWidth > {box}.clientWidth") or width > 768
    root = "document.documentElement"
    assert shown.execute_script(f"return {root}.scrollWidth - {root}.clientWidth") == 0


@pytest.mark.parametrize(
    ("scheme", "ground"), [("light", "rgb(250, 249, 246)"), ("dark", "rgb(19, 22, 24)")]
)
def test_words_and_charts_are_read_on_both_grounds(shown, scheme, ground):
    """The contrast of all ink is at least 4.5 to 1, as WCAG 2.2 asks of text (1.4.3)."""
    emulate(shown, scheme=scheme)
    assert background(shown) == ground
    least = shown.execute_script(
        "const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => {"
        "  const s = v / 255; return s <= .04045 ? s / 12.92 : ((s + .055) / 1.055) ** 2.4 });"
        "  return .2126 * r + .7152 * g + .0722 * b };"
        "const ground = light(getComputedStyle(document.body).backgroundColor);"
        "const against = (c) => { const two = [light(c), ground].sort((a, b) => b - a);"
        "  return (two[0] + .05) / (two[1] + .05) };"
        "const texts = [...document.querySelectorAll('p, dd, th, td, a, .interval')]"
        "  .map((e) => getComputedStyle(e).color);"
        "const ticks = [...document.querySelectorAll('figure:not(.heated) svg text')]"
        "  .map((e) => getComputedStyle(e).fill);"
        "return Math.min(...[...texts, ...ticks].map(against))"
    )
    assert least >= 4.5


def test_print_is_black_on_white_with_all_tables_open_and_no_links_to_sections(shown):
    resize(shown, 718)
    emulate(shown, media="print", scheme="dark")
    assert background(shown) == "rgb(255, 255, 255)"
    assert shown.execute_script("return document.documentElement.scrollWidth") <= 718
    state = shown.execute_script(
        "const visible = (e) => e.checkVisibility({contentVisibilityAuto: false});"
        "return [[...document.querySelectorAll('table')].every("
        "  (e) => e.getBoundingClientRect().height > 0),"
        "  visible(document.querySelector('nav'))]"
    )
    assert state == [True, False]


def test_charts_have_words_and_what_scrolls_is_reached_by_the_keyboard(shown):
    named, reached = shown.execute_script(
        "return [[...document.querySelectorAll('svg[role=img]')].map("
        "  (e) => e.querySelector('title').textContent.trim().length > 0),"
        "  [...document.querySelectorAll('.scroll')].map((e) => e.tabIndex)]"
    )
    assert len(named) == 5  # two of gains, and one each of table 4, the scatter and the rounds
    assert all(named)
    assert set(reached) == {0}
