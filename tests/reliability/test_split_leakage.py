"""Promise 13: no image, file or group is in two parts, and the test set is opened at the end."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from opened import Opened
from own_data import make_coco, make_dicom, make_xml
from PIL import Image, ImageFile
from pipeline import content_of, make_folder, without_seconds

from atcon import records
from atcon.data import ImageSet, balanced_parts, few_shot_split, folder, group_of, left_over
from atcon.experiments.config import check_config
from atcon.experiments.parts import twins_of
from atcon.experiments.progress import Progress
from atcon.experiments.run import run
from atcon.types import Example

SLOW = pytest.mark.slow
LABELS = [(0,), (1,), (2,), (0, 1), (1, 2)] * 24


def made(*, groups: bool, own_validation: bool) -> ImageSet:
    """A data set without images: names, labels, and perhaps a group of one to six images."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 7, 200)
    numbers = np.repeat(np.arange(200), sizes)

    def part(name: str, labels) -> tuple[Example, ...]:
        return tuple(
            Example(f"{name}{at}", row, group=f"{name} {numbers[at]}" if groups else None)
            for at, row in enumerate(labels)
        )

    return ImageSet(
        "made",
        ("x", "y", "z"),
        multi_label=True,
        pool=part("pool", LABELS),
        test=part("test", LABELS[:40]),
        validation=part("validation", LABELS[:40]) if own_validation else None,
        read=lambda _: pytest.fail("a split reads no image"),
    )


@pytest.mark.parametrize("seeds", [20, pytest.param(1000, marks=SLOW)])
@pytest.mark.parametrize("own_validation", [False, True])
@pytest.mark.parametrize("groups", [False, True])
def test_no_image_and_no_group_is_in_two_parts(groups, own_validation, seeds):
    image_set = made(groups=groups, own_validation=own_validation)
    for seed in range(seeds):
        drawn = few_shot_split(image_set, per_class=3, validation_images=10, seed=seed)
        parts = (drawn.train, drawn.validation, left_over(image_set, drawn), drawn.test)
        for key in (group_of, lambda example: example.name):
            found = [{key(example) for example in part} for part in parts]
            assert sum(map(len, found)) == len(set().union(*found)), seed
        assert len(drawn.train) == 9
        assert len(drawn.validation) == 10


@pytest.mark.parametrize("seeds", [20, pytest.param(300, marks=SLOW)])
def test_no_group_is_on_both_sides_of_a_drawn_test_part(seeds, tmp_path):
    root = tmp_path / "images"
    for at in range(24):
        path = root / f"{'ab'[at % 2]}" / f"p{at // 3}" / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for seed in range(seeds):
        found = folder(root, group="folder", seed=seed)
        groups = [{example.group for example in part} for part in (found.pool, found.test)]
        assert groups[0] & groups[1] == set()
        assert len(groups[0] | groups[1]) == 8


@pytest.mark.parametrize("seeds", [10, pytest.param(300, marks=SLOW)])
def test_no_patient_is_in_two_parts_of_divided_clips(seeds):
    random = np.random.default_rng(0)
    patients = [f"p{at}" for at in random.integers(0, 9, 40)]
    labels = [[int(label)] for label in random.integers(0, 3, 40)]
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    for seed in range(seeds):
        found = balanced_parts(patients, labels, shares, classes=3, seed=seed)
        assert found.parts.keys() == set(patients)  # a mapping: each in one part
        assert set(found.parts.values()) == set(shares)


def test_files_that_are_equal_in_two_parts_are_found_once_each():
    parts = {
        "train": {"a": "1", "b": "2", "c": "2"},
        "validation": {"d": "3", "e": "2"},
        "test": {"f": "1", "g": "4", "h": "3"},
    }
    found = twins_of(parts)
    assert [name for name, _ in found] == ["e", "f", "h"]
    assert found[0][1].endswith("byte for byte: b (train)")
    assert found[2][1].endswith("byte for byte: d (validation)")
    assert twins_of({**parts, "validation": {}, "test": {"g": "4"}}) == []


def dress(source: dict[str, object], **more: object) -> dict[str, object]:
    """The smallest run that has every stage: supervised, consistency, control."""
    return {
        "data": {
            "per_class": 2, "validation_images": 3, "image_size": 32, "augmentation": "none",
            **source,
        },
        "model": {"name": "digits_resnet"},
        "supervised": {"epochs": 1, "lr": 1e-3},
        "consistency": {"epochs": 1, "lr": 1e-4},
        "evaluation": {"gallery": 1, "resamples": 100},
        **more,
    }  # fmt: skip


