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


# From the line "here" on, every moment counts: of the imports, of the run, and of its page.
HERE = LISTENS + "from atcon.cli import main, stopping; print('here', flush=True); main()"


def signalled(command, number, seconds):
    """Run a command, send a signal so long after the line "here"; give its end, words, seconds."""
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        command, env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert (process.stdout or sys.stdin).readline() == "here\n"
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=seconds)
            began = time.monotonic()
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
            return process.returncode, said, time.monotonic() - began
        finally:
            process.kill()


def program(app, settings=""):
    """The command line with another application, which prints "here" where the signal is due."""
    text = f"""
import sys, time, types
from pathlib import Path
from atcon.cli import main, stopping
{app}
sys.modules["atcon.cli.app"] = types.SimpleNamespace(app=app)
{settings}
main()
"""
    return [sys.executable, "-c", LISTENS + text]


CONTINUES = "\natcon: stopped; the same command continues\n"
DEAF = """
def deaf():
    said = False
    while True:
        try:
            if not said:
                said = True
                print("here", flush=True)
            time.sleep(60)
        except BaseException:
            pass
def app():
    with stopping.resumable(lambda: "the same command continues"):
        deaf()
"""
LOST = """
class Last:
    def __del__(self):
        print("here", flush=True)
        time.sleep(60)
def app():
    with stopping.resumable(lambda: "the same command continues"):
        Last()
        time.sleep(60)
"""
TURNED = """
def app():
    try:
        print("here", flush=True)
        time.sleep(60)
    except BaseException:
        raise ImportError("half a module")
"""
IMPORTING = """
Path("slow.py").write_text(
    "import sys, time; print('here', flush=True)\\n"
    "time.sleep(SECONDS); sys.stderr.write('imported\\\\n')"
)
sys.path.insert(0, ".")
def app():
    with stopping.resumable(lambda: "the same command continues"):
        import slow
        time.sleep(60)
"""


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(
    ("app", "settings", "words"),
    [
        (DEAF, "stopping.GRACE = 1.0", CONTINUES),
        (LOST, "stopping.GRACE = stopping.PATIENCE = 50.0", CONTINUES),
        (TURNED, "", "atcon: stopped\n"),
    ],
    ids=["no exception ends it", "lost in a destructor", "turned into another error"],
)
def test_a_stop_that_code_keeps_from_ending_the_command_ends_it(number, app, settings, words):
    code, said, took = signalled(program(app, settings), number, 0.1)
    assert (code, said) == (CODES[number], words)
    assert took < LIMIT


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize(("seconds", "patience"), [(1, 50), (60, 1)], ids=["short", "long"])
def test_a_stop_does_not_break_an_import(number, seconds, patience, tmp_path, monkeypatch):
    """PyTorch aborts the process where an exception leaves the import of its modules."""
    monkeypatch.chdir(tmp_path)
    settings = f"stopping.GRACE, stopping.PATIENCE = 50.0, {patience}"
    command = program(IMPORTING.replace("SECONDS", str(seconds)), settings)
    code, said, took = signalled(command, number, 0.1)
    assert (code, said) == (CODES[number], "imported\n" * (seconds == 1) + CONTINUES)
    assert took < LIMIT


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
            before_it_began = said == "atcon: stopped\n" and not folder.exists()
            assert "atcon: stopped; " in said or before_it_began, said
            assert code == CODES[number], said
            stopped += 1
    assert slowest < LIMIT
    assert stopped >= 5
    for folder in tmp_path.glob("run-*"):
        if not (folder / "summary.json").exists():
            run_or_resume(short(images), folder)
        found = outcome_of(folder)
        assert {name: one for name, one in found.items() if name != "report.html"} == expected
    print(f"{stopped} stopped, the slowest within {slowest:.1f} s")  # noqa: T201
