"""A run on street digits, from the files to the records: one label each, whole street images."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pipeline import atcon
from scipy.io import savemat

from atcon.experiments.config import load_config
from atcon.experiments.run import run
from atcon.experiments.sources import network_of
from atcon.models import build, save_weights
from atcon.records import read_csv, read_json, write_csv

DIGITS = 90


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three digits of a class to a street image, each a bright square at its own place."""
    folder = tmp_path_factory.mktemp("svhn")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 60, (32, 32, 3, DIGITS), dtype=np.uint8)
    labels = np.array([1 + i // 3 % 10 for i in range(DIGITS)])
    for index, label in enumerate(labels):
        left = 3 * (label - 1)
        pixels[8:24, left : left + 5, :, index] = 230
    savemat(folder / "test_32x32.mat", {"X": pixels, "y": labels[:, None].astype(np.uint8)})
    rows = [[i, i // 3, 3 * (c - 1), 8, 3 * (c - 1) + 5, 24] for i, c in enumerate(labels)]
    write_csv(folder / "boxes.csv", ["index", "source_image", "x1", "y1", "x2", "y2"], rows)
    return folder


def settings(root: Path) -> list[str]:
    weights = root / "published.safetensors"
    save_weights(build("cifar_resnet20", classes=10, seed=5).module, weights)
    return [
        f"data.root={root}",
        "data.per_class=1",
        "data.validation_images=9",
        f"model.weights={weights}",
        "supervised.epochs=1",
        "consistency.epochs=1",
        "evaluation.gallery=2",
        "evaluation.resamples=100",
    ]


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    run(load_config("svhn", settings(root)), folder)
    return folder


def test_the_summary_is_of_single_labels_with_an_overlap(finished) -> None:
    summary = read_json(finished / "summary.json")
    assert (summary["data"], summary["multi_label"]) == ("svhn", False)
    assert summary["classes"] == [str(digit) for digit in range(10)]
    assert summary["model"] == {"name": "cifar_resnet20", "layer": "layer3", "guided": 19}
    # a square of 5 x 16 pixels
    assert summary["floors"]["whole_image"]["iou"] == pytest.approx(100 * 80 / 1024, abs=0.01)
    rows = read_csv(finished / "predictions/supervised.csv")
    digits = [f"{digit}" for digit in range(10)]
    assert all(sum(float(row[d]) for d in digits) == pytest.approx(1, abs=1e-3) for row in rows)


def test_no_street_image_of_the_split_is_in_two_parts_and_every_digit_has_a_hash(finished) -> None:
    split = read_json(finished / "split.json")
    groups = [{e["group"] for e in split[part]} for part in ("train", "validation", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert Counter(e["labels"][0] for e in split["train"]) == dict.fromkeys("0123456789", 1)
    hashes = [e["sha256"] for part in ("train", "validation", "test") for e in split[part]]
    assert len(set(hashes)) == len(hashes)
    assert None not in hashes


def test_the_head_of_the_weights_is_not_taken_for_that_of_digits(root, finished) -> None:
    config = load_config("svhn", settings(root))
    assert config.model.new_head
    published = build("cifar_resnet20", classes=10, seed=5).module
    started = network_of(config, 10).module
    assert not (started.linear.weight == published.linear.weight).any()
    assert (started.layer3[2].conv2.weight == published.layer3[2].conv2.weight).all()
    kept = network_of(load_config("svhn", [*settings(root), "model.new_head=false"]), 10).module
    assert (kept.linear.weight == published.linear.weight).all()


def test_a_finished_run_is_evaluated_again_with_its_own_head(finished) -> None:
    ended = atcon("evaluate", finished, "--out", finished.parent / "again", "--quiet")
    assert ended.code == 0, ended.err
    again = read_json(finished.parent / "again/evaluation.json")["stages"]["consistency"]["test"]
    assert again == read_json(finished / "summary.json")["stages"]["consistency"]["test"]


@pytest.mark.parametrize("key", ["classes=['1','2']", "csv=a.csv", "boxes=b.csv", "group=x"])
def test_keys_that_svhn_does_not_look_at_are_refused(root, tmp_path, key) -> None:
    sets = [word for one in settings(root) for word in ("--set", one)]
    ended = atcon("run", "svhn", *sets, "--set", f"data.{key}", "--out", tmp_path / "run")
    assert ended.code == 2
    assert f"data.{key.split('=')[0]} = " in ended.err
    assert "no effect with data.name=svhn" in ended.err


def test_a_damaged_file_ends_a_run_with_its_name_and_no_traceback(root, tmp_path) -> None:
    content = (root / "test_32x32.mat").read_bytes()
    (tmp_path / "test_32x32.mat").write_bytes(content[: len(content) // 2])
    (tmp_path / "boxes.csv").write_bytes((root / "boxes.csv").read_bytes())
    sets = [word for one in settings(root) for word in ("--set", one)]
    ended = atcon("run", "svhn", *sets, "--set", f"data.root={tmp_path}", "--out", tmp_path / "run")
    assert ended.code == 2
    assert str(tmp_path / "test_32x32.mat") in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "run").exists()
