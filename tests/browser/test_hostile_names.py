"""Promise 12: names in the pages of a run and of an experiment execute nothing in Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from experiment_page import mark, page_with
from hostile import NAMES
from run_folder import edit_json, make_run
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from atcon.records import read_json
from atcon.report import write_experiment_report, write_report

pytestmark = pytest.mark.browser

WATCH = """
window.calls = [];
for (const name of ["alert", "confirm", "prompt", "open", "eval"]) {
  window[name] = (what) => window.calls.push(what);
}
"""


def run_page(folder: Path) -> Path:
    """A run whose classes, files and reasons are hostile."""
    run = make_run(folder / "run", entries=len(NAMES), classes=NAMES)
    index = read_json(run / "gallery" / "index.json")
    for entry, name in zip(index["entries"], NAMES, strict=True):
        entry["name"] = name
    edit_json(run / "gallery" / "index.json", entries=index["entries"])
    edit_json(run / "split.json", skipped=[{"name": name, "reason": name} for name in NAMES])
    return write_report(run)


def experiment_page(folder: Path) -> Path:
    """An experiment whose name, rows and failures are."""
    arms = {name: [mark(2.0), mark(0.5)] for name in NAMES}
    page = page_with(
        name=NAMES[0],
        title=NAMES[1],
        protocol=[[name, name] for name in NAMES],
        titles={name: name for name in (*NAMES, "supervised")},
        gains=[{"metric": "map", "title": NAMES[2], "against": "supervised", "arms": arms}],
    )
    page["cells"][-1]["failed"] = " ".join(NAMES)
    return write_experiment_report(page, folder / "page.html")


@pytest.fixture
def watched(chromium) -> Iterator:
    """The browser, which notes what a page calls."""
    script = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    yield chromium
    chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


@pytest.mark.parametrize("write", [run_page, experiment_page])
def test_no_name_executes_or_becomes_an_element(write, watched, tmp_path):
    watched.get_log("browser")
    watched.get(write(tmp_path).as_uri())
    for control in watched.find_elements(By.TAG_NAME, "select"):
        for option in range(len(Select(control).options)):
            Select(control).select_by_index(option)
    assert watched.execute_script("return [window.ran ?? null, window.calls]") == [None, []]
    assert watched.get_log("browser") == []
    assert watched.execute_script("return document.scripts.length") <= 1
    inside = "return [...document.querySelectorAll('bdi')].filter((e) => e.children.length).length"
    assert watched.execute_script(inside) == 0
    shown = watched.execute_script(
        "return [...document.querySelectorAll('bdi')].map((e) => e.textContent)"
    )
    as_read = {name.replace("\r", "\n") for name in NAMES}  # as HTML has it
    assert as_read <= set(shown)


def test_a_turned_direction_ends_with_the_name(watched, tmp_path):
    """What follows a name on its line is not turned by it: each is isolated."""
    watched.get(run_page(tmp_path).as_uri())
    kinds = watched.execute_script(
        "return [...document.querySelectorAll('bdi')].map((e) => getComputedStyle(e).unicodeBidi)"
    )
    assert set(kinds) == {"isolate"}
