"""Every format of own data is reached from a configuration, and keys without effect are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from pipeline import COLOURS, folder_config, save_disc

from atcon.errors import InputError
from atcon.experiments.config import load_config
from atcon.experiments.run import run
from atcon.experiments.sections import DataConfig
from atcon.experiments.sources import image_set_of
from atcon.records import read_json

NAMES = list(COLOURS)


def discs(root: Path, count: int = 30) -> dict[str, list]:
    """Write images with a disc or two; give the name and edges of each disc, by file."""
    random = np.random.default_rng(1)
    return {
        f"{at:02d}.png": save_disc(
            root / f"{at:02d}.png",
            tuple(dict.fromkeys((NAMES[at % 3], NAMES[at % 2]))),
            random,
        )
        for at in range(count)
    }


def write_coco(root: Path) -> None:
    found = discs(root)
    images = [
        {"id": at, "file_name": file, "width": 64, "height": 64, "patient": at // 2}
        for at, file in enumerate(found)
    ]
    annotations = [
        {
            "image_id": at,
            "category_id": NAMES.index(name),
            "bbox": [left, top, right - left, bottom - top],
        }
        for at, places in enumerate(found.values())
        for name, left, top, right, bottom in places
    ]
    categories = [{"id": at, "name": name} for at, name in enumerate(NAMES)]
    record = {"images": images, "annotations": annotations, "categories": categories}
    (root / "a.json").write_text(json.dumps(record))


def write_xml(root: Path) -> None:
    for file, places in discs(root).items():
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            for name, left, top, right, bottom in places
        )
        size = "<size><width>64</width><height>64</height></size>"
        (root / file).with_suffix(".xml").write_text(f"<annotation>{size}{objects}</annotation>")


def test_coco_and_xml_say_the_same_of_the_same_images(tmp_path):
    write_coco(tmp_path / "coco")
    write_xml(tmp_path / "xml")
    coco = image_set_of(DataConfig(name="coco", root=str(tmp_path / "coco"), annotations="a.json"))
    xml = image_set_of(DataConfig(name="xml", root=str(tmp_path / "xml")))
    assert coco.classes == xml.classes == tuple(NAMES)
    for part in ("pool", "test"):
        ours, theirs = getattr(coco, part), getattr(xml, part)
        assert [e.name for e in ours] == [e.name for e in theirs]
        assert [(e.labels, e.boxes) for e in ours] == [(e.labels, e.boxes) for e in theirs]
        assert all(e.boxes for e in ours)


def test_a_run_on_annotated_patients_has_overlap_and_resampled_groups(tmp_path):
    write_coco(tmp_path / "images")
    config = folder_config(
        tmp_path / "own.yaml", tmp_path / "images", "annotations: a.json", "group: patient"
    )
    config.write_text(config.read_text().replace("name: folder", "name: coco"))
    summary = run(load_config(str(config)), tmp_path / "run")
    assert summary["multi_label"] is True
    assert (summary["data"], summary["resampled"]) == ("coco", "groups")
    assert summary["stages"]["supervised"]["test"]["iou"] is not None
    split = read_json(tmp_path / "run" / "split.json")
    test = {entry["group"] for entry in split["test"]}
    for part in ("train", "validation"):
        assert not test & {entry["group"] for entry in split[part]}


def test_a_set_of_datasets_is_read_from_its_folder(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    for at in range(4):
        save_disc(tmp_path / "images" / f"{at}.png", ("red",), np.random.default_rng(at))
    files = sorted(map(str, (tmp_path / "images").iterdir()))
    made = datasets.Dataset.from_dict({"image": files, "label": [0, 1, 0, 1]}, features=features)
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(tmp_path / "set"))
    found = image_set_of(DataConfig(name="hf", root=str(tmp_path / "set")))
    assert found.classes == ("a", "b")
    assert found.read(found.pool[0]).shape == (3, 64, 64)
    with pytest.raises(InputError, match=r"data\.root not found: .*--set data\.download=true"):
        image_set_of(DataConfig(name="hf", root="owner/name"))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("digits", {"group": "(.)"}),
        ("voc", {"group": "(.)"}),
        ("folder", {"annotations": "a.json"}),
        ("folder", {"download": True}),
        ("coco", {"csv": "a.csv"}),
        ("xml", {"annotations": "a.json"}),
        ("hf", {"boxes": "a.csv"}),
        ("folder", {"label": "fine"}),
    ],
)
def test_a_key_without_effect_is_refused_by_name(name, given):
    (key,) = given
    with pytest.raises(InputError, match=rf"data\.{key} = .* has no effect with data\.name={name}"):
        image_set_of(DataConfig(name=name, **given))


def test_what_a_data_set_needs_is_named(tmp_path):
    with pytest.raises(InputError, match=r"data\.annotations is missing: data\.name=coco"):
        image_set_of(DataConfig(name="coco", root=str(tmp_path)))
    with pytest.raises(InputError, match=r"data\.root is missing: data\.name=xml"):
        image_set_of(DataConfig(name="xml"))
