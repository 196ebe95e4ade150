"""Experiments whose figures are the galleries of their runs."""

import pytest
from pipeline import TINY, atcon

from atcon.records import read_json

YAML = """\
name: shown
title: before and after
config: digits
set:
{settings}
  supervised.epochs: 1
  consistency.epochs: 1
  controls.uniform: false
  data.test_images: 10
  evaluation.gallery: {gallery}
per_class: [1]
seeds: [3]
tables: [gallery]
"""


def written(folder, gallery):
    settings = (entry.split("=") for entry in TINY if entry.split("=")[0] != "data.per_class")
    own = {key: value for key, value in settings if not key.startswith("evaluation.gallery")}
    for key in ("supervised.epochs", "consistency.epochs", "controls.uniform", "data.test_images"):
        own.pop(key)
    lines = "\n".join(f"  {key}: {value}" for key, value in own.items())
    path = folder / "shown.yaml"
    path.write_text(YAML.format(settings=lines, gallery=gallery))
    return path, ("--results", folder / "results")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    source, results = written(folder, 3)
    return folder, atcon("experiment", "run", source, "--out", folder / "runs", *results), source


def test_run_says_where_the_page_of_each_cell_lies(shown):
    folder, ended, _ = shown
    page = folder / "runs/shown/n1-seed-3/report.html"
    assert ended.code == 0, ended.err
    assert f"n1-seed-3: {page}\n" in ended.out
    assert "3 test images, drawn at random" in page.read_text(encoding="utf-8")


def test_the_record_holds_numbers_of_the_gallery_and_no_pixels(shown):
    folder, _, source = shown
    record = read_json(folder / "results/shown/n1-seed-3.json")
    index = read_json(folder / "runs/shown/n1-seed-3/gallery/index.json")
    right = {
        stage: sum(entry["stages"][stage]["correct"] for entry in index["entries"])
        for stage in ("supervised", "consistency")
    }
    assert record["gallery"] == {"images": 3, "correct": right}
    drawn = atcon("experiment", "table", source, "--results", folder / "results").out
    assert "shown/n1-seed-3/report.html" in drawn
    assert "drawn at random" in drawn


def test_a_cell_without_a_gallery_is_named(tmp_path):
    source, results = written(tmp_path, 0)
    assert atcon("experiment", "run", source, "--out", tmp_path / "runs", *results).code == 0
    ended = atcon("experiment", "table", source, *results)
    assert ended.code == 2
    assert "n1-seed-3 has no gallery: set evaluation.gallery" in ended.err
