"""`atcon data check` knows every form of data, and ends with 1 where something would harm."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from own_data import make_coco, make_dicom, make_hf, make_svhn, make_xml
from pipeline import Outcome, atcon, truncate
from videos import make_video, write_events

from atcon.cli.check import _pictures
from atcon.data.clip_files import clip_bytes, read_clip
from atcon.models import build
from atcon.records import read_json, write_csv

COCO = ("--set", "data.name=coco", "--set", "data.annotations=labels.json")


def check(*arguments: object) -> Outcome:
    ended = atcon("data", "check", *arguments, "--quiet")
    assert not ended.err, ended.err
    return Outcome(ended.code, " ".join(ended.out.split()), ended.err)


def double_hf(root: Path) -> None:
    """Give the set a test part that holds its training images."""
    import datasets  # noqa: PLC0415 - an extra

    table = datasets.load_from_disk(str(root))
    both = datasets.DatasetDict(train=table, test=table.select(range(12)))
    shutil.rmtree(root)
    both.save_to_disk(str(root))


FORMS = {
    "coco": (make_coco, COCO, lambda root: truncate(root / "03.png"), "1 image cannot be read"),
    "xml": (make_xml, (), lambda root: (root / "03.xml").write_text("<"), "1 image cannot be used"),
    "hf": (make_hf, (), double_hf, "12 images with equal pixels in several parts"),
    "dicom": (
        make_dicom, (), lambda root: truncate(next(root.rglob("*.dcm"))), "1 image cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_checked_and_what_harms_it_is_found(tmp_path, form):
    if form == "hf":
        pytest.importorskip("datasets").disable_progress_bars()
    make, arguments, spoil, says = FORMS[form]
    root = make(tmp_path / "own")
    good = check(root, *arguments, "--json", tmp_path / "found.json")
    assert good.code == 0, good.out
    record = read_json(tmp_path / "found.json")
    assert sum(record["counts"].values()) == 30
    assert record["data"] == ("folder" if form == "dicom" else form)
    spoil(root)
    bad = check(root, *arguments)
    assert bad.code == 1, bad.out
    assert says in bad.out


def test_a_patient_in_two_parts_of_a_coco_split_is_found(tmp_path):
    root = make_coco(tmp_path / "own")
    whole = json.loads((root / "labels.json").read_text())
    for part, places in (("train", range(20)), ("test", range(20, 30))):
        content = {**whole, "images": [whole["images"][at] for at in places]}
        content["annotations"] = [whole["annotations"][at] for at in places]
        (root / f"{part}.json").write_text(json.dumps(content))
    split = "data.annotations={train: train.json, test: test.json}"
    ended = check(root, "--set", "data.name=coco", "--set", split, "--group", "patient")
    assert ended.code == 1
    assert "1 group of 10 in several parts: p6 (test and train)" in ended.out


def test_street_digits_are_checked(tmp_path):
    root = make_svhn(tmp_path / "own")
    good = check(root)
    assert good.code == 0, good.out
    assert "30 train, 30 validation, 30 test images" in good.out
    shutil.copy(root / "test_32x32.mat", root / "train_32x32.mat")
    ended = check(root)
    assert ended.code == 1
    assert "90 images with equal pixels in several parts" in ended.out


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Six recordings of 5 s that differ, of six patients, with two events each."""
    base = tmp_path_factory.mktemp("recorded")
    rows = []
    for patient in range(6):
        path = make_video(base / f"{patient}.mp4", 5, rate=5 + patient)
        rows += [f"{path.name},p{patient},{2.5 * k},{2.5 * k + 2},{'ab'[k]}" for k in range(2)]
    write_events(base / "events.csv", rows)
    form = ("--seconds", 1, "--rate", 2, "--size", 32)
    ended = atcon("clips", base / "events.csv", "--out", base / "clips", *form, "--quiet")
    assert ended.code == 0, ended.err
    return base


@pytest.fixture
def recordings(recorded, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(recorded, tmp_path / "data"))


FORM = ("--set", "data.clip={seconds: 1, rate: 2, size: 32}")


def harms(ended: Outcome) -> list[str]:
    return re.findall(r"harm (\w+) ", ended.out)


@pytest.mark.parametrize("source", ["events.csv", ".", "clips"])
def test_clips_are_checked_and_called_clips(recordings, source):
    ended = check(recordings / source, *(() if source == "clips" else FORM))
    assert "8 train, 8 validation, 8 test clips" in ended.out
    assert "clips by class, train part: a 4, b 4" in ended.out
    assert "image" not in ended.out
    assert not {"unreadable", "groups", "split"} & {*harms(ended)}


def test_recordings_that_cannot_be_read_are_found(recordings):
    truncate(recordings / "3.mp4")
    (recordings / "4.mp4").unlink()
    ended = check(recordings / "events.csv", *FORM)
    assert ended.code == 1
    assert "4 clips cannot be used: events.csv, line" in ended.out


def test_clips_that_are_damaged_missing_or_not_those_of_the_manifest_are_found(recordings):
    with (recordings / "clips" / "clips.csv").open(newline="") as handle:
        files = [recordings / "clips" / row["file"] for row in csv.DictReader(handle)]
    truncate(files[0])
    files[1].unlink()
    files[2].write_bytes(clip_bytes(255 - read_clip(files[2]), "another"))
    ended = check(recordings / "clips")
    assert ended.code == 1
    assert "2 clips cannot be read" in ended.out
    assert "1 clip cannot be used" in ended.out
    files[0].write_bytes(files[3].read_bytes())
    assert "not the clip that clips.csv lists" in check(recordings / "clips").out


def test_a_patient_in_two_parts_is_found_in_clips_and_in_events(recordings):
    manifest = recordings / "clips" / "clips.csv"
    with manifest.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    moved = next(row for row in rows if row["split"] == "train")
    moved["split"] = "test"
    write_csv(manifest, list(rows[0]), [list(row.values()) for row in rows])
    ended = check(recordings / "clips")
    assert ended.code == 1
    assert "1 group of 6 in several parts" in ended.out
    assert "groups" in harms(ended)
    parts = [f"{k}.mp4,p{k // 2},0,4,{'ab'[k % 2]},{('train', 'test')[k % 2]}" for k in range(4)]
    write_events(recordings / "two.csv", parts, "video,patient,start,end,label,split")
    ended = check(recordings / "two.csv", *FORM)
    assert ended.code == 1
    assert "patient 'p0' is in" in ended.out


def test_the_check_of_a_network_reads_dicom(tmp_path):
    network = build("digits_resnet", classes=3)
    images = _pictures(make_dicom(tmp_path / "own"), network, 2, (3, 32, 32))
    assert images.shape == (2, 3, 32, 32)
    assert (images[:, 0] * network.std[0] + network.mean[0]).std() > 0.05
