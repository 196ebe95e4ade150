"""Lung ultrasound: joined to one long recording and cut again, and a run from files to report."""

import csv
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from videos import write_events

from atcon.data import ClipForm, clips
from atcon.data.clip_files import read_clip
from atcon.data.images import resize
from atcon.experiments.clips import make_clips
from atcon.experiments.config import load_config
from atcon.experiments.grid_tables import tables_of
from atcon.experiments.run import run
from atcon.experiments.shipped import experiment_of
from atcon.records import read_csv, read_json
from atcon.report import write_report

pytestmark = pytest.mark.realdata

BESIDE = Path(__file__).parents[3] / "shared" / "data"
ROOT = Path(os.environ.get("ATCON_DATA", BESIDE)) / "lung-ultrasound"
RATE, SIDE = 25, 112
FORM = ClipForm(seconds=1, rate=4, size=56)


@pytest.fixture(scope="module")
def joined(tmp_path_factory) -> tuple[Path, np.ndarray, list[tuple[str, str, int, int]]]:
    """One long recording, without loss; its frames; and who is seen from where to where."""
    folder = tmp_path_factory.mktemp("joined")
    with (ROOT / "events.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    frames: list[np.ndarray] = []
    spans = []
    for row in rows[::2]:
        first = len(frames)
        with av.open(str(ROOT / row["video"])) as container:
            shown = container.decode(video=0)
            frames.extend(frame.reformat(SIDE, SIDE, "rgb24").to_ndarray() for frame in shown)
        spans.append((row["patient"], row["label"], first, len(frames)))
    with av.open(str(folder / "long.mkv"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=RATE, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "rgb24"
        stream.codec_context.time_base = Fraction(1, RATE)
        for number, pixels in enumerate(frames):
            shown = av.VideoFrame.from_ndarray(pixels, "rgb24")
            shown.pts = number
            container.mux(stream.encode(shown))
        container.mux(stream.encode())
    return folder / "long.mkv", np.stack(frames), spans


def test_clips_cut_out_of_a_long_recording_hold_the_frames_that_were_joined(joined, tmp_path):
    recording, frames, spans = joined
    assert len(frames) > 2000
    events = [
        f"{recording.name},{patient},{first / RATE},{last / RATE},{label}"
        for patient, label, first, last in spans
    ]
    table = write_events(recording.parent / "events.csv", events)
    made = make_clips(table, tmp_path / "clips", form=FORM)
    long_enough = [span for span in spans if span[3] - span[2] >= RATE]
    windows = sum((last - first) // RATE for _, _, first, last in long_enough)
    rows = read_csv(tmp_path / "clips" / "clips.csv")
    assert len(rows) == windows
    assert set(made["left_out"]) <= {"short"}
    starts = {f"{first / RATE:.6f}" for _, _, first, _ in long_enough}
    assert starts <= {row["start"] for row in rows}
    for row in rows:
        expected = [
            resize(
                torch.from_numpy(frames[int((float(row["start"]) + k / 4) * RATE + 1e-6)]).permute(
                    2, 0, 1
                ),
                56,
            )
            for k in range(4)
        ]
        assert torch.equal(read_clip(tmp_path / "clips" / row["file"]), torch.stack(expected, 1))


def test_every_recording_is_used_and_patients_are_in_one_part(tmp_path):
    made = clips(ROOT, form=ClipForm(seconds=2, rate=4, size=112))
    parts = [made.pool, made.validation or (), made.test]
    assert made.classes == ("covid", "pneumonia", "regular")
    assert min(map(len, parts)) >= 70
    patients = [{example.group for example in part} for part in parts]
    assert len(set.union(*patients)) == sum(map(len, patients))
    for part in parts:
        for label in range(3):
            assert len({e.group for e in part if label in e.labels}) >= 3
    assert all("shorter" in reason for _, reason in made.skipped)


def test_a_run_goes_from_recordings_to_a_report_with_strips(tmp_path):
    settings = [
        f"data.root={ROOT}",
        f"model.weights={ROOT.parent / 'weights' / 'mobilenet_v2-imagenet.safetensors'}",
        "data.per_class=2",
        "data.validation_images=10",
        "data.image_size=64",
        "supervised.epochs=1",
        "consistency.epochs=1",
        "simclr.epochs=1",
        "evaluation.gallery=2",
        "evaluation.resamples=100",
    ]
    folder = tmp_path / "run"
    run(load_config("lung-ultrasound", settings), folder)
    write_report(folder)
    summary = read_json(folder / "summary.json")
    assert (summary["unit"], summary["primary"], summary["resampled"]) == ("clips", "f1", "groups")
    assert {"supervised", "consistency", "simclr", "simclr_ours"} <= set(summary["stages"])
    assert "test clips" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_of_the_supplements_tables_is_drawn_of_these_events(monkeypatch):
    monkeypatch.setenv("ATCON_DATA", str(ROOT.parent))
    drawn = tables_of(experiment_of("supplement-tables", small=True), {})
    page = Path(__file__).parents[2] / "docs/results/supplement-tables.md"
    assert drawn.strip() in page.read_text(encoding="utf-8")
