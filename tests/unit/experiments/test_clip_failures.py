"""Failures are put into recordings and tables: each is named and counted, no frame is exchanged."""

import csv
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from videos import make_video, numbers, remux, write_events

from atcon.data import decoding
from atcon.data.clip_files import read_clip
from atcon.data.trust import Shown, trusted
from atcon.errors import BadVideoError, InputError
from atcon.experiments.clips import make_clips
from atcon.records import read_json

RATE, SECONDS = 25, 20
FRONT = {"movflags": "faststart"}  # the index before the frames, so that it outlives a cut
VARYING = np.cumsum([0.0, *np.random.default_rng(0).uniform(0.02, 0.2, 160).round(3)]).round(3)
PAUSED = [time if time < 6 else time + 3 for time in (k / 10 for k in range(160))]


def constant(time: float) -> int:
    """The number of the frame that a recording of constant rate shows."""
    return int(time * RATE + 1e-6)


def at(times) -> Callable[[float], int]:
    """The same of one whose frames have these times."""
    return lambda time: bisect_right(list(times), time + 1e-6) - 1


@dataclass(frozen=True)
class Failure:
    """What is done, and what must come of it.

    Attributes:
        build: Writes the recording `bad.*` (given one that is good) and gives the table's rows.
        left_out: Reason and unit of everything that is left out, with their number.
        starts: Of the clips that are left of the bad recording.
        says: What every message holds.
        shown: The number of the frame shown at a time.
    """

    build: Callable[[Path, Path], list[str]]
    left_out: dict[tuple[str, str], int]
    starts: tuple[float, ...]
    says: str
    shown: Callable[[float], int] = constant


def whole(name: str = "bad.mp4") -> list[str]:
    return [f"{name},p,0,{SECONDS},a"]


def rows(*events: str) -> Callable[[Path, Path], list[str]]:
    """A good recording, with these events."""

    def build(folder: Path, video: Path) -> list[str]:
        (folder / "bad.mp4").write_bytes(video.read_bytes())
        return [f"bad.mp4,{event}" for event in events]

    return build


