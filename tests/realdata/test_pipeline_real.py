"""The main job on photographs and published weights, small enough for seconds."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pipeline import atcon

from atcon.experiments.config import load_config
from atcon.experiments.run import run
from atcon.records import read_csv, read_json
from atcon.report import write_report

pytestmark = pytest.mark.realdata

BESIDE = Path(__file__).parents[3] / "shared" / "data"
ROOT = Path(os.environ.get("ATCON_DATA", BESIDE))
SMALL = (
    "data.per_class=8",
    "data.validation_images=40",
    "data.test_images=40",
    "data.image_size=96",
    "supervised.epochs=6",
    "supervised.lr=3e-4",
    "supervised.batch_norm=frozen",
    "consistency.preset=default",
    "consistency.epochs=1",
    "consistency.lr=1e-5",
    "evaluation.gallery=3",
    "evaluation.resamples=200",
)


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voc") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATCON_DATA", str(ROOT))
        run(load_config("voc-animals", SMALL), folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def summary(animals: Path) -> Mapping:
    return read_json(animals / "summary.json")


def test_the_run_completes_with_every_stage_and_a_verdict(animals, summary):
    assert summary["counts"] == {
        "train": 48,
        "validation": 40,
        "unlabelled": 0,
        "test": 40,
        "skipped": 0,
    }
    assert list(summary["stages"]) == ["supervised", "consistency", "uniform"]
    assert summary["model"]["name"] == "mobilenet_v2"
    assert summary["model"]["guided"] == 35
    assert summary["verdict"]["sentence"]
    assert (animals / "report.html").stat().st_size > 50_000


def test_boxes_give_an_overlap_between_nothing_and_everything(animals, summary):
    for stage in summary["stages"].values():
        assert 5 < stage["test"]["iou"] < 95
        assert 5 < stage["test"]["epg"] <= 100
    assert 5 < summary["floors"]["whole_image"]["iou"] < 95
    rows = read_csv(animals / "localisation" / "consistency.csv")
    assert sum(bool(row["iou"]) for row in rows) == sum(row["correct"] == "1" for row in rows) > 0


def test_predictions_are_clearly_better_than_chance(animals, summary):
    test = summary["stages"]["supervised"]["test"]
    rows = read_csv(animals / "predictions" / "supervised.csv")
    share = sum(len(row["labels"].split(";")) for row in rows) / len(rows) / 6
    assert test["map"] > 100 * share + 10
    right = [row["correct"] == "1" for row in read_csv(animals / "localisation/supervised.csv")]
    assert sum(right) / len(right) > share + 0.1
    for row in rows:
        values = [float(row[name]) for name in summary["classes"]]
        assert all(0 <= value <= 1 for value in values)


def test_training_validation_and_test_never_share_a_photograph(animals):
    split = read_json(animals / "split.json")
    hashes = [entry["sha256"] for part in ("train", "validation", "test") for entry in split[part]]
    assert len(set(hashes)) == 48 + 40 + 40
    test = ROOT / "voc2012-animals" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main" / "val.txt"
    assert {entry["name"] for entry in split["test"]} <= set(test.read_text().split())


def test_a_photograph_can_be_attended_and_the_run_evaluated_again(
    animals, summary, tmp_path, monkeypatch
):
    monkeypatch.setenv("ATCON_DATA", str(ROOT))
    name = read_json(animals / "split.json")["test"][0]["name"]
    image = ROOT / "voc2012-animals" / "VOCdevkit" / "VOC2012" / "JPEGImages" / f"{name}.jpg"
    ended = atcon("attend", animals, image, "--class", "dog", "--out", tmp_path / "maps")
    assert ended.code == 0, ended.err
    answer = read_json(tmp_path / "maps" / "index.json")["entries"][0]["stages"]["consistency"]
    assert answer["explained"] == "dog"
    row = read_csv(animals / "predictions" / "consistency.csv")[0]
    assert answer["probabilities"]["dog"] == pytest.approx(float(row["dog"]), abs=2e-4)
    assert (tmp_path / "maps" / "0000.png").exists()
    ended = atcon("evaluate", animals, "--out", tmp_path / "again", "--quiet")
    assert ended.code == 0, ended.err
    again = read_json(tmp_path / "again" / "evaluation.json")["stages"]["consistency"]["test"]
    assert again == summary["stages"]["consistency"]["test"]
