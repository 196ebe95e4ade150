import shutil
from pathlib import Path

import pytest
from page import Element, parse
from run_folder import make_run

from atcon.report import write_report


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report; read it, never write into it."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "run")
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def page(finished: Path) -> Element:
    return parse((finished / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run folder, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
