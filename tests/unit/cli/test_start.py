import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipeline import atcon

import atcon as package

SOURCE = Path(__file__).parents[3] / "src"
COMMANDS = (
    "demo",
    "run",
    "repeat",
    "evaluate",
    "attend",
    "monitor",
    "clips",
    "describe",
    "check",
    "compare",
    "power",
    "data",
    "report",
    "share",
    "list",
    "show",
    "copy",
)
ENTRY = "from atcon.cli import main; main()"
LEAN = f"""
import sys
try:
    {ENTRY}
finally:
    print("loaded:", sorted({{"torch", "numpy", "matplotlib"}} & set(sys.modules)))
"""


def process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_comes_within_a_second():
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        assert process(ENTRY, "--help").returncode == 0
        taken.append(time.perf_counter() - began)
    assert min(taken) < 1


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("run", "--help")])
def test_nothing_heavy_is_loaded_before_a_command_runs(arguments):
    ended = process(LEAN, *arguments)
    assert ended.returncode == 0
    assert "loaded: []" in ended.stdout


def test_help_lists_every_command_and_each_has_its_own():
    listed = atcon("--help")
    assert listed.code == 0
    for command in COMMANDS:
        assert f" {command} " in listed.out
        helped = atcon(command, "--help")
        assert (helped.code, helped.err) == (0, "")
        assert f"atcon {command}" in helped.out


def test_version_is_that_of_the_package():
    assert atcon("--version").out == f"atcon {package.__version__}\n"


def test_a_wrong_value_ends_a_process_with_2_and_one_message():
    ended = process(ENTRY, "run", "digits", "--set", "data.per_clas=4")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "atcon: --set data.per_clas=4: unknown key 'data.per_clas'; "
        "did you mean 'data.per_class'?\n"
    )


@pytest.mark.parametrize(
    "arguments", [("rum", "digits"), ("run",), ("run", "digits", "--sed", "1")]
)
def test_a_command_line_that_cannot_be_read_ends_with_2(arguments):
    ended = atcon(*arguments)
    assert ended.code == 2
    assert "Traceback" not in ended.err
