import json
from pathlib import Path

import pytest

from atcon.report import write_report

pytestmark = pytest.mark.browser


def test_a_page_without_images_shows_none_and_loads_without_a_word_and_without_the_network(
    chromium, report: Path, tmp_path: Path
):
    page = write_report(report.parent, tmp_path / "bare.html", images=False)
    for log in ("browser", "performance"):
        chromium.get_log(log)
    chromium.get(page.as_uri())
    assert chromium.execute_script("return document.images.length") == 0
    assert chromium.execute_script("return document.querySelectorAll('svg').length") > 0
    assert chromium.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
