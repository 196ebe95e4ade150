"""Promise 3: a full disk, a read-only folder or lost data end a run clearly, and it can go on."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest
from faults import full_disk
from pipeline import atcon, content_of, make_folder
from short_runs import SHORT, outcome_of, short_file

from atcon.experiments.progress import Progress


class Stopped(Progress):
    """Interrupts the run when the second stage begins."""

    def begin(self, title, total, unit=""):
        if title == "consistency":
            raise KeyboardInterrupt


def arguments(images, folder, *more):
    brief = (*SHORT, "supervised.epochs=1", "consistency.epochs=1")
    overrides = [word for one in brief for word in ("--set", one)]
    return ["run", short_file(images), "--out", folder, *overrides, *more]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, images):
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert atcon(*arguments(images, folder, "--quiet")).code == 0
    return outcome_of(folder)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, images):
    """A run that was stopped after its first stage."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atcon.cli.display.progress_for", lambda **_: Stopped())
        assert atcon(*arguments(images, folder)).code == 130
    return folder


@pytest.fixture
def begun(tmp_path, stopped):
    """Such a run, to be spoiled."""
    return shutil.copytree(stopped, tmp_path / "run")


def assert_ended(images, folder, code, *says):
    """Hold that a run ends in words, and changes nothing that was whole before."""
    before = content_of(folder)
    lines = (folder / "metrics.jsonl").read_text()
    ended = atcon(*arguments(images, folder, "--resume"))
    assert ended.code == code, ended
    assert "Traceback" not in ended.err
    last = ended.err[ended.err.rindex("atcon: ") :]
    for words in says:
        assert words in last, last
    after = content_of(folder)
    assert (folder / "metrics.jsonl").read_text().startswith(lines)
    assert not [name for name in before if name != "metrics.jsonl" and after[name] != before[name]]


def assert_resumed(images, folder, whole):
    again = atcon(*arguments(images, folder, "--resume", "--quiet"))
    assert again.code == 0, again.err
    assert without_page(outcome_of(folder)) == without_page(whole)


def without_page(outcome):
    return {name: content for name, content in outcome.items() if name != "report.html"}


@pytest.mark.parametrize(
    ("room", "file"),
    [
        pytest.param(0, "split.json", id="from the first record", marks=pytest.mark.slow),
        pytest.param(40_000, "checkpoints/last.pt", id="at the first checkpoint"),
    ],
)
def test_a_full_disk(images, begun, whole, room, file):
    with full_disk(room):
        assert_ended(images, begun, 1, str(begun / file), "too large", f"--resume --out {begun}")
    assert_resumed(images, begun, whole)


@contextmanager
def read_only(folder):
    """Nothing can be added to a folder or taken from it; also not by root."""
    lock, unlock = (["chattr", how, str(folder)] for how in ("+i", "-i"))
    if os.geteuid():
        lock, unlock = (["chmod", how, str(folder)] for how in ("555", "755"))
    if subprocess.run(lock, check=False, capture_output=True).returncode:  # noqa: S603
        pytest.skip("needs a file system that knows chattr +i, or another user than root")
    try:
        yield
    finally:
        subprocess.run(unlock, check=True)  # noqa: S603


@pytest.mark.slow
def test_a_read_only_folder(images, begun, whole):
    with read_only(begun / "checkpoints"):
        assert_ended(
            images, begun, 1, str(begun / "checkpoints/last.pt"), "ermi", f"--resume --out {begun}"
        )
    assert_resumed(images, begun, whole)


class Moving(Progress):
    """Takes the data away when the evaluation begins, or when it has judged its first batch."""

    def __init__(self, images, *, late):
        self.images, self.late, self.current = images, late, ""

    def begin(self, title, total, unit=""):
        self.current = title
        if title == "evaluation" and not self.late:
            self.images.rename(self.images.with_name("away"))

    def advance(self, values, steps=1):
        if self.current == "evaluation" and self.images.exists():
            self.images.rename(self.images.with_name("away"))


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(False, id="before the test images", marks=pytest.mark.slow),
        pytest.param(True, id="between them"),
    ],
)
def test_data_that_vanish(images, begun, whole, late, monkeypatch):
    moving = Moving(images, late=late)
    try:
        with monkeypatch.context() as patch:
            patch.setattr("atcon.cli.display.progress_for", lambda **_: moving)
            assert_ended(images, begun, 2, str(images), "gone", "once it is back")
        assert not (begun / "summary.json").exists()
        again = atcon(*arguments(images, begun, "--resume"))
        assert (again.code, str(images) in again.err) == (2, True)
    finally:
        images.with_name("away").rename(images)
    assert_resumed(images, begun, whole)


def given_away(images):
    """An image loses its place to another of its class, byte for byte."""
    first, second, *_ = sorted((images / "green").iterdir())
    shutil.copy(first, second)


def relabelled(images):
    """All images change their classes."""
    for old, new in (("green", "away"), ("red", "green"), ("away", "red")):
        (images / old).rename(images / new)


def fewer(images):
    for path in sorted((images / "red").iterdir())[::2]:
        path.unlink()


@pytest.mark.parametrize("change", [given_away, relabelled, fewer])
def test_data_that_are_others_when_a_run_goes_on(images, begun, whole, change, tmp_path):
    away = images.with_name("unchanged")
    images.rename(away)
    shutil.copytree(away, images)
    try:
        change(images)
        assert_ended(images, begun, 2, "split.json: the data have changed", "put them back")
    finally:
        shutil.rmtree(images)
        away.rename(images)
    assert_resumed(images, begun, whole)


@contextmanager
def mounted(place, size):
    """A disk of its own."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:  # noqa: S603
        pytest.skip("needs the right to mount")
    try:
        yield lambda how: subprocess.run(  # noqa: S603
            ["mount", "-o", f"remount,{how}", str(place)],  # noqa: S607
            check=True,
        )
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)  # noqa: S603, S607


@pytest.mark.slow
def test_a_real_disk_that_is_full_and_then_read_only(images, whole, tmp_path):
    with mounted(tmp_path / "disk", "2m") as remount:
        folder = tmp_path / "disk" / "run"
        ended = atcon(*arguments(images, folder))
        assert ended.code == 1
        assert f"{folder}/checkpoints/last.pt: No space left on device" in ended.err
        assert f"--resume --out {folder}" in ended.err
        remount("size=64m,ro")
        assert_ended(images, folder, 1, str(folder), "Read-only file system")
        remount("rw")
        assert_resumed(images, folder, whole)
