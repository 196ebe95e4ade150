"""A folder of clips: the right frames, no patient in two parts, whole files, and no second work."""

import csv
import hashlib
import json
from pathlib import Path

import pytest
from videos import make_video, numbers, six_patients, write_events

from atcon.data.clip_files import clip_bytes, read_clip
from atcon.data.cutting import ClipForm
from atcon.errors import BadVideoError, InputError
from atcon.experiments.clips import make_clips
from atcon.records import read_json

RATE = 25


@pytest.fixture
def recordings(video, tmp_path) -> Path:
    """Six patients, a recording each, with two events of 8 s each."""
    return six_patients(tmp_path / "recordings", video)


def manifest(out: Path) -> list[dict[str, str]]:
    with (out / "clips.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_clips_hold_the_frames_of_their_times(recordings, tmp_path):
    make_clips(recordings / "events.csv", tmp_path / "out")
    rows = manifest(tmp_path / "out")
    assert [(row["start"], row["end"]) for row in rows[:2]] == [
        ("0.000000", "4.000000"),
        ("4.000000", "8.000000"),
    ]
    assert len(rows) == 24
    for row in rows:
        clip = read_clip(tmp_path / "out" / row["file"])
        assert clip.shape == (3, 16, 80, 80)
        assert numbers(clip) == [
            int((float(row["start"]) + k / 4) * RATE + 1e-6) for k in range(16)
        ]


def test_the_manifest_has_the_hash_of_every_file_and_parts_share_no_patient(recordings, tmp_path):
    record = make_clips(recordings / "events.csv", tmp_path / "out")
    rows = manifest(tmp_path / "out")
    for row in rows:
        content = (tmp_path / "out" / row["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
    parts = {name: {r["patient"] for r in rows if r["split"] == name} for name in record["parts"]}
    assert sorted(map(len, parts.values())) == [2, 2, 2]
    assert len(set.union(*parts.values())) == 6
    assert record["balance"] == {"from": "search", "worst": pytest.approx(0, abs=1e-9)}
    assert record["parts"]["test"] == {"clips": 8, "patients": 2, "classes": {"a": 4, "b": 4}}
    stored = read_json(tmp_path / "out" / "clips.json")
    assert stored["complete"] is True
    assert stored == {key: value for key, value in record.items() if key != "kept"} | {"format": 1}


def test_every_number_is_an_option(recordings, tmp_path):
    form = ClipForm(seconds=2, rate=5, size=32, stride=1.5)
    record = make_clips(recordings / "events.csv", tmp_path / "out", form, shares=(3, 0, 1))
    rows = manifest(tmp_path / "out")
    assert [float(row["start"]) for row in rows[:5]] == [0, 1.5, 3, 4.5, 6]
    clip = read_clip(tmp_path / "out" / rows[1]["file"])
    assert clip.shape == (3, 10, 32, 32)
    assert numbers(clip) == [int((1.5 + k / 5) * RATE + 1e-6) for k in range(10)]
    assert {row["split"] for row in rows} == {"train", "test"}
    assert record["settings"]["shares"] == {"train": 0.75, "test": 0.25}


def test_a_short_event_is_padded_with_its_last_frame(recordings, tmp_path):
    table = write_events(recordings / "short.csv", ["v/0.mp4,p,1,3.1,a", "v/1.mp4,q,1,6,b"])
    form = ClipForm(short="pad")
    make_clips(table, tmp_path / "out", form, shares=(1, 0, 1))
    (row,) = [row for row in manifest(tmp_path / "out") if row["label"] == "a"]
    assert row["end"] == "3.100000"
    shown = [int((1 + k / 4) * RATE + 1e-6) for k in range(9)]
    assert numbers(read_clip(tmp_path / "out" / row["file"])) == shown + [shown[-1]] * 7


def test_the_number_of_threads_changes_nothing(recordings, tmp_path):
    for workers in (1, 3):
        make_clips(recordings / "events.csv", tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_the_same_call_again_decodes_what_is_missing_or_damaged_only(recordings, tmp_path):
    out = tmp_path / "out"
    make_clips(recordings / "events.csv", out)
    before = contents(out)
    one, two, *_ = sorted((out / "clips").iterdir())
    one.unlink()
    damaged = bytearray(two.read_bytes())
    damaged[-1] ^= 1
    two.write_bytes(damaged)
    with pytest.raises(BadVideoError, match="not those that were written"):
        read_clip(two)
    (out / "clips" / ".x.safetensors.1.part").write_bytes(b"killed while writing")
    record = make_clips(recordings / "events.csv", out)
    assert record["kept"] == 22
    assert contents(out) == before


@pytest.mark.parametrize(
    "change", [{"form": ClipForm(size=64)}, {"seed": 1}, {"shares": (2, 1, 1)}]
)
def test_settings_are_never_mixed(recordings, tmp_path, change):
    out = tmp_path / "out"
    make_clips(recordings / "events.csv", out)
    before = contents(out)
    with pytest.raises(InputError, match=r"cut with other settings \((size|seed|shares)\)"):
        make_clips(recordings / "events.csv", out, **change)
    table = recordings / "other.csv"
    table.write_bytes((recordings / "events.csv").read_bytes() + b"v/0.mp4,p9,0,4,a\n")
    with pytest.raises(InputError, match="the table of events"):
        make_clips(table, out)
    assert contents(out) == before


def test_a_folder_with_other_content_is_left_alone(recordings, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("three years of work")
    with pytest.raises(InputError, match="not a folder of clips"):
        make_clips(recordings / "events.csv", tmp_path / "out")
    assert contents(tmp_path / "out") == {"thesis.txt": b"three years of work"}


def test_a_replaced_recording_is_cut_anew(tmp_path):
    folder = tmp_path / "data"
    make_video(folder / "a.mp4", 5)
    make_video(folder / "b.mp4", 5)
    table = write_events(folder / "events.csv", ["a.mp4,p,0,4,a", "b.mp4,q,0,4,b"])
    make_clips(table, tmp_path / "out", shares=(1, 0, 1))
    make_video(folder / "b.mp4", 5, rate=5)
    make_clips(table, tmp_path / "out", shares=(1, 0, 1))
    rows = manifest(tmp_path / "out")
    assert len(list((tmp_path / "out/clips").iterdir())) == 2
    (row,) = [row for row in rows if row["label"] == "b"]
    assert numbers(read_clip(tmp_path / "out" / row["file"]))[-1] == 18


def test_equal_pixels_and_key_give_equal_bytes(recordings, tmp_path):
    make_clips(recordings / "events.csv", tmp_path / "out")
    path = next((tmp_path / "out/clips").iterdir())
    content = path.read_bytes()
    about = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    key = json.loads(about["atcon"])["key"]
    assert clip_bytes(read_clip(path), key) == content


def test_a_stretch_of_a_recording_becomes_one_clip(recordings, tmp_path):
    rows = ["v/0.mp4,p,0,8,a", "v/0.mp4,p,0,9,a", "v/1.mp4,q,0,8,b"]
    table = write_events(recordings / "twice.csv", rows)
    record = make_clips(table, tmp_path / "out", shares=(1, 0, 1))
    assert record["counts"]["clips"] == 4
    assert record["left_out"] == {"repeated": {"event": 0, "clip": 2}}


def test_nothing_left_is_an_error_that_says_why(recordings, tmp_path):
    table = write_events(recordings / "none.csv", ["v/0.mp4,p,0,3,a"])
    with pytest.raises(InputError, match=r"no clip is left of it; .*lasts 3 s"):
        make_clips(table, tmp_path / "out")
