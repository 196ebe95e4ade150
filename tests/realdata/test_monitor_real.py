"""Photographs of VOC as new data of a run: held-out ones, and blurred copies of them."""

import os
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from atcon.experiments.config import load_config
from atcon.experiments.run import run
from atcon.experiments.watch import watch
from atcon.records import read_json

pytestmark = pytest.mark.realdata

BESIDE = Path(__file__).parents[3] / "shared" / "data"
ROOT = Path(os.environ.get("ATCON_DATA", BESIDE))
PHOTOGRAPHS = ROOT / "voc2012-animals" / "VOCdevkit" / "VOC2012" / "JPEGImages"
SMALL = (
    "data.per_class=4", "data.validation_images=60", "data.test_images=60", "data.image_size=96",
    "supervised.epochs=4", "consistency.epochs=1", "controls.uniform=false",
    "evaluation.gallery=0", "evaluation.resamples=200",
)  # fmt: skip


def test_photographs_that_were_held_out_raise_no_warning_and_labels_give_an_auroc(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("ATCON_DATA", str(ROOT))
    folder = tmp_path / "run"
    run(load_config("voc-animals", SMALL), folder)
    tested = read_json(folder / "split.json")["test"]
    rows = ["file,labels"]
    for kind in ("clean", "blurred"):
        (tmp_path / kind).mkdir()
    for entry in tested:
        with Image.open(PHOTOGRAPHS / f"{entry['name']}.jpg") as image:
            image.save(tmp_path / "clean" / f"{entry['name']}.png")
            blurred = image.filter(ImageFilter.GaussianBlur(6))
        blurred.save(tmp_path / "blurred" / f"{entry['name']}.png")
        rows.append(f"{entry['name']}.png,{';'.join(entry['labels'])}")
    (tmp_path / "clean" / "labels.csv").write_text("\n".join(rows) + "\n")
    clean = watch(folder, tmp_path / "clean", csv="labels.csv").record
    assert clean["verdict"]["outcome"] != "agrees_less"
    assert clean["counts"]["labelled"] == 60
    top = read_json(folder / "summary.json")["stages"]["consistency"]["test"]["consistency"]
    assert clean["consistency"]["new"]["mean"] == pytest.approx(top, abs=0.01)
    errors = clean["errors"]
    assert 0 < errors["errors"] < 60
    assert 0 < errors["score"]["low"] <= errors["score"]["value"] <= errors["score"]["high"] <= 1
    blurred = watch(folder, tmp_path / "blurred").record
    assert blurred["errors"] is None
    assert blurred["shift"]["validation"]["less"] != clean["shift"]["validation"]["less"]
