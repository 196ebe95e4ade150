"""Every command of the page on own data runs to its end, on data of its form."""

import re
from pathlib import Path

import pytest
from own_data import NAMES, make_coco, make_dicom, make_hf, make_xml
from pipeline import atcon
from videos import make_video, write_events

from atcon.records import read_csv, read_json

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "own-data.md"
COMMANDS = re.findall(r"^atcon run .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
SMALL = (
    "data.image_size=32", "data.per_class=1", "data.validation_images=6", "model.weights=null",
    "supervised.epochs=1", "consistency.epochs=1", "controls.uniform=false",
    "evaluation.gallery=0", "evaluation.resamples=100", "supervised.head_factor=1",
)  # fmt: skip


def make_events(root: Path) -> Path:
    rows = []
    for patient in range(6):
        path = make_video(root / f"{patient}.mp4", 5, rate=5)
        rows += [f"{path.name},p{patient},{2.5 * k},{2.5 * k + 2},{'ab'[k]}" for k in range(2)]
    write_events(root / "events.csv", rows)
    return root


FORMS = {
    "COCO": (make_coco, ("digits_resnet",)),
    "XML": (make_xml, ("digits_resnet",)),
    "SAVED": (make_hf, ("digits_resnet",)),
    "DICOM": (make_dicom, ("digits_resnet",)),
    "RECORDINGS": (
        make_events,
        ("frames/digits_resnet", "data.clip={seconds: 1, rate: 2, size: 32}", "baselines=[]"),
    ),
}


def form_of(command: str) -> str:
    root = re.search(r"data\.root=(\w+)", command)[1]
    return f"{root} data.csv" if "data.csv" in command else root


def test_the_page_has_a_command_for_every_form():
    assert [form_of(command) for command in COMMANDS] == ["IMAGES", "IMAGES data.csv", *FORMS]


@pytest.mark.parametrize("command", COMMANDS[2:], ids=form_of)  # test_own_images runs the others
def test_the_command_of_a_form_runs_to_the_end(tmp_path, command):
    form = form_of(command)
    if form == "SAVED":
        pytest.importorskip("datasets").disable_progress_bars()
    make, (model, *more) = FORMS[form]
    root = make(tmp_path / "own")
    words = re.sub(r"data\.root=\w+", f"data.root={root}", command).split()[1:]
    out = tmp_path / "run"
    ended = atcon(*words, *SMALL, f"model.name={model}", *more, "--out", out, "--quiet")
    assert ended.code == 0, ended.err
    summary = read_json(out / "summary.json")
    assert summary["counts"]["skipped"] == 0
    assert summary["counts"]["test"] >= 8
    assert summary["classes"] == (["a", "b"] if form == "RECORDINGS" else list(NAMES))
    assert summary["unit"] == ("clips" if form == "RECORDINGS" else "images")
    grouped = form in ("COCO", "RECORDINGS")
    assert summary["resampled"] == ("groups" if grouped else "images")
    boxed = form in ("COCO", "XML")
    rows = read_csv(out / "localisation" / "supervised.csv")
    assert any(row["iou"] for row in rows) <= boxed
