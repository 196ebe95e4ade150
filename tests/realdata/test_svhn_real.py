"""The street digits that are here: counted again by hand, divided without a shared street image."""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from atcon.data import ImageSet, few_shot_split, svhn
from atcon.experiments.config import load_config
from atcon.experiments.run import run
from atcon.records import read_json

pytestmark = pytest.mark.realdata

BESIDE = Path(__file__).parents[3] / "shared" / "data"
DATA = Path(os.environ.get("ATCON_DATA", BESIDE))
ROOT = DATA / "svhn"


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return svhn(ROOT)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (ROOT / "boxes.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def everything(digits: ImageSet) -> dict[int, object]:
    return {
        int(example.name.removeprefix("test-")): example
        for example in (*digits.pool, *digits.validation, *digits.test)
    }


def test_every_digit_has_the_label_the_street_image_and_the_box_of_the_files(digits, rows) -> None:
    labels = loadmat(ROOT / "test_32x32.mat")["y"].ravel()
    found = everything(digits)
    assert len(found) == len(labels) == len(rows) == 5998
    assert not digits.skipped
    assert not digits.notes
    for row in rows:
        example = found[int(row["index"])]
        assert digits.classes[example.labels[0]] == str(labels[int(row["index"])])[-1]
        assert example.group == f"test-{row['source_image']}"
        edges = [float(row[edge]) / 32 for edge in ("x1", "y1", "x2", "y2")]
        assert example.boxes == ((example.labels[0], *edges),)


def test_no_street_image_is_in_two_parts_and_every_class_is_in_each_as_often_as_asked(
    digits,
) -> None:
    parts = {"pool": digits.pool, "validation": digits.validation, "test": digits.test}
    groups = {name: {e.group for e in part} for name, part in parts.items()}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == 3019
    whole = Counter(e.labels[0] for e in everything(digits).values())
    for name, share in (("pool", 0.4), ("validation", 0.2), ("test", 0.4)):
        counts = Counter(e.labels[0] for e in parts[name])
        for label, count in whole.items():
            assert counts[label] / count == pytest.approx(share, abs=0.005)


def test_pixels_are_those_of_the_file(digits) -> None:
    pixels = loadmat(ROOT / "test_32x32.mat")["X"]
    for example in digits.test[::400]:
        expected = pixels[..., int(example.name.removeprefix("test-"))]
        assert np.array_equal(digits.read(example).permute(1, 2, 0).numpy(), expected)


def test_sixteen_digits_of_each_class_can_be_drawn_and_none_beside_the_test_images(digits) -> None:
    split = few_shot_split(digits, per_class=16, validation_images=500, seed=0)
    tested = {e.group for e in split.test}
    assert len(split.train) == 160
    assert not tested & {e.group for e in (*split.train, *split.validation)}
    assert not {e.group for e in split.train} & {e.group for e in split.validation}


def test_the_shipped_run_learns_digits_and_judges_every_stage(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ATCON_DATA", str(DATA))
    small = (
        "data.per_class=8",
        "data.validation_images=200",
        "data.test_images=200",
        "supervised.epochs=12",
        "supervised.validate_every=4 epochs",
        "consistency.epochs=1",
        "evaluation.gallery=2",
        "evaluation.resamples=100",
    )
    run(load_config("svhn", small), tmp_path / "run")
    summary = read_json(tmp_path / "run" / "summary.json")
    assert list(summary["stages"]) == ["supervised", "consistency", "uniform"]
    assert summary["model"] == {"name": "cifar_resnet20", "layer": "layer3", "guided": 19}
    assert summary["stages"]["supervised"]["test"]["f1"] > 20  # chance: 10
    for stage in summary["stages"].values():
        assert 5 < stage["test"]["iou"] < 95
    entries = read_json(tmp_path / "run" / "split.json")
    assert all(e["group"].startswith("test-") for e in entries["train"])
    assert len({e["sha256"] for part in ("train", "test") for e in entries[part]}) == 280
