"""Promise 16: Ctrl-C and SIGTERM end a run within 10 s, and it says how to resume it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from faults import unfinished_writes
from pipeline import atcon, make_folder
from short_runs import SHORT, outcome_of, run_or_resume, short, short_file

from atcon.experiments.progress import Progress
from atcon.records import write_json

LIMIT = 10.0
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
# A shell that starts a job in the background has it ignore Ctrl-C, and so would our process.
LISTENS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
SETS = [word for one in SHORT for word in ("--set", one)]


@pytest.fixture(autouse=True)
def _listening():
    """Hear Ctrl-C as at a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "images")


class Signalling(Progress):
    """Sends this process a signal in the middle of a piece of work."""

    def __init__(self, number, title):
        self.number, self.title, self.current = number, title, ""

    def begin(self, title, total, unit=""):
        self.current = title

    def advance(self, values, steps=1):
        if self.current == self.title:
            self.title = ""
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("number", "title"),
    [
        (signal.SIGTERM, "supervised"),
        pytest.param(signal.SIGINT, "evaluation", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_that_says_how_to_resume_it(
    images, tmp_path, monkeypatch, number, title
):
    handlers = [signal.getsignal(one) for one in CODES]
    monkeypatch.setattr("atcon.cli.display.progress_for", lambda **_: Signalling(number, title))
    ended = atcon("run", short_file(images), "--out", tmp_path / "run", *SETS)
    assert ended.code == CODES[number]
    assert ended.err.endswith(f"stopped; continue with --resume --out {tmp_path / 'run'}\n")
    assert "Traceback" not in ended.err
    assert not unfinished_writes(tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").exists()
    assert [signal.getsignal(one) for one in CODES] == handlers


@pytest.mark.parametrize("command", ["repeat", "experiment run", "advise", "clips"])
def test_every_long_command_says_that_it_continues(command, tmp_path, monkeypatch):
    def stopped(*_given, **_named):
        signal.raise_signal(signal.SIGTERM)

    for where in ("repeat.repeat", "engines.table.run_cells", "clips.make_clips"):
        monkeypatch.setattr(f"atcon.experiments.{where}", stopped)
    monkeypatch.chdir(tmp_path)
    given = {
        "repeat": ["digits"], "experiment run": ["table4"],
        "advise": ["digits"], "clips": ["events.csv", "--out", "clips"],
    }[command]  # fmt: skip
    ended = atcon(*command.split(), *given)
    assert ended.code == 143, ended
    assert "stopped; the same command continues" in ended.err
    assert "Traceback" not in ended.err


def test_a_signal_before_a_run_began_says_that_too(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "atcon.experiments.config.load_config",
        lambda *_given: signal.raise_signal(signal.SIGTERM),
    )
    ended = atcon("run", "digits", "--out", tmp_path / "run")
    assert ended.code == 143
    assert "stopped; nothing was begun" in ended.err
    assert not (tmp_path / "run").exists()


def test_a_signal_after_the_last_record_says_that_the_run_is_finished(tmp_path, monkeypatch):
    def finished(_config, folder, **_):
        write_json(folder / "summary.json", {})
        return {}

    monkeypatch.setattr("atcon.experiments.run.run", finished)
    monkeypatch.setattr(
        "atcon.report.write_report", lambda _folder: signal.raise_signal(signal.SIGTERM)
    )
    ended = atcon("run", "digits", "--out", tmp_path / "run", "--quiet")
    assert ended.code == 143
    assert f"the run is finished: atcon report {tmp_path / 'run'} draws its page" in ended.err


DEAF = """
import sys, time, types
from atcon.cli import main, stopping
def deaf():
    said = False
    while True:
        try:
            if not said:
                said = True
                print("deaf", flush=True)
            time.sleep(60)
        except BaseException:
            pass
def app():
    with stopping.resumable(lambda: "the same command continues"):
        deaf()
sys.modules["atcon.cli.app"] = types.SimpleNamespace(app=app)
stopping.GRACE = 1.0
main()
"""


@pytest.mark.parametrize("number", CODES)
def test_code_that_no_exception_ends_is_ended_with_the_same_words(number, tmp_path):
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", LISTENS + DEAF], env=ENVIRONMENT, cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert (process.stdout or sys.stdin).readline() == "deaf\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == CODES[number]
    assert said == "\natcon: stopped; the same command continues\n"


LOST = """
import sys, time, types
from atcon.cli import main, stopping
class Last:
    def __del__(self):
        print("here", flush=True)
        time.sleep(60)
def app():
    with stopping.resumable(lambda: "the same command continues"):
        Last()
        time.sleep(60)
        print("went on")
sys.modules["atcon.cli.app"] = types.SimpleNamespace(app=app)
stopping.GRACE = stopping.PATIENCE = 50.0
main()
"""
TURNED = """
import sys, time, types
from atcon.cli import main
def app():
    try:
        print("here", flush=True)
        time.sleep(60)
    except BaseException:
        raise ImportError("half a module")
sys.modules["atcon.cli.app"] = types.SimpleNamespace(app=app)
main()
"""
IMPORTING = """
import sys, time, types
from pathlib import Path
from atcon.cli import main, stopping
Path("slow.py").write_text(
    "import sys, time; print('here', flush=True)\\n"
    "time.sleep(SECONDS); sys.stderr.write('imported\\\\n')"
)
sys.path.insert(0, ".")
def app():
    with stopping.resumable(lambda: "the same command continues"):
        import slow
        time.sleep(60)
sys.modules["atcon.cli.app"] = types.SimpleNamespace(app=app)
stopping.GRACE, stopping.PATIENCE = 50.0, MOST
main()
"""


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(
    ("program", "words"),
    [(LOST, "\natcon: stopped; the same command continues\n"), (TURNED, "atcon: stopped\n")],
    ids=["lost in a destructor", "turned into another error"],
)
def test_a_stop_that_a_library_loses_or_turns_is_the_same_stop(number, program, words):
    code, said, took = signalled([sys.executable, "-c", LISTENS + program], number, 0.1)
    assert (code, said) == (CODES[number], words)
    assert took < LIMIT


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(("seconds", "patience"), [(1, 50), (60, 1)], ids=["short", "long"])
def test_a_stop_does_not_break_an_import(number, seconds, patience, tmp_path, monkeypatch):
    """PyTorch aborts the process where an exception leaves the import of its modules."""
    monkeypatch.chdir(tmp_path)
    program = IMPORTING.replace("SECONDS", str(seconds)).replace("MOST", str(patience))
    code, said, took = signalled([sys.executable, "-c", LISTENS + program], number, 0.1)
    words = "\natcon: stopped; the same command continues\n"
    assert (code, said) == (CODES[number], "imported\n" * (seconds == 1) + words)
    assert took < LIMIT


# From the line "here" on, every moment counts: of the imports, of the run, and of its page.
HERE = LISTENS + "from atcon.cli import main, stopping; print('here', flush=True); main()"


def signalled(command, number, seconds):
    """Run a command, send a signal after so long; give its end, its words and the seconds."""
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        command, env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert (process.stdout or sys.stdin).readline() == "here\n"
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
        began = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        return process.returncode, said, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_signals_at_random_moments_of_real_commands(images, tmp_path):
    run_or_resume(short(images), tmp_path / "whole")
    expected, random = outcome_of(tmp_path / "whole"), np.random.default_rng(3)

    def command(folder):
        return [sys.executable, "-c", HERE, "run", str(short_file(images)), "--resume", "--out",
                str(folder), *SETS]  # fmt: skip

    began = time.monotonic()
    assert signalled(command(tmp_path / "first"), signal.SIGTERM, 250)[0] == 0
    longest, slowest, stopped = time.monotonic() - began, 0.0, 0
    for place, number in enumerate((signal.SIGINT, signal.SIGTERM) * 5):
        folder = tmp_path / f"run-{place // 2}"  # two signals to each run
        if (folder / "summary.json").exists():
            continue
        code, said, took = signalled(command(folder), number, random.uniform(0, longest))
        assert "Traceback" not in said
        slowest = max(slowest, took)
        if code and not (folder / "report.html").exists():
            words = "atcon: stopped; " if folder.exists() else "atcon: stopped"
            assert (code, words in said) == (CODES[number], True), said
            stopped += 1
    assert slowest < LIMIT
    assert stopped >= 5
    for folder in tmp_path.glob("run-*"):
        if not (folder / "summary.json").exists():
            run_or_resume(short(images), folder)
        found = outcome_of(folder)
        assert {name: one for name, one in found.items() if name != "report.html"} == expected
    print(f"{stopped} stopped, the slowest within {slowest:.1f} s")  # noqa: T201
