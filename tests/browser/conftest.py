import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_folder import make_run
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from atcon.report import write_report

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run whose labels and names are hostile."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "run", entries=16))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """One headless Chromium; its absence is a failure, for these tests were asked for."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.fail(
            f"{' and '.join(missing)} not found: apt-get install -y chromium chromium-driver, "
            "or leave out -m browser",
            pytrace=False,
        )
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, report: Path) -> Iterator:
    """The page, freshly loaded on a desktop screen in the light theme."""
    for log in ("browser", "performance"):
        chromium.get_log(log)
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [still]})
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.set_script_timeout(30)  # seconds; the long gallery takes more
    chromium.get(report.as_uri())
    return chromium
