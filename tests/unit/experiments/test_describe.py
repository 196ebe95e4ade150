"""Tables 2 to 5 for a table of events and for a folder of clips: the same division, one CSV."""

import csv
import shutil
from pathlib import Path

import pytest
from videos import make_video, write_events

from atcon.data import clips
from atcon.data.cutting import ClipForm
from atcon.errors import BadVideoError, InputError
from atcon.experiments.clips import make_clips
from atcon.experiments.describe import COLUMNS, describe_source, write_tables
from atcon.experiments.run import clip_record
from atcon.records import read_json


@pytest.fixture(scope="session")
def cut(tmp_path_factory) -> Path:
    """A table `events.csv` of six patients, whose clips are in `clips`; read it only."""
    folder = tmp_path_factory.mktemp("described")
    video = make_video(folder / "0.mp4", 24, gop=250, rate=5)
    rows = []
    for patient in range(6):
        if patient:
            shutil.copy(video, folder / f"{patient}.mp4")
        events = (f"0,{8 + patient},a", "15,19,b", "20,24,c")
        rows += [f"{patient}.mp4,p{patient},{event}" for event in events]
    write_events(folder / "events.csv", [*rows, "0.mp4,p0,14,14.5,a", "1.mp4,,0,4,a"])
    make_clips(folder / "events.csv", folder / "clips", ClipForm(size=16), shares=(2, 1, 1))
    return folder


def test_a_table_is_described_row_by_row_and_what_cannot_be_used_is_named(cut):
    record = describe_source(cut / "events.csv")
    assert (record["unit"], record["division"], record["undivided"]) == ("events", None, 0)
    assert record["classes"] == ["a", "b", "c"]
    (whole,) = record["tables"].values()
    assert whole["classes"]["a"]["windows"] == 7
    assert whole["classes"]["a"]["total"] == sum(range(8, 14)) + 0.5
    assert whole["all"]["patients"] == 6
    assert record["left_out"] == {"patient": {"event": 1, "clip": 0}}
    assert "events.csv, line 21" in record["skipped"][0]["message"]
    with pytest.raises(BadVideoError, match="line 21"):
        describe_source(cut / "events.csv", on_bad="error")


def test_the_division_is_the_one_that_clips_are_cut_with(cut):
    record = describe_source(cut / "events.csv", shares=(2, 1, 1), seed=0)
    made = read_json(cut / "clips" / "clips.json")
    assert record["division"] == made["balance"]
    with (cut / "clips" / "clips.csv").open(newline="") as handle:
        parts = {row["patient"]: row["split"] for row in csv.DictReader(handle)}
    lengths = {f"p{number}": [8.0 + number, 4.0, 4.0] for number in range(6)}
    lengths["p0"].append(0.5)
    for part in ("train", "validation", "test"):
        own = [one for patient in lengths if parts[patient] == part for one in lengths[patient]]
        row = record["tables"][part]["all"]
        assert (row["windows"], row["total"]) == (len(own), sum(own))


def test_a_patient_without_a_whole_clip_is_in_all_and_in_no_split(cut, tmp_path):
    lines = (cut / "events.csv").read_text().splitlines()
    table = write_events(tmp_path / "t.csv", [*lines[1:], "9.mp4,late,1,3,b"])
    record = describe_source(table, shares=(1, 0, 1))
    assert record["undivided"] == 1
    tables = record["tables"]
    inside = sum(tables[part]["all"]["windows"] for part in ("train", "test"))
    assert (tables["all"]["all"]["windows"], inside) == (20, 19)


def test_splits_of_the_table_are_kept_whatever_shares_are_asked_for(tmp_path):
    columns = "video,patient,start,end,label,split"
    rows = ["a.mp4,p,0,4,x,train", "a.mp4,q,0,3,x,test", "a.mp4,r,4,9,y,val"]
    table = write_events(tmp_path / "t.csv", rows, columns)
    for shares in (None, (1, 1, 1)):
        record = describe_source(table, shares=shares)
        assert record["division"] == {"from": "table"}
        totals = {part: one["all"]["total"] for part, one in record["tables"].items()}
        assert totals == {"all": 12.0, "train": 4.0, "validation": 5.0, "test": 3.0}


