"""A table of events: what is read, what is refused, and which windows there are."""

from pathlib import Path

import pytest
from videos import write_events

from atcon.data.events import REASONS, Event, Omissions, conflict, read_events, windows
from atcon.errors import BadVideoError, InputError


def read(tmp_path: Path, *rows: str, columns: str = "", policy: str = "skip"):
    omissions = Omissions(policy)
    events = read_events(write_events(tmp_path / "events.csv", rows, columns), omissions)
    return events, [(entry.reason, entry.unit) for entry in omissions.entries]


def event(start: float, end: float, label: str = "a", patient: str = "p") -> Event:
    return Event(f"{label} {start}", "v.mp4", patient, start, end, label)


def test_a_row_is_an_event_whatever_other_columns_there_are(tmp_path):
    (found,), left_out = read(
        tmp_path, "x,b,12.5,v/a.mp4,8,p1,", columns="note,label,end,video,start,patient,source"
    )
    assert (found.video, found.patient, found.label) == ("v/a.mp4", "p1", "b")
    assert (found.start, found.end, found.part) == (8.0, 12.5, None)
    assert found.name == "events.csv, line 2 (v/a.mp4, 8 to 12.5)"
    assert left_out == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1:30", 90.0), ("01:01:01.5", 3661.5), ("75:00", 4500.0)]
)
def test_times_are_seconds_or_hours_minutes_seconds(tmp_path, text, seconds):
    (found,), _ = read(tmp_path, f"a.mp4,p,0,{text},x")
    assert found.end == seconds


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.mp4,,0,4,x", "patient"),
        ("a.mp4,p,0,4,", "label"),
        ("a.mp4,p,4,4,x", "times"),
        ("a.mp4,p,5,4,x", "times"),
        ("a.mp4,p,-1,4,x", "times"),
        ("a.mp4,p,nan,4,x", "times"),
        ("a.mp4,p,0,inf,x", "times"),
        ("a.mp4,p,0,1:75,x", "times"),
        ("a.mp4,p,0,soon,x", "times"),
        ("a.mp4,p,,4,x", "times"),
        ("b.mp4,p,0,9,x", "repeated"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_counted_and_the_others_stay(tmp_path, row, reason):
    good = "b.mp4,p,0,9,x"
    found, left_out = read(tmp_path, good, row)
    assert [e.video for e in found] == ["b.mp4"]
    assert left_out == [(reason, "event")]
    assert reason in REASONS
    with pytest.raises(BadVideoError, match="line 3") as caught:
        read(tmp_path, good, row, policy="error")
    assert caught.value.reason == reason


@pytest.mark.parametrize("video", ["../a.mp4", "/etc/passwd", "v/../../a.mp4", "", "."])
def test_a_recording_outside_the_tables_folder_is_refused(tmp_path, video):
    with pytest.raises(InputError, match=r"line 2: file .* is not below"):
        read(tmp_path, f"{video},p,0,4,x")


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(InputError, match="column patient is missing"):
        read(tmp_path, "a.mp4,0,4,x", columns="video,start,end,label")


def test_splits_are_the_tables_and_a_patient_has_one(tmp_path):
    columns = "video,patient,start,end,label,split"
    found, _ = read(tmp_path, "a.mp4,p,0,4,x,Train", "a.mp4,q,5,9,x,val", columns=columns)
    assert [e.part for e in found] == ["train", "validation"]
    with pytest.raises(InputError, match="patient 'p' is in"):
        read(tmp_path, "a.mp4,p,0,4,x,train", "b.mp4,p,5,9,x,test", columns=columns)
    with pytest.raises(InputError, match="line 2: split 'dev'"):
        read(tmp_path, "a.mp4,p,0,4,x,dev", columns=columns)


@pytest.mark.parametrize(
    ("length", "stride", "starts"),
    [
        (4.0, 4.0, [10.0]),
        (7.99, 4.0, [10.0]),
        (8.0, 4.0, [10.0, 14.0]),
        (8.0, 2.0, [10.0, 12.0, 14.0]),
        (13.0, 5.0, [10.0, 15.0]),
    ],
)
def test_there_are_as_many_windows_as_fit(length, stride, starts):
    found = windows(event(10.0, 10.0 + length), 4.0, stride, "skip")
    assert [w.start for w in found] == starts
    assert all(w.end - w.start == 4.0 and w.end <= 10.0 + length + 1e-9 for w in found)


def test_rounding_does_not_cost_a_window():
    assert len(windows(event(0.1, 0.1 + 3 * 0.3), 0.3, 0.3, "skip")) == 3


def test_a_short_event_is_refused_or_one_window_as_the_policy_says():
    with pytest.raises(BadVideoError, match=r"lasts 3\.9 s") as caught:
        windows(event(0, 3.9), 4.0, 4.0, "skip")
    assert caught.value.reason == "short"
    (found,) = windows(event(0, 3.9), 4.0, 4.0, "pad")
    assert (found.start, found.end) == (0, 3.9)


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (event(3, 9, "b"), True),
        (event(3, 9, "a", "q"), True),
        (event(3, 9, "a"), False),
        (event(4, 9, "b"), False),
    ],
)
def test_a_window_in_an_event_with_another_meaning_is_in_conflict(other, found):
    (window,) = windows(event(0, 4), 4.0, 4.0, "skip")
    assert (conflict(window, [window.event, other]) is not None) == found
