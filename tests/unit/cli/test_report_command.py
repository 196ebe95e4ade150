"""`atcon report`, and runs that never write a picture."""

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


def test_a_run_without_images_writes_no_picture_at_all(own_images, tmp_path):
    config = folder_config(tmp_path / "own.yaml", own_images)
    ended = atcon("run", config, "--no-images", "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert read_json(tmp_path / "run" / "gallery" / "index.json")["entries"] == []
    assert not list((tmp_path / "run").rglob("*.npz"))
    page = parse((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert page.all("svg")
    assert not page.all("img")