def test_a_folder_of_clips_is_described_by_its_clips(cut):
    record = describe_source(cut / "clips")
    made = read_json(cut / "clips" / "clips.json")
    assert (record["unit"], record["undivided"]) == ("clips", 0)
    for part, content in made["parts"].items():
        table = record["tables"][part]
        assert table["all"]["windows"] == content["clips"]
        assert table["all"]["patients"] == content["patients"]
        assert {n: row["windows"] for n, row in table["classes"].items()} == content["classes"]
        assert table["all"]["total"] == 4 * content["clips"]


def test_a_run_records_the_same_tables_and_those_of_a_selection_of_classes(cut):
    record = describe_source(cut / "clips")
    of_run = clip_record(clips(cut / "clips"))
    assert of_run == {"clip": {"frames": 16, "rate": 4.0}, "described": record["tables"]}
    some = clip_record(clips(cut / "clips", classes=["c", "b"]))["described"]
    for part, table in some.items():
        rows = record["tables"][part]["classes"]
        assert table["classes"] == {name: rows[name] for name in "bc"}
        assert table["all"]["windows"] == rows["b"]["windows"] + rows["c"]["windows"]
        assert table["all"]["patients"] == rows["b"]["patients"]  # each shows both


def test_clips_cut_into_memory_are_described_as_the_same_clips_of_a_folder(cut, tmp_path):
    form = ClipForm(size=16)
    make_clips(cut / "events.csv", tmp_path / "thirds", form, shares=(1, 1, 1))
    of_folder = clip_record(clips(tmp_path / "thirds"))
    assert clip_record(clips(cut / "events.csv", form=form)) == of_folder


def test_the_csv_has_a_row_per_split_and_class_and_empty_cells_for_all(cut, tmp_path):
    record = describe_source(cut / "clips")
    write_tables(tmp_path / "t.csv", record)
    write_tables(tmp_path / "t.csv", record)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as handle:
        head, *rows = csv.reader(handle)
    assert tuple(head) == COLUMNS
    assert [row[:2] for row in rows] == [
        [part, label]
        for part in ("", "train", "validation", "test")
        for label in ("a", "b", "c", "")
    ]
    tables = record["tables"]
    for part, label, *numbers in rows:
        table = tables[part or "all"]
        row = table["classes"][label] if label else table["all"]
        assert [float(number) for number in numbers] == [row[key] for key in COLUMNS[2:]]


def test_another_file_is_not_replaced(cut, tmp_path):
    thesis = tmp_path / "thesis.csv"
    thesis.write_text("three years of work")
    with pytest.raises(InputError, match="is not a table of atcon describe"):
        write_tables(thesis, describe_source(cut / "clips"))
    assert thesis.read_text() == "three years of work"


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ([], {}, "no event is left of it; it has no rows"),
        (["a.mp4,,0,4,x"], {}, "no event is left of it; .*line 2.*no patient"),
        (["a.mp4,p,0,3,x"], {"shares": (1, 1, 1)}, "no event has a whole clip"),
        (["a.mp4,p,0,4,x"], {"shares": (1, 1, 1)}, "1 groups cannot be divided among 3 parts"),
        (["a.mp4,p,0,4,x"], {"shares": (1, 1)}, "--shares: three numbers"),
    ],
)
def test_what_cannot_be_described_is_said(tmp_path, rows, options, says):
    table = write_events(tmp_path / "t.csv", rows)
    with pytest.raises(InputError, match=says):
        describe_source(table, **options)


def test_a_folder_that_cannot_be_described_is_said(cut, tmp_path):
    with pytest.raises(InputError, match="no folder of atcon clips"):
        describe_source(tmp_path)
    with pytest.raises(InputError, match="divided already"):
        describe_source(cut / "clips", shares=(1, 1, 1))
    half = Path(shutil.copytree(cut / "clips", tmp_path / "half"))
    about = half / "clips.json"
    about.write_text(about.read_text().replace('"complete": true', '"complete": false'))
    with pytest.raises(InputError, match="not complete"):
        describe_source(half)
    shutil.copy(cut / "clips" / "clips.json", about)
    listed = (half / "clips.csv").read_text()
    (half / "clips.csv").write_text(listed.replace("4.000000", "four", 1))
    with pytest.raises(InputError, match="start and end are not two numbers"):
        describe_source(half)
