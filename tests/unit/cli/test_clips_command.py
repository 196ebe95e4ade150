"""`atcon clips` and `atcon describe` as a user calls them: exit codes, and what is said where."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from pipeline import atcon, content_of
from videos import make_video, write_events

SMALL = ("--size", 16, "--quiet")


@pytest.fixture(scope="session")
def ward(tmp_path_factory) -> Path:
    """Three recordings of three patients with an event of each of two labels; read it only."""
    folder = tmp_path_factory.mktemp("ward")
    video = make_video(folder / "0.mp4", 10, rate=5)
    rows = []
    for patient in range(3):
        if patient:
            shutil.copy(video, folder / f"{patient}.mp4")
        rows += [f"{patient}.mp4,p{patient},0,4,[a]", f"{patient}.mp4,p{patient},5,9.5,b"]
    write_events(folder / "events.csv", [*rows, "0.mp4,,0,4,b", "9.mp4,p0,0,5,b"])
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("COLUMNS", "120")


def words(text: str) -> str:
    return " ".join(text.split())


def test_clips_are_made_and_what_is_left_out_is_counted_and_named(ward):
    ended = atcon("clips", ward / "events.csv", "--out", "out", *SMALL)
    assert (ended.code, ended.err) == (0, "")
    said = words(ended.out)
    assert "6 clips split patients clips [a] b" in said
    assert "train 1 2 1 1 validation 1 2 1 1 test 1 2 1 1" in said
    assert "no patient 1 0" in said
    assert "no such recording 1 0" in said
    assert "skipped events.csv, line 8 (0.mp4, 0 to 4): no patient" in said
    assert "no share of a class in a split is further than 0 percentage points" in said
    assert said.endswith("clips: out/clips.csv")
    before = content_of(Path("out"))
    again = atcon("clips", ward / "events.csv", "--out", "out", *SMALL)
    assert (again.code, "6 clips were there already" in words(again.out)) == (0, True)
    assert content_of(Path("out")) == before


def test_as_json_the_record_is_all_that_is_printed(ward):
    ended = atcon("clips", ward / "events.csv", "--out", "out", "--size", 16, "--json")
    record = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    written = json.loads(Path("out/clips.json").read_text())
    assert written == {**{k: v for k, v in record.items() if k != "kept"}, "format": 1}


def test_the_policy_error_ends_with_2_at_the_first_failure(ward):
    ended = atcon("clips", ward / "events.csv", "--out", "out", *SMALL, "--on-bad", "error")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "atcon: events.csv, line 8 (0.mp4, 0 to 4): no patient\n"
    ended = atcon("describe", ward / "events.csv", "--on-bad", "error")
    assert (ended.code, ended.out) == (2, "")
    assert "line 8" in ended.err


def test_events_are_described_on_the_terminal(ward):
    ended = atcon("describe", ward / "events.csv", "--shares", "1,1,1")
    assert (ended.code, ended.err) == (0, "")
    said = words(ended.out)
    assert "label events mean median std total patients" in said
    assert "[a] 3 4.00 4.00 0.00 12.00 3 b 4 4.62 4.50 0.22 18.50 3" in said
    assert said.index("all, lengths") < said.index("train, lengths") < said.index("test, lengths")
    assert "no patient 1 0" in said
    assert "skipped events.csv, line 8 (0.mp4, 0 to 4): no patient" in said
    plain = words(atcon("describe", ward / "events.csv").out)
    assert "train, lengths" not in plain
    assert "splits: the table has none; see --shares" in plain


def test_the_csv_and_the_json_hold_what_the_terminal_shows(ward):
    ended = atcon("describe", ward / "events.csv", "--csv", "found/lengths.csv", "--json")
    record = json.loads(ended.out)
    with Path("found/lengths.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["split"], row["label"]) for row in rows] == [("", "[a]"), ("", "b"), ("", "")]
    assert float(rows[1]["mean"]) == record["tables"]["all"]["classes"]["b"]["mean"] == 4.625
    assert list(Path("found").iterdir()) == [Path("found/lengths.csv")]


def test_a_folder_of_clips_is_described(ward):
    atcon("clips", ward / "events.csv", "--out", "out", *SMALL)
    ended = atcon("describe", "out")
    assert ended.code == 0
    said = words(ended.out)
    assert "all, lengths in seconds label clips mean" in said
    assert "test, lengths in seconds label clips mean median std total patients" in said
    assert said.endswith("splits: as in the folder")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("clips", "none.csv", "--out", "out"), "none.csv"),
        (("clips", "EVENTS"), "Missing option"),
        (("clips", "EVENTS", "--out", "out", "--seconds", "-1"), "--seconds: -1.0 is not positive"),
        (("clips", "EVENTS", "--out", "out", "--seconds", "3.3"), "not a whole number"),
        (("clips", "EVENTS", "--out", "out", "--short", "cut"), "--short: 'cut' is not a policy"),
        (("clips", "EVENTS", "--out", "out", "--on-bad", "x"), "--on-bad: 'x' is not a policy"),
        (("clips", "EVENTS", "--out", "out", "--shares", "1,2"), "--shares: three numbers"),
        (("clips", "EVENTS", "--out", "out", "--shares", "a,b"), "'a,b' is not a list of numbers"),
        (("clips", "EVENTS", "--out", "out", "--shares", "nan,1,1"), "--shares: three numbers"),
        (("clips", "EVENTS", "--out", "taken"), "taken exists and is not a folder of clips"),
        (("clips", "taken", "--out", "out"), "taken: column"),
        (("describe", "none.csv"), "none.csv"),
        (("describe", "."), "no folder of atcon clips"),
        (("describe", "EVENTS", "--shares", "x"), "--shares: 'x' is not a list of numbers"),
        (("describe", "EVENTS", "--on-bad", "x"), "--on-bad: 'x' is not a policy"),
        (("describe", "EVENTS", "--csv", "taken"), "taken exists and is not a table of"),
        (("describe", "EVENTS", "--csv", "."), ". exists and is not a table of"),
        (("describe", "taken"), "column end, label, patient, start, video is missing"),
        (("describe", "latin.csv"), "latin.csv: not a readable UTF-8 CSV file"),
        (("describe",), "Missing argument"),
    ],
)
def test_wrong_use_ends_with_2_says_what_is_wrong_and_writes_nothing(ward, arguments, says):
    Path("taken").write_text("three years of work")
    Path("latin.csv").write_bytes("video,patient,start,end,label\na,\xe4,0,4,b\n".encode("latin-1"))
    before = content_of(Path())
    given = [ward / "events.csv" if word == "EVENTS" else word for word in arguments]
    ended = atcon(*given)
    assert (ended.code, ended.out) == (2, "")
    assert says in words(ended.err)
    assert "Traceback" not in ended.err
    assert content_of(Path()) == before
