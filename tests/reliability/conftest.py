"""Runs that several promises are held against; read them, never write into them."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hostile import FAST
from pipeline import save_disc, tiny

from atcon.experiments.progress import Progress
from atcon.experiments.run import run


class Stopped(Progress):
    """Stops a run after the first save of its second stage."""

    def __init__(self, last: Path) -> None:
        self.last, self.stage = last, ""

    def begin(self, title: str, total: int, unit: str = "") -> None:
        del total, unit
        self.stage = title

    def advance(self, values: Mapping[str, float], steps: int = 1) -> None:
        del values, steps
        if self.stage == "consistency" and self.last.exists():
            raise KeyboardInterrupt


@pytest.fixture(scope="session")
def unfinished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the embedded digits, stopped within its second stage."""
    folder = tmp_path_factory.mktemp("unfinished") / "run"
    last = folder / "checkpoints" / "last.pt"
    with suppress(KeyboardInterrupt):
        run(tiny(*FAST), folder, progress=Stopped(last))
    assert last.exists()
    return folder


@pytest.fixture(scope="session")
def tiny_run(unfinished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, finished."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    shutil.copytree(unfinished_run, folder)
    run(tiny(*FAST), folder, resume=True)
    return folder


@pytest.fixture(scope="session")
def own_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of a few images in a folder."""
    folder = tmp_path_factory.mktemp("pictures")
    for at in range(3):
        save_disc(folder / f"{at}.png", ("red",), np.random.default_rng(at))
    return folder / "0.png"
