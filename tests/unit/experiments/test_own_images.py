"""A user's own images, single-label by folders and multi-label by a CSV with boxes."""

from pathlib import Path

import numpy as np
import pytest
from pipeline import COLOURS, folder_config, make_folder, save_disc, truncate

from atcon.errors import InputError
from atcon.experiments.attend import attend
from atcon.experiments.config import load_config
from atcon.experiments.finished import evaluate
from atcon.experiments.run import run
from atcon.records import read_csv, read_json, write_csv
from atcon.report import write_report, write_sheets

NAMES = list(COLOURS)


@pytest.fixture(scope="module")
def single(own_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("single")
    config = folder_config(base / "own.yaml", own_images)
    run(load_config(str(config)), base / "run")
    return base / "run"


def make_tables(root: Path) -> None:
    """Two discs or one per image, with the columns of both CSV files."""
    random = np.random.default_rng(1)
    rows, boxes = [], []
    for index in range(30):
        names = tuple(dict.fromkeys((NAMES[index % 3], NAMES[index % 2])))
        file = f"{index:02d}.png"
        boxes += [[file, *box] for box in save_disc(root / file, names, random)]
        rows.append([file, ";".join(names)])
    write_csv(root / "labels.csv", ["file", "labels"], rows)
    write_csv(root / "boxes.csv", ["file", "label", "left", "top", "right", "bottom"], boxes)


def test_folders_give_one_label_per_image_and_exactly_one_prediction(single):
    summary = read_json(single / "summary.json")
    assert summary["classes"] == NAMES
    assert summary["multi_label"] is False
    assert summary["counts"] == {
        "train": 6,
        "validation": 6,
        "unlabelled": 0,
        "test": 8,
        "skipped": 0,
    }
    for row in read_csv(single / "predictions" / "supervised.csv"):
        values = {name: float(row[name]) for name in NAMES}
        assert sum(values.values()) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == max(values, key=values.__getitem__)


def test_without_boxes_nothing_is_said_about_places(single):
    summary = read_json(single / "summary.json")
    for stage in summary["stages"].values():
        assert {stage["test"][key] for key in ("iou", "iou_reference", "epg")} == {None}
        assert stage["intervals"]["iou"] is None
    assert summary["gain"]["iou"] is None
    assert summary["controls"]["uniform"]["gain"]["iou"] is None
    assert summary["floors"] == {}
    assert "IoU" not in summary["verdict"]["sentence"]
    assert {row["iou"] for row in read_csv(single / "localisation" / "supervised.csv")} == {""}
    assert write_report(single).exists()


def test_attend_predicts_exactly_one_class_where_one_holds(single, own_images, tmp_path):
    (entry,) = attend(single, [own_images / "red" / "00.jpg"], tmp_path / "out")
    for answer in entry["stages"].values():
        assert answer["predicted"] == [answer["top"]]
    assert len(write_sheets(tmp_path / "out")) == 1


def test_a_finished_run_can_be_tested_on_images_elsewhere(single, tmp_path):
    other = make_folder(tmp_path / "other", per_class=4)
    truncate(other / "red" / "01.jpg")
    result = evaluate(single, [f"data.root={other}"])
    known = result["counts"]["test"] + result["counts"]["skipped"]
    assert known == len(list(other.rglob("*.jpg"))) * 3 // 10
    (other / "red").rename(other / "yellow")
    with pytest.raises(InputError, match="yellow"):
        evaluate(single, [f"data.root={other}"])


def test_a_table_of_labels_and_boxes_runs_to_the_end(tmp_path):
    root = tmp_path / "images"
    make_tables(root)
    config = folder_config(tmp_path / "own.yaml", root, "csv: labels.csv", "boxes: boxes.csv")
    summary = run(load_config(str(config)), tmp_path / "run")
    assert summary["multi_label"] is True
    rows = read_csv(tmp_path / "run" / "localisation" / "supervised.csv")
    assert any(row["correct"] == "1" for row in rows)
    assert all(bool(row["iou"]) == (row["correct"] == "1") for row in rows)
    entry = read_json(tmp_path / "run" / "gallery" / "index.json")["entries"][0]
    for box in entry["boxes"]:
        assert box["label"] in entry["labels"]
        assert box["right"] - box["left"] == pytest.approx(24 / 64)
    assert write_report(tmp_path / "run").exists()


def test_a_truncated_test_image_is_left_out_of_every_table_and_named(tmp_path):
    root = make_folder(tmp_path / "images")
    config = load_config(str(folder_config(tmp_path / "own.yaml", root)))
    run(config, tmp_path / "first")
    broken = read_json(tmp_path / "first" / "split.json")["test"][0]["name"]
    truncate(root / broken)
    summary = run(config, tmp_path / "second")
    assert (summary["counts"]["test"], summary["counts"]["skipped"]) == (7, 1)
    split = read_json(tmp_path / "second" / "split.json")
    assert [entry["name"] for entry in split["skipped"]] == [broken]
    assert "truncated" in split["skipped"][0]["reason"]
    for table in ("predictions", "localisation"):
        rows = read_csv(tmp_path / "second" / table / "consistency.csv")
        assert broken not in {row["name"] for row in rows}


def test_a_repaired_box_is_noted(tmp_path):
    root = tmp_path / "images"
    make_tables(root)
    table = root / "boxes.csv"
    table.write_text(table.read_text() + "00.png,blue,30,30,90,60\n")
    config = folder_config(tmp_path / "own.yaml", root, "csv: labels.csv", "boxes: boxes.csv")
    run(load_config(str(config), ["controls.uniform=false"]), tmp_path / "run")
    (note,) = read_json(tmp_path / "run" / "split.json")["notes"]
    assert note["name"] == "00.png"
    assert "boxes.csv" in note["remark"]