def place_of(path: Path, time: float) -> tuple[int, int]:
    """Where in the file the packet shown at a time lies, and how long it is."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        (found,) = [
            (packet.pos, packet.size)
            for packet in container.demux(stream)
            if packet.size and abs(float(packet.pts * stream.time_base) - time) < 1e-3
        ]
    return found


def overwritten(folder: Path, video: Path) -> list[str]:
    """Noise in the place of the key frame at 5 s."""
    content = bytearray(video.read_bytes())
    place, size = place_of(video, 5.0)
    content[place + 8 : place + size] = np.random.default_rng(1).bytes(size - 8)
    (folder / "bad.mp4").write_bytes(content)
    return whole()


def cut_off(folder: Path, video: Path) -> list[str]:
    """The file ends before the key frame at 10 s."""
    (folder / "bad.mp4").write_bytes(video.read_bytes()[: place_of(video, 10.0)[0]])
    return whole()


def without_packets(folder: Path, video: Path) -> list[str]:
    """No frame from 5.2 to 6.4 s."""
    remux(video, folder / "bad.mp4", lambda place: not 130 <= place < 160)
    return whole()


def unknown_codec(folder: Path, video: Path) -> list[str]:
    content = video.read_bytes()
    assert content.count(b"avc1") >= 1
    (folder / "bad.mp4").write_bytes(content.replace(b"avc1", b"zzzz"))
    return whole()


def no_recording(folder: Path, _video: Path) -> list[str]:
    (folder / "bad.mp4").write_text("a note in the place of a recording")
    return whole()


def without_index(folder: Path, _video: Path) -> list[str]:
    """A frame is lost from a file without time stamps, and its index is not where it should be."""
    path = make_video(folder / "bad.avi", SECONDS, codec="mpeg4")
    content, (place, size) = path.read_bytes(), place_of(path, 0.48)
    path.write_bytes(content[: place - 8] + content[place + size + size % 2 :])
    return whole("bad.avi")


def filmed(name: str, **options) -> Callable[[Path, Path], list[str]]:
    """A recording made for the purpose."""

    def build(folder: Path, _video: Path) -> list[str]:
        make_video(folder / name, SECONDS, **options)
        return [f"{name},p,0,16,a"]

    return build


FAILURES = {
    "corrupted": Failure(overwritten, {("damaged", "clip"): 1}, (0, 8, 12, 16), "clip at 4 s"),
    "truncated": Failure(cut_off, {("truncated", "clip"): 3}, (0, 4), "it lasts 20 s"),
    "gap": Failure(without_packets, {("gap", "clip"): 1}, (0, 8, 12, 16), "clip at 4 s"),
    "varying rate": Failure(filmed("bad.mkv", times=VARYING), {}, (0, 4, 8, 12), "", at(VARYING)),
    "pause": Failure(
        filmed("bad.mkv", times=PAUSED), {("gap", "clip"): 2}, (0, 12), "5.9", at(PAUSED)
    ),
    "outside": Failure(
        rows("p,0,8,a", "p,17,25,a"), {("outside", "event"): 1}, (0, 4), "line 3 (bad.mp4, 17 to 25"
    ),
    "overlap": Failure(
        rows("p,0,8,a", "p,6,14,b"), {("overlap", "clip"): 2}, (0, 10), "overlaps '"
    ),
    "unknown codec": Failure(unknown_codec, {("codec", "event"): 1}, (), "codec is not known"),
    "no patient": Failure(
        rows("p,0,4,a", ",4,8,a"), {("patient", "event"): 1}, (0,), "line 3 (bad.mp4, 4 to 8)"
    ),
    "no label": Failure(rows("p,0,4,a", "p,4,8,"), {("label", "event"): 1}, (0,), "no label"),
    "times": Failure(rows("p,0,4,a", "p,8,4,a"), {("times", "event"): 1}, (0,), "in order"),
    "twice": Failure(rows("p,0,4,a", "p,0,4,a"), {("repeated", "event"): 1}, (0,), "line 2"),
    "short": Failure(rows("p,0,4,a", "p,5,8,a"), {("short", "event"): 1}, (0,), "lasts 3 s"),
    "no file": Failure(lambda *_: whole(), {("missing", "event"): 1}, (), "bad.mp4: no such file"),
    "no recording": Failure(no_recording, {("unreadable", "event"): 1}, (), "not a whole record"),
    "no index": Failure(without_index, {("damaged", "event"): 1}, (), "1 in its index"),
    "time stamps": Failure(filmed("bad.avi"), {("timestamps", "clip"): 4}, (), "do not ascend"),
}


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    """A recording of 20 s, a key frame every second; read it only."""
    folder = tmp_path_factory.mktemp("good")
    return make_video(folder / "good.mp4", SECONDS, container_options=FRONT)


@pytest.fixture(scope="session")
def clean(video, tmp_path_factory) -> dict[float, torch.Tensor]:
    """The clips of the good recording, by their start."""
    folder = video.parent
    write_events(folder / "clean.csv", [f"good.mp4,q,0,{SECONDS},b"])
    out = tmp_path_factory.mktemp("clean") / "clips"
    make_clips(folder / "clean.csv", out, shares=(1, 0, 0))
    return clips_of(out)["good.mp4"]


def clips_of(out: Path) -> dict[str, dict[float, torch.Tensor]]:
    found: dict[str, dict[float, torch.Tensor]] = {}
    with (out / "clips.csv").open(newline="") as handle:
        for row in csv.DictReader(handle):
            clips = found.setdefault(row["video"], {})
            clips[float(row["start"])] = read_clip(out / row["file"])
    return found


def broken(name: str, folder: Path, video: Path) -> Path:
    """A table of the failure's events, and of two more clips in a recording that is good."""
    folder.mkdir()
    table = FAILURES[name].build(folder, video)
    (folder / "good.mp4").write_bytes(video.read_bytes())
    return write_events(folder / "events.csv", [*table, "good.mp4,q,4,12,b"])


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_named_and_counted_and_all_other_clips_are_right(name, tmp_path, video, clean):
    failure, out = FAILURES[name], tmp_path / "out"
    table = broken(name, tmp_path / "in", video)
    record = make_clips(table, out, shares=(1, 0, 0))
    assert read_json(out / "clips.json") == {k: v for k, v in record.items() if k != "kept"} | {
        "format": 1
    }
    counted = {
        (reason, unit): count
        for reason, units in record["left_out"].items()
        for unit, count in units.items()
        if count
    }
    assert counted == failure.left_out
    skipped = [(entry["reason"], entry["unit"]) for entry in record["skipped"]]
    assert Counter(skipped) == counted
    for entry in record["skipped"]:
        assert entry["name"].startswith("events.csv, line ")
        assert failure.says in entry["message"]
        assert "bad." in entry["message"]
    clips = clips_of(out)
    for start in (4.0, 8.0):
        assert torch.equal(clips["good.mp4"][start], clean[start])
    del clips["good.mp4"]
    of_bad = {start: clip for made in clips.values() for start, clip in made.items()}
    assert sorted(of_bad) == list(failure.starts)
    for start, clip in of_bad.items():
        assert numbers(clip) == [failure.shown(start + k / 4) for k in range(16)]


@pytest.mark.parametrize("name", [name for name in FAILURES if FAILURES[name].left_out])
def test_under_the_policy_error_the_first_failure_ends_it_by_name(name, tmp_path, video):
    failure, out = FAILURES[name], tmp_path / "out"
    table = broken(name, tmp_path / "in", video)
    with pytest.raises(BadVideoError) as caught:
        make_clips(table, out, shares=(1, 0, 0), on_bad="error")
    assert caught.value.reason in {reason for reason, _ in failure.left_out}
    assert failure.says in str(caught.value)
    assert not (out / "clips.csv").exists()
    assert not (out / "clips.json").exists() or not read_json(out / "clips.json")["complete"]
    make_clips(table, out, shares=(1, 0, 0))  # and the other policy goes on from there
    assert (out / "clips.csv").exists()


