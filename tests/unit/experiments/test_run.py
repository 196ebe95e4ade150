"""A run folder holds what docs/architecture.md says, and its numbers follow from each other."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline import content_of, tiny, without_seconds
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score, f1_score

from atcon.data import digits
from atcon.experiments.config import dump_config, load_config
from atcon.experiments.finished import evaluate
from atcon.experiments.progress import Progress
from atcon.experiments.run import run
from atcon.records import read_csv, read_json, read_lines
from atcon.report import write_report

STAGES = ("supervised", "consistency", "uniform")
CLASSES = ["5", "6", "7", "8", "9"]
TEST = {"f1", "f1_tuned", "map", "map_weighted", "iou", "iou_reference", "epg", "pointing",
        "max_box_acc", "consistency", "mask_contrast"}  # fmt: skip
STAGE = {"epoch", "epochs", "kept", "seconds", "validation", "start", "thresholds", "test",
         "intervals", "per_class", "selected_by", "steps", "reused_from"}  # fmt: skip


@pytest.fixture(scope="module")
def summary(finished_run: Path) -> Mapping:
    return read_json(finished_run / "summary.json")


def truth_and_scores(run_folder: Path, stage: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = read_csv(run_folder / "predictions" / f"{stage}.csv")
    named = {key: [set(row[key].split(";")) for row in rows] for key in ("labels", "predicted")}
    truth, said = (
        np.array([[name in names for name in CLASSES] for names in named[key]])
        for key in ("labels", "predicted")
    )
    return truth, said, np.array([[float(row[name]) for name in CLASSES] for row in rows])


def test_the_folder_holds_every_file_of_the_contract_and_no_other(finished_run):
    assert set(content_of(finished_run)) == {
        "config.yaml", "environment.json", "split.json", "metrics.jsonl", "summary.json",
        "report.html",
        *(f"checkpoints/{stage}.{kind}" for stage in STAGES for kind in ("safetensors", "json")),
        *(f"{table}/{stage}.csv" for table in ("predictions", "localisation") for stage in STAGES),
        "gallery/index.json", *(f"gallery/000{index}.npz" for index in range(4)),
    }  # fmt: skip


def test_the_configuration_and_the_machine_are_recorded(finished_run):
    assert load_config(str(finished_run / "config.yaml")) == tiny()
    assert (finished_run / "config.yaml").read_text() == dump_config(tiny())
    machine = read_json(finished_run / "environment.json")
    assert {"python", "platform", "processors", "threads", "gpu", "packages"} < set(machine)
    assert machine["packages"]["torch"]


def test_the_split_is_disjoint_and_every_image_has_its_hash(finished_run):
    split = read_json(finished_run / "split.json")
    names = [entry["name"] for part in ("train", "validation", "test") for entry in split[part]]
    assert [len(split[part]) for part in ("train", "validation", "test")] == [10, 20, 24]
    assert len(set(names)) == len(names)
    assert all(
        len(entry["sha256"]) == 64 and entry["labels"]
        for part in ("train", "validation", "test")
        for entry in split[part]
    )
    assert (split["skipped"], split["notes"]) == ([], [])


def test_every_epoch_has_its_line(finished_run):
    lines = read_lines(finished_run / "metrics.jsonl")
    assert [(line["stage"], line["epoch"]) for line in lines] == [
        (stage, epoch) for stage in STAGES for epoch in (1, 2)
    ]
    base = {"stage", "epoch", "loss", "validation", "seconds"}
    more = {"correlation", "mask_contrast", "entropy", "between_images"}
    for line in lines:
        assert set(line) == (base if line["stage"] == "supervised" else base | more)
        assert set(line["validation"]) == {"map", "f1"}
        if line["stage"] != "supervised":
            assert line["loss"] == pytest.approx(-line["correlation"], abs=1e-6)
        if line["stage"] == "uniform":
            assert line["mask_contrast"] == 0


@pytest.mark.parametrize("stage", STAGES)
def test_tables_have_their_columns_and_one_row_per_test_image(finished_run, stage):
    named = {
        "predictions": ["name", "labels", "predicted", *CLASSES],
        "localisation": ["name", "class", "correct", "iou", "epg", "correlation", "mask_contrast",
                         "iou_reference", "pointing", "box_ious"],
    }  # fmt: skip
    test = [entry["name"] for entry in read_json(finished_run / "split.json")["test"]]
    for table, columns in named.items():
        with (finished_run / table / f"{stage}.csv").open(newline="") as handle:
            reader = csv.DictReader(handle)
            rows = list(reader)
        assert reader.fieldnames == columns
        assert [row["name"] for row in rows] == test


def test_the_summary_has_every_key_of_the_contract(summary):
    assert set(summary) == {
        "format", "atcon", "name", "data", "seed", "classes", "multi_label", "primary", "level",
        "resamples", "counts", "model", "stages", "gain", "controls", "floors", "verdict",
        "seconds", "strategy", "judged", "arms", "resampled", "test_groups", "unit",
    }  # fmt: skip
    assert (summary["unit"], summary["resampled"], summary["test_groups"]) == (
        "images",
        "images",
        None,
    )
    counts = {"train": 10, "validation": 20, "unlabelled": 0, "test": 24, "skipped": 0}
    assert summary["counts"] == counts
    assert summary["classes"] == CLASSES
    assert summary["model"]["layer"] == "stages"
    assert summary["model"]["guided"] > 0
    assert list(summary["stages"]) == list(STAGES)
    assert set(summary["seconds"]) == {*STAGES, "evaluation", "total"}
    for stage in summary["stages"].values():
        assert set(stage) == STAGE
        assert set(stage["test"]) == set(stage["intervals"]) == TEST
        assert list(stage["per_class"]) == CLASSES
    gains = TEST - {"mask_contrast"} | {"iou_common", "iou_reference_common"}
    assert set(summary["gain"]) == gains
    assert set(summary["controls"]["uniform"]["gain"]) == {"f1", "map", "iou"}
    assert set(summary["controls"]["calibration"]["difference"]) == {"f1"}
    assert set(summary["floors"]) == {"whole_image", "centre_box"}
    for floor in summary["floors"].values():
        assert set(floor) == {"iou", "epg", "pointing", "max_box_acc"}


@pytest.mark.parametrize("stage", STAGES)
def test_scores_are_those_of_scikit_learn_on_the_written_predictions(finished_run, summary, stage):
    truth, said, scores = truth_and_scores(finished_run, stage)
    record = summary["stages"][stage]
    assert (said == (scores >= 0.5)).all()
    tuned = scores >= np.array(record["thresholds"])
    expected = {
        "f1": f1_score(truth, said, average="macro", zero_division=0),
        "f1_tuned": f1_score(truth, tuned, average="macro", zero_division=0),
        "map": average_precision_score(truth, scores, average="macro"),
        "map_weighted": average_precision_score(truth, scores, average="weighted"),
    }
    for name, value in expected.items():
        assert record["test"][name] == pytest.approx(100 * value, abs=0.01), name
    precisions = average_precision_score(truth, scores, average=None)
    for name, value, count in zip(CLASSES, precisions, truth.sum(0), strict=True):
        assert record["per_class"][name]["ap"] == pytest.approx(100 * value, abs=0.01)
        assert record["per_class"][name]["count"] == count


@pytest.mark.parametrize("stage", STAGES)
def test_maps_are_judged_where_the_top_class_is_right(finished_run, summary, stage):
    rows = read_csv(finished_run / "localisation" / f"{stage}.csv")
    predictions = read_csv(finished_run / "predictions" / f"{stage}.csv")
    for row, said in zip(rows, predictions, strict=True):
        assert row["class"] == max(CLASSES, key=lambda name: float(said[name]))
        assert row["correct"] == str(int(row["class"] in said["labels"].split(";")))
        assert bool(row["iou"]) == bool(row["epg"]) == (row["correct"] == "1")
    test = summary["stages"][stage]["test"]
    unscaled = {"correlation", "mask_contrast"}
    for key in ("iou", "epg", "iou_reference", "pointing", *sorted(unscaled)):
        scale = 1 if key in unscaled else 100
        values = [float(row[key]) for row in rows if row[key]]
        name = "consistency" if key == "correlation" else key
        assert test[name] == pytest.approx(scale * np.mean(values), abs=1e-3), key
    boxes = np.array([np.array(row["box_ious"].split(";"), float) for row in rows if row["iou"]])
    best = [(boxes >= least).mean(axis=0).max() for least in (0.3, 0.5, 0.7)]
    assert test["max_box_acc"] == pytest.approx(100 * np.mean(best), abs=1e-3)


def test_gains_are_after_minus_before_and_every_interval_holds_its_value(summary):
    before, after = (summary["stages"][stage] for stage in ("supervised", "consistency"))
    for name, gain in summary["gain"].items():
        if not name.endswith("_common"):
            assert gain["value"] == pytest.approx(
                after["test"][name] - before["test"][name], abs=1.1e-3
            )
        assert gain["low"] <= gain["high"]
        assert 0 <= gain["p"] <= 1
    for stage in (before, after):
        for name, (low, high) in stage["intervals"].items():
            assert low <= stage["test"][name] <= high, name
    uniform = summary["stages"]["uniform"]["test"]
    for name in ("f1", "map", "iou"):
        control = summary["controls"]["uniform"]
        assert control["gain"][name]["value"] == pytest.approx(
            uniform[name] - before["test"][name], abs=1.1e-3
        )
        assert control["difference"][name]["value"] == pytest.approx(
            after["test"][name] - uniform[name], abs=1.1e-3
        )
    calibration = summary["controls"]["calibration"]["gain"]["f1"]["value"]
    assert calibration == pytest.approx(
        before["test"]["f1_tuned"] - before["test"]["f1"], abs=1.1e-3
    )


def test_the_epoch_kept_is_the_best_on_validation(finished_run, summary):
    lines = read_lines(finished_run / "metrics.jsonl")
    for name, stage in summary["stages"].items():
        seen = {line["epoch"]: line["validation"] for line in lines if line["stage"] == name}
        best = max(entry["map"] for entry in [*seen.values(), stage["start"]] if entry)
        assert stage["validation"]["map"] == best
        assert stage["kept"] == (stage["epoch"] > 0)
        if stage["kept"]:
            assert stage["validation"] == seen[stage["epoch"]]
    assert (
        summary["stages"]["consistency"]["start"] == summary["stages"]["supervised"]["validation"]
    )


def test_checkpoints_are_plain_safetensors_of_the_same_network(finished_run):
    weights = [load_file(finished_run / "checkpoints" / f"{stage}.safetensors") for stage in STAGES]
    assert weights[0].keys() == weights[1].keys() == weights[2].keys()
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])


def test_the_gallery_repeats_what_the_tables_say(finished_run):
    index = read_json(finished_run / "gallery" / "index.json")
    boxes = {example.name: example.boxes for example in digits().test}
    assert index["maps"] == ["grad_cam", "guided_backprop", "mask"]
    for stage in index["stages"]:
        table = {row["name"]: row for row in read_csv(finished_run / f"localisation/{stage}.csv")}
        for entry in index["entries"]:
            said, row = entry["stages"][stage], table[entry["name"]]
            assert said["top"] == row["class"]
            assert said["correct"] == (row["correct"] == "1")
            assert said["correlation"] == pytest.approx(float(row["correlation"]), abs=1e-4)
            assert (said["iou"] is None) == (row["iou"] == "")
            assert len(entry["boxes"]) == len(boxes[entry["name"]])
            with np.load(finished_run / "gallery" / entry["file"]) as arrays:
                assert arrays["image"].shape == (64, 64, 3)
                assert {f"{stage}_{kind}" for kind in index["maps"]} <= set(arrays.files)
                assert arrays[f"{stage}_grad_cam"].max() == 255


def test_a_start_that_nothing_beats_is_kept_bit_by_bit(tmp_path):
    config = tiny("consistency.lr=0.5", "consistency.epochs=1", "controls.uniform=false")
    record = run(config, tmp_path / "run")
    ours = record["stages"]["consistency"]
    assert (ours["epoch"], ours["kept"], ours["validation"]) == (0, False, ours["start"])
    before, after = (
        load_file(tmp_path / "run" / "checkpoints" / f"{stage}.safetensors")
        for stage in ("supervised", "consistency")
    )
    assert all((before[name] == after[name]).all() for name in before)
    assert record["verdict"]["outcome"] == "not_kept"
    assert {(gain["value"], gain["p"]) for gain in record["gain"].values()} == {(0.0, 1.0)}
    assert set(record["controls"]) == {"calibration"}
    assert write_report(tmp_path / "run").exists()
    assert (
        read_lines(tmp_path / "run" / "metrics.jsonl")[-1]["validation"]["map"]
        < (ours["start"]["map"])
    )


class Stopped(Progress):
    """Interrupts a run in the second epoch of the named stage."""

    def __init__(self, stage: str) -> None:
        self.stage, self.current, self.epochs = stage, "", 0

    def begin(self, title, total, unit=""):
        self.current, self.epochs = title, 0

    def milestone(self, text):
        self.epochs += 1

    def advance(self, values, steps=1):
        if self.current == self.stage and self.epochs == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "stage", [pytest.param("supervised", marks=pytest.mark.slow), "consistency"]
)
def test_an_interrupted_run_continues_to_the_same_result(finished_run, tmp_path, stage):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), folder, progress=Stopped(stage))
    assert (folder / "checkpoints" / "last.pt").exists()
    assert not (folder / "summary.json").exists()
    record = run(tiny(), folder, resume=True)
    assert without_seconds(record) == without_seconds(
        {key: value for key, value in read_json(finished_run / "summary.json").items()
         if key != "format"}
    )  # fmt: skip
    assert not (folder / "checkpoints" / "last.pt").exists()
    continued, whole = content_of(folder), content_of(finished_run)
    for name in whole:
        if name.endswith((".safetensors", ".csv", ".npz")) or name == "split.json":
            assert continued[name] == whole[name], name
    lines = [read_lines(place / "metrics.jsonl") for place in (folder, finished_run)]
    assert [without_seconds(line) for line in lines[0]] == [
        without_seconds(line) for line in lines[1]
    ]


@pytest.mark.parametrize("unsaved", [pytest.param([], marks=pytest.mark.slow), [2]])
def test_lines_that_a_crash_left_are_written_once_and_whole(tmp_path, finished_run, unsaved):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), folder, progress=Stopped("supervised"))
    line = read_lines(folder / "metrics.jsonl")[0]
    with (folder / "metrics.jsonl").open("a") as handle:
        handle.writelines(json.dumps({**line, "epoch": epoch}) + "\n" for epoch in unsaved)
        handle.write('{"stage": "super')
    run(tiny(), folder, resume=True)
    lines = [read_lines(place / "metrics.jsonl") for place in (folder, finished_run)]
    assert [without_seconds(line) for line in lines[0]] == [
        without_seconds(line) for line in lines[1]
    ]


def test_another_seed_draws_other_images_and_gives_another_result(finished_run, tmp_path):
    record = run(tiny("seed=1", "controls.uniform=false"), tmp_path / "run")
    first, second = (read_json(place / "split.json") for place in (finished_run, tmp_path / "run"))
    assert {entry["name"] for entry in first["train"]} != {e["name"] for e in second["train"]}
    before = read_json(finished_run / "summary.json")["stages"]["supervised"]["test"]
    assert record["stages"]["supervised"]["test"] != before


def test_the_paper_preset_explains_the_layer_that_the_paper_names(tmp_path):
    config = tiny(
        "consistency.preset=paper",
        "consistency.mask=null",
        "consistency.epochs=1",
        "controls.uniform=false",
    )
    layer = run(config, tmp_path / "run")["model"]["layer"]
    assert layer.startswith("stages.")
    assert "conv" in layer


@pytest.mark.parametrize(
    "precision", [pytest.param("64-true", marks=pytest.mark.slow), "bf16-mixed"]
)
def test_every_precision_trains_evaluates_and_evaluates_again(tmp_path, precision):
    config = tiny(f"precision={precision}", "supervised.epochs=1", "controls.uniform=false")
    record = run(config, tmp_path / "run")
    weights = load_file(tmp_path / "run" / "checkpoints" / "supervised.safetensors")
    kind = torch.float64 if precision == "64-true" else torch.float32
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {kind}
    again = evaluate(tmp_path / "run")
    assert again["stages"]["consistency"]["test"] == record["stages"]["consistency"]["test"]


def test_batches_of_one_image_and_no_gallery_are_possible(tmp_path):
    config = tiny("supervised.batch_size=1", "consistency.batch_size=1", "evaluation.gallery=0")
    run(config, tmp_path / "run")
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert {line["between_images"] for line in lines if line["stage"] != "supervised"} == {None}
    assert read_json(tmp_path / "run" / "gallery" / "index.json")["entries"] == []
    assert write_report(tmp_path / "run").exists()