def divided(root: Path, per_part: int = 3) -> Path:
    """Class folders below train, validation and test."""
    plain = make_folder(root.with_name(f"{root.name}-plain"), 3 * per_part)
    for path in sorted(plain.rglob("*.jpg")):
        part = ("train", "validation", "test")[int(path.stem) // per_part]
        place = root / part / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return root


def table(root: Path) -> Path:
    """The same images with a CSV of their labels and parts."""
    divided(root)
    rows = [
        [path.relative_to(root).as_posix(), path.parent.name, path.parts[-3]]
        for path in sorted(root.rglob("*.jpg"))
    ]
    records.write_csv(root / "labels.csv", ["file", "label", "split"], rows)
    boxes = [[file, label, 4, 4, 40, 40] for file, label, _ in rows]
    head = ["file", "label", "left", "top", "right", "bottom"]
    records.write_csv(root / "boxes.csv", head, boxes)
    return root


def voc_tree(root: Path) -> Path:
    """A small VOC 2012 of two of its classes."""
    base = root / "VOCdevkit" / "VOC2012"
    make_xml(base / "JPEGImages")
    (base / "Annotations").mkdir()
    lists = base / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    names = []
    for path in sorted((base / "JPEGImages").glob("*.xml")):
        text = path.read_text()
        for ours, theirs in (("blue", "cat"), ("green", "dog"), ("red", "cow")):
            text = text.replace(f"<name>{ours}", f"<name>{theirs}")
        (base / "Annotations" / path.name).write_text(text)
        path.unlink()
        with Image.open(path.with_suffix(".png")) as image:
            image.save(path.with_suffix(".jpg"))
        path.with_suffix(".png").unlink()
        names.append(path.stem)
    (lists / "train.txt").write_text("\n".join(names[:20]))
    (lists / "val.txt").write_text("\n".join(names[20:]))
    return root


SOURCES = {
    "folder": (divided, {"name": "folder"}, False),
    "drawn folder": (lambda root: make_folder(root, 6), {"name": "folder"}, False),
    "csv": (table, {"name": "folder", "csv": "labels.csv"}, False),
    "boxes": (table, {"name": "folder", "csv": "labels.csv", "boxes": "boxes.csv"}, True),
    "coco": (make_coco, {"name": "coco", "annotations": "labels.json"}, True),
    "xml": (make_xml, {"name": "xml"}, True),
    "voc": (voc_tree, {"name": "voc", "classes": ["cat", "cow", "dog"]}, False),
    "dicom": (make_dicom, {"name": "folder"}, False),
}
"""How its files are made, its keys, and whether the size of every image is read at the start.

Boxes in pixels need it, also those of test images."""


class Marked(Progress):
    """Notes what was opened and decoded before the final evaluation, and which stages were done."""

    def __init__(self, seen: Opened, decoded: list[Path], out: Path) -> None:
        self.seen, self.decoded, self.out = seen, decoded, out
        self.opened_before: set[Path] = set()
        self.decoded_before: set[Path] = set()
        self.stages: set[str] = set()

    def begin(self, title: str, total: int, unit: str = "") -> None:
        if title == "evaluation":
            self.opened_before = set(self.seen.paths())
            self.decoded_before = set(self.decoded)
            self.stages = {path.stem for path in (self.out / "checkpoints").glob("*.json")}


def files_of_the_test_part(root: Path, out: Path) -> set[Path]:
    """The files of the images that a run was judged on."""
    names = {entry["name"] for entry in records.read_json(out / "split.json")["test"]}
    found = {
        path
        for path in root.rglob("*")
        if path.suffix in (".jpg", ".png", ".dcm")
        and {path.relative_to(root).as_posix(), path.stem} & names
    }
    assert len(found) == len(names) > 0
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="openings are told by inotify")
@pytest.mark.parametrize(
    "name", ["folder", *(pytest.param(one, marks=SLOW) for one in SOURCES if one != "folder")]
)
def test_no_test_image_is_decoded_before_all_stages_are_trained(name, tmp_path, monkeypatch):
    make, keys, headers = SOURCES[name]
    root, out = make(tmp_path / "data"), tmp_path / "run"
    decoded: list[Path] = []
    load = ImageFile.ImageFile.load

    def noted(image):
        decoded.append(Path(image.filename))
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", noted)
    with Opened(root, *(path for path in root.rglob("*") if path.is_dir())) as seen:
        marked = Marked(seen, decoded, out)
        config = check_config(dress({**keys, "root": str(root)}), "own.yaml")
        run(config, out, progress=marked)
        opened_after = set(seen.paths())
    test = files_of_the_test_part(root, out)
    assert marked.stages == {"supervised", "consistency", "uniform"}
    assert marked.opened_before & test == (test if headers else set())
    assert marked.decoded_before & test == set()
    assert test <= opened_after
    if name != "dicom":  # pydicom decodes those
        assert marked.decoded_before
        assert test <= set(decoded)