def test_all_failures_in_one_table_are_counted_side_by_side(tmp_path, video):
    expected: Counter[tuple[str, str]] = Counter()
    lines: list[str] = []
    for number, (name, failure) in enumerate(FAILURES.items()):
        broken(name, tmp_path / f"{number}", video)
        with (tmp_path / f"{number}" / "events.csv").open() as handle:
            lines += [f"{number}/{line.strip()}" for line in list(handle)[1:]]
        expected += Counter(failure.left_out)
    table = write_events(tmp_path / "all.csv", lines)
    record = make_clips(table, tmp_path / "out", shares=(1, 0, 0))
    found = Counter((entry["reason"], entry["unit"]) for entry in record["skipped"])
    assert found == expected
    made = sum(len(failure.starts) + 2 for failure in FAILURES.values())
    assert record["counts"]["clips"] == made


@pytest.mark.parametrize(("suffix", "least"), [("mp4", 2), ("mkv", 2), ("ts", 0)])
def test_wherever_a_file_is_cut_off_each_clip_is_right_or_left_out(suffix, least, tmp_path, clean):
    """A transport stream says nowhere how long it was: an event beyond its end is outside."""
    path = make_video(
        tmp_path / f"good.{suffix}",
        SECONDS,
        container_options=FRONT if suffix == "mp4" else None,
    )
    content, lines = path.read_bytes(), []
    for number, share in enumerate((0.02, 0.3, 0.501, 0.777, 0.999)):
        (tmp_path / f"{number}.{suffix}").write_bytes(content[: int(share * len(content))])
        lines.append(f"{number}.{suffix},p,0,{SECONDS},a")
    lines.append(f"good.{suffix},p,0,{SECONDS},a")
    record = make_clips(write_events(tmp_path / "t.csv", lines), tmp_path / "out", shares=(1, 0, 0))
    clips = clips_of(tmp_path / "out")
    made = [len(clips.get(f"{number}.{suffix}", {})) for number in range(5)]
    assert made == sorted(made)
    assert made[0] == 0
    assert made[3] >= least
    assert len(clips.pop(f"good.{suffix}")) == len(clean) == 5
    assert record["counts"]["clips"] == sum(made) + 5
    for of_video in clips.values():
        for start, clip in of_video.items():
            assert numbers(clip) == [constant(start + k / 4) for k in range(16)]
    units = Counter(entry["unit"] for entry in record["skipped"])
    events = 5 * units["event"]  # each would have given five clips
    assert units["clip"] + events >= 5 * 5 - sum(made)


def test_a_damaged_byte_costs_clips_and_hardly_ever_changes_one_unseen(
    tmp_path, video, clean, monkeypatch
):
    """A byte among the frames of twenty recordings; docs/howto/cut-clips.md has the rate."""
    content, lines = video.read_bytes(), []
    first = place_of(video, 0.04)[0]
    for seed in range(20):
        random = np.random.default_rng([seed, 1])
        damaged = bytearray(content)
        damaged[int(random.integers(first, len(content)))] ^= int(random.integers(1, 256))
        (tmp_path / f"{seed}.mp4").write_bytes(damaged)
        lines.append(f"{seed}.mp4,p,0,{SECONDS},a")
    table = write_events(tmp_path / "t.csv", lines)

    def wrong(out: Path) -> tuple[int, int]:
        record = make_clips(table, out, shares=(1, 0, 0))
        made = [pair for of_video in clips_of(out).values() for pair in of_video.items()]
        units = Counter(entry["unit"] for entry in record["skipped"])
        assert units["event"] == 0
        assert len(made) + units["clip"] == 5 * 20
        return len(made), sum(not torch.equal(clip, clean[start]) for start, clip in made)

    made, unseen = wrong(tmp_path / "judged")
    assert made >= 60
    assert unseen <= 2
    monkeypatch.setattr(decoding, "trusted", believed)
    assert wrong(tmp_path / "believed")[1] > 2  # so there was something to see


def believed(*arguments) -> Iterator[Shown]:
    """What is judged, without the doubts."""
    return (shown._replace(doubt=None) for shown in trusted(*arguments))


def test_metadata_in_another_encoding_are_no_obstacle(tmp_path, video, clean):
    path = make_video(tmp_path / "latin.mkv", SECONDS, tags={"title": "Station Suedfluegel"})
    content = path.read_bytes()
    assert content.count(b"Suedfluegel") == 2  # of the file and of its track
    path.write_bytes(content.replace(b"Suedfluegel", "S\xfcdfl\xfcgel\0\0".encode("latin-1")))
    table = write_events(tmp_path / "t.csv", ["latin.mkv,p,0,8,a"])
    make_clips(table, tmp_path / "out", shares=(1, 0, 0))
    for start, clip in clips_of(tmp_path / "out")["latin.mkv"].items():
        assert numbers(clip) == numbers(clean[start])


def test_a_policy_that_there_is_not_is_refused(tmp_path):
    table = write_events(tmp_path / "t.csv", ["a.mp4,p,0,8,a"])
    with pytest.raises(InputError, match="--on-bad: 'guess' is not a policy"):
        make_clips(table, tmp_path / "out", on_bad="guess")
    assert not (tmp_path / "out").exists()
