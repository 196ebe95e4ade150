"""`atcon report`, and runs that never write a picture."""

import shutil
from pathlib import Path

import pytest
from page import parse
from pipeline import atcon, folder_config
from run_folder import make_run

from atcon.records import read_json


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", entries=2)


def test_the_report_is_drawn_with_and_without_images_into_the_file_asked_for(run, tmp_path):
    ended = atcon("report", run)
    assert (ended.code, ended.out) == (0, f"{run / 'report.html'}\n")
    assert parse((run / "report.html").read_text(encoding="utf-8")).all("img")
    ended = atcon("report", run, "--no-images", "--out", tmp_path / "new" / "bare.html")
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'new' / 'bare.html'}\n")
    assert not parse((tmp_path / "new" / "bare.html").read_text(encoding="utf-8")).all("img")


def test_figures_are_written_as_files_and_those_of_images_only_where_they_are_allowed(
    run, tmp_path
):
    bare = tmp_path / "bare"
    places = ("--out", tmp_path / "page.html", "--figures", bare)
    ended = atcon("report", run, "--no-images", *places)
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'page.html'}\n{bare}\n")
    names = {path.name for path in bare.iterdir()}
    assert {"gains.pdf", "gains.png", "change-of-consistency.pdf"} < names
    assert not [name for name in names if name.startswith("gallery")]


def test_figures_never_replace_a_folder_and_the_page_is_not_drawn_either(run, tmp_path):
    places = ("--out", tmp_path / "page.html", "--figures", tmp_path)
    ended = atcon("report", run, *places)
    assert ended.code == 2
    assert f"{tmp_path} exists already: choose another --figures" in ended.err
    assert not list(tmp_path.iterdir())


def test_figures_with_pseudonyms_are_drawn_from_the_copy_that_has_them(run, tmp_path):
    short = Path(shutil.copytree(run, tmp_path / "run"))
    (short / "metrics.jsonl").write_text("")
    figures = tmp_path / "figures"
    key, page = tmp_path / "key", tmp_path / "page.html"
    ended = atcon("report", short, "--pseudonyms", key, "--out", page, "--figures", figures)
    assert ended.code == 0, ended.err
    assert {path.stem for path in figures.iterdir()} == {
        "gains",
        "change-of-consistency",
        "gallery-1",
    }


def test_a_run_without_images_writes_no_picture_at_all(own_images, tmp_path):
    config = folder_config(tmp_path / "own.yaml", own_images)
    ended = atcon("run", config, "--no-images", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert read_json(tmp_path / "run" / "gallery" / "index.json")["entries"] == []
    assert not list((tmp_path / "run").rglob("*.npz"))
    page = parse((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert page.all("svg")
    assert not page.all("img")
