"""Promise 17: of two runs on one folder the second is refused, by a lock that dies with its run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from faults import unfinished_writes
from pipeline import atcon, content_of, make_folder
from short_runs import SHORT, short, short_file
from videos import make_video, write_events

from atcon.alone import is_taken
from atcon.errors import InputError
from atcon.experiments.clips import make_clips
from atcon.experiments.progress import Progress
from atcon.experiments.run import run

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "images")


HOLD_AND_DIE = """
import os, pathlib, signal, sys
from atcon.alone import alone_now
with alone_now(pathlib.Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Trying(Progress):
    """Starts a second run at the start of every piece of work of the first one.

    Before, it lets a process take the lock and be killed: the first one finds its file.
    """

    def __init__(self, images, folder):
        self.images, self.folder, self.refused = images, folder, []

    def note(self, text):
        if "Grad-CAM at" in text:
            self.folder.mkdir()
            command = [sys.executable, "-c", HOLD_AND_DIE, str(self.folder / "run")]
            ended = subprocess.run(command, env=ENVIRONMENT, check=False)  # noqa: S603 - ours
            assert ended.returncode == -signal.SIGKILL
            assert (self.folder / ".run.lock").exists()

    def begin(self, title, total, unit=""):
        before = content_of(self.folder)
        overrides = [word for one in SHORT for word in ("--set", one)]
        for more in ([], ["--resume"]):
            ended = atcon("run", short_file(self.images), "--out", self.folder, *overrides, *more)
            assert ended.code == 2
            assert "another process writes into this folder now" in ended.err
        assert content_of(self.folder) == before
        self.refused.append(title)


def test_a_second_run_is_refused_at_any_stage_and_a_killed_one_keeps_nobody_out(images, tmp_path):
    trying = Trying(images, tmp_path / "run")
    run(short(images), tmp_path / "run", progress=trying)
    assert trying.refused == ["supervised", "consistency", "evaluation"]
    assert (tmp_path / "run" / "summary.json").exists()
    assert not is_taken(tmp_path / "run" / "run")
    assert not unfinished_writes(tmp_path / "run")


class Clips(Progress):
    """Starts a second cutting in the middle of the first."""

    def __init__(self, table, out):
        self.table, self.out, self.refused = table, out, 0

    def begin(self, title, total, unit=""):
        with pytest.raises(InputError, match="another process writes into this folder now"):
            make_clips(self.table, self.out)
        self.refused += 1


def test_two_processes_do_not_cut_clips_into_one_folder(tmp_path):
    make_video(tmp_path / "a.mp4", 4)
    table = write_events(tmp_path / "events.csv", ["a.mp4,p,0,4,x"])
    trying = Clips(table, tmp_path / "clips")
    make_clips(table, tmp_path / "clips", shares=(1, 0, 0), progress=trying)
    assert trying.refused == 1
    assert not list(tmp_path.glob(".*.lock"))
