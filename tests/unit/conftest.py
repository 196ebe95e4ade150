from pathlib import Path

import pytest
from pipeline import make_folder, tiny
from videos import make_video

from atcon.experiments.run import run
from atcon.report import write_report


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run with its report; read it, never write into it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(tiny(), folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def own_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images per class; read it, never write into it."""
    return make_folder(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 20 s whose frames say which they are; read it only."""
    return make_video(tmp_path_factory.mktemp("recording") / "20s.mp4", 20)
