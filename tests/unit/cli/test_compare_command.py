import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from finished_folders import edit, make_finished
from pipeline import atcon, content_of

from atcon.experiments.compare import COLUMNS, compare
from atcon.records import read_csv

SOURCE = Path(__file__).parents[3] / "src"


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """The working folder with two finished runs, one of them in square brackets."""
    monkeypatch.chdir(tmp_path)
    other = {"supervised": 0.3, "combined": 0.35}
    return make_finished(Path("a")), make_finished(Path("[red]b"), method=1, lifts=other)


@pytest.fixture
def seeds(tmp_path, monkeypatch):
    """The working folder with two methods over three seeds."""
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        make_finished(Path("a") / f"seed-{seed}", seed)
        make_finished(Path("b") / f"seed-{seed}", seed, 1, {"supervised": 0.3, "simclr": 0.9})
    return "a", "b"


def line_of(out: str, start: str) -> str:
    """The first line that begins so, with single spaces."""
    return next(" ".join(one.split()) for one in out.splitlines() if one.strip().startswith(start))


def test_the_table_shows_what_the_record_holds(pair):
    ended = atcon("compare", *pair, "--metric", "map")
    assert (ended.code, ended.err) == (0, "")
    record = compare(pair, metrics=("map",))
    assert [row["run"] for row in record["rows"]] == ["a", "a", "a", "[red]b"]
    for row in record["rows"]:
        measured = row["metrics"]["map"]
        words = f"{row['run']}:{row['stage']} "
        words += "{value:.1f} ({low:.1f} to {high:.1f}) ".format(**measured)
        if measured["difference"] is None:
            words += "reference"
        else:
            words += "{value:+.1f} ({low:+.1f} to {high:+.1f}) {p:.3f} {p_holm:.3f}".format(
                **measured["difference"]
            ) + ("*" if measured["difference"]["clear"] else "")
        assert line_of(ended.out, words.split()[0]) == words
    assert "corrected over the 3 comparisons of each metric; * below 0.05." in ended.out
    assert "One training run each" in ended.out
    assert "note: the same predictions as a:supervised, shown once: [red]b:super" in ended.out
    assert "\x1b[" not in ended.out


def test_seeds_show_both_tests_and_a_mark_needs_both(seeds):
    ended = atcon("compare", *seeds)
    assert (ended.code, ended.err) == (0, "")
    record = compare([Path(seed) for seed in seeds])
    entry = record["rows"][-1]["metrics"]["map"]["difference"]
    assert entry["clear"]
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    at = next(place for place, line in enumerate(lines) if line.startswith("b:simclr"))
    assert lines[at].endswith("{p:.3f} {p_holm:.3f}*".format(**entry))
    over = entry["over_seeds"]
    assert lines[at + 1] == "t ({low:+.1f} to {high:+.1f}) {p:.3f} {p_holm:.3f}".format(**over)
    assert "60 test images and 3 seeds (0, 1, 2)" in ended.out
    assert "in both lines" in ended.out


def test_json_is_the_record_and_nothing_else(pair):
    ended = atcon("compare", *pair, "--json", "--against", "combined", "--stage", "uniform")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == compare(pair, against="combined", stages=("uniform",))


def test_the_csv_is_written_beside_what_is_shown(pair):
    ended = atcon("compare", *pair, "--csv", "tables/own.csv", "--metric", "iou")
    assert ended.code == 0
    rows = read_csv(Path("tables/own.csv"))
    assert tuple(rows[0]) == COLUMNS
    assert [row["stage"] for row in rows] == ["supervised", "consistency", "uniform", "combined"]


def test_a_metric_without_a_value_is_a_dash(tmp_path):
    run = make_finished(tmp_path / "a", boxes=False)
    ended = atcon("compare", run, "--metric", "iou", "--metric", "map")
    assert ended.code == 0
    assert line_of(ended.out, "a:uniform") == "a:uniform – –"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a", "none"), "none does not exist"),
        (("a", "a"), "a is given twice"),
        (("a", "--stage", "unifrm"), "no stage 'unifrm': did you mean 'uniform'?"),
        (("a", "--metric", "mpa"), "no metric 'mpa': did you mean 'map'?"),
        (("a", "--against", "b:uniform"), "no row 'b:uniform': did you mean 'a:uniform'?"),
        (("a", "--stage", "uniform", "--against", "uniform"), "nothing to compare with a:uniform"),
        (("a", "--csv", "a/summary.json"), "a/summary.json exists and is not a table"),
        (("a", "--csv", "a"), "a exists and is not a table"),
    ],
)
def test_wrong_input_ends_with_2_and_changes_nothing(pair, arguments, says):
    before = content_of(Path.cwd())
    ended = atcon("compare", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("atcon: ")
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert content_of(Path.cwd()) == before


def test_splits_that_differ_end_with_2_and_the_difference(pair):
    edit(pair[1] / "split.json", lambda split: split["train"].pop())
    ended = atcon("compare", *pair, "--csv", "own.csv")
    assert ended.code == 2
    assert "atcon: splits differ: training images of a and [red]b: 1 only in a (pool" in ended.err
    assert not Path("own.csv").exists()


def test_a_comparison_loads_no_torch(seeds):
    code = (
        "import sys; from atcon.cli import main\n"
        "try: main()\nfinally: print('torch' in sys.modules)"
    )
    ended = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code, "compare", *seeds],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "80"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("False\n")


def test_help_names_the_arguments():
    ended = atcon("compare", "--help")
    assert (ended.code, ended.err) == (0, "")
    for word in ("atcon compare", "--stage", "--against", "--metric", "--csv", "--json", "RUN"):
        assert word in ended.out
    assert " compare " in atcon("--help").out