def perturb(root: Path) -> None:
    """Give every test image of a table another label and other pixels."""
    rows = records.read_csv(root / "labels.csv")
    turned = {"blue": "green", "green": "red", "red": "blue"}
    random = np.random.default_rng(1)
    for row in rows:
        if row["split"] == "test":
            row["label"] = turned[row["label"]]
            noise = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / row["file"])
    records.write_csv(root / "labels.csv", list(rows[0]), [list(row.values()) for row in rows])


CHOOSERS = {
    "validation labels": {},
    "a stopping rule": {
        "data": {"validation_images": 0},
        "consistency": {"epochs": 2, "lr": 1e-4, "stopping": "drift_budget", "signals": True},
        "variants": {"plain": {"mask": "reference"}},
        "baselines": ["simclr", "layer_attention"],
        "simclr": {"epochs": 1},
    },
}


@pytest.mark.parametrize(
    "chooser", ["validation labels", pytest.param("a stopping rule", marks=SLOW)]
)
def test_what_is_trained_and_chosen_is_bitwise_the_same_for_other_test_images(chooser, tmp_path):
    root = table(tmp_path / "data")
    more = dict(CHOOSERS[chooser])
    source = {"name": "folder", "csv": "labels.csv", "root": str(root), **more.pop("data", {})}
    config = check_config(dress(source, **more), "own.yaml")
    one, other = tmp_path / "one", tmp_path / "other"
    first = run(config, one)
    perturb(root)
    second = run(config, other)
    weights = {
        folder: {
            name: sha for name, sha in content_of(folder).items() if name.endswith("safetensors")
        }
        for folder in (one, other)
    }
    assert weights[one] == weights[other]
    assert len(weights[one]) >= 3
    lines = [records.read_lines(folder / "metrics.jsonl") for folder in (one, other)]
    assert without_seconds(dict(enumerate(map(without_seconds, lines[0])))) == without_seconds(
        dict(enumerate(map(without_seconds, lines[1])))
    )
    for stage in first["stages"]:
        for key in ("epoch", "kept", "steps", "selected_by", "validation", "start", "thresholds"):
            assert first["stages"][stage][key] == second["stages"][stage][key]
    tables = [(folder / "predictions" / "supervised.csv").read_bytes() for folder in (one, other)]
    assert tables[0] != tables[1]
    splits = [records.read_json(folder / "split.json") for folder in (one, other)]
    assert splits[0]["train"] == splits[1]["train"]
    assert splits[0]["test"] != splits[1]["test"]


def test_a_test_image_that_was_trained_on_under_another_name_is_told_and_noted(tmp_path):
    root = table(tmp_path / "data")
    rows = records.read_csv(root / "labels.csv")
    for label in ("blue", "green", "red"):
        same = [row for row in rows if row["label"] == label]
        trained = [root / row["file"] for row in same if row["split"] == "train"]
        tested = next(root / row["file"] for row in same if row["split"] == "test")
        for path in (*trained[1:], tested):
            shutil.copy(trained[0], path)
    told: list[str] = []
    progress = Progress()
    progress.note = told.append  # type: ignore[method-assign]
    source = {"name": "folder", "csv": "labels.csv", "root": str(root)}
    run(check_config(dress(source), "own.yaml"), tmp_path / "run", progress=progress)
    notes = records.read_json(tmp_path / "run" / "split.json")["notes"]
    assert len(notes) == 3
    assert all("equal to another one, byte for byte" in note["remark"] for note in notes)
    assert [line for line in told if line.startswith("3 images are in two parts, such as test/")]
