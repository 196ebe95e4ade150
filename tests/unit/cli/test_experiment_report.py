"""`atcon experiment report`: from the records of cells to a page, and nothing else is needed."""

import pytest
from grid_records import small_experiment, small_records
from page import parse
from pipeline import atcon

from atcon.cli.options import RUNS
from atcon.experiments.engines.failures import note_failure
from atcon.experiments.engines.work import Work
from atcon.experiments.grid import fingerprint
from atcon.records import write_json


@pytest.fixture
def folder(tmp_path):
    """An experiment of which five of six cells have a record."""
    experiment = small_experiment(tmp_path)
    for cell, record in small_records(experiment).items():
        head = {"configuration": fingerprint(experiment.run_config(cell))}
        write_json(tmp_path / "results" / "small" / f"{cell.name}.json", {**head, **record})
    return tmp_path


def test_the_page_is_drawn_from_the_records_into_the_file_asked_for(folder):
    target = folder / "pages" / "small.html"
    places = ("--results", folder / "results", "--out", target)
    ended = atcon("experiment", "report", folder / "small.yaml", *places)
    assert (ended.code, ended.out) == (0, f"{target}\n")
    page = parse(target.read_text(encoding="utf-8"))
    assert "5 of 6 cells are finished" in page.words
    assert "ours: N = 2 +2.0 (+2.0 to +2.0) *" in page.all("svg")[0].one("title").text


def test_a_table_over_the_cells_of_another_experiment_is_a_page_of_its_own(folder, monkeypatch):
    monkeypatch.chdir(folder)
    head = "name: mine\ntitle: mine\nof: small.yaml\n"
    rows = "rows: {supervised: a, simclr: b}\nmetrics: [map]\ntables: []\n"
    (folder / "mine.yaml").write_text(head + rows)
    assert atcon("experiment", "report", "mine.yaml").out == "mine.html\n"
    page = parse((folder / "mine.html").read_text(encoding="utf-8"))
    assert page.one("h1").words == "mine"
    assert "b: N = 2 −3.0 (−3.0 to −3.0) *" in page.all("svg")[0].one("title").text
    assert "uniform mask:" not in page.words


def test_a_cell_that_failed_is_named_with_its_reason(folder):
    experiment = small_experiment(folder)
    work = Work(experiment, folder / "runs", folder / "results")
    note_failure(work, experiment.cells[-1], "the disk is full")
    target = folder / "small.html"
    places = ("--runs", folder / "runs", "--results", folder / "results", "--out", target)
    ended = atcon("experiment", "report", folder / "small.yaml", *places)
    assert (ended.code, ended.out) == (0, f"{target}\n")
    words = parse(target.read_text(encoding="utf-8")).words
    assert "failed: seed 2: the disk is full" in words
    assert "missing: seed" not in words


def test_a_failure_is_looked_for_where_runs_lie_unless_told_otherwise(folder, monkeypatch):
    monkeypatch.chdir(folder)
    experiment = small_experiment(folder)
    note_failure(Work(experiment, RUNS, folder / "results"), experiment.cells[-1], "disk full")
    assert "n4-seed-2 failed: disk full" in atcon("experiment", "status", "small.yaml").out
    assert atcon("experiment", "report", "small.yaml").code == 0
    words = parse((folder / "small.html").read_text(encoding="utf-8")).words
    assert "failed: seed 2: disk full" in words


def test_its_figures_are_written_into_a_new_folder(folder):
    target, figures = folder / "small.html", folder / "figures"
    places = ("--results", folder / "results", "--out", target, "--figures", figures)
    ended = atcon("experiment", "report", folder / "small.yaml", *places)
    assert (ended.code, ended.out) == (0, f"{target}\n{figures}\n")
    names = sorted(path.name for path in figures.iterdir())
    assert names == [f"map-difference-from-supervised.{form}" for form in ("pdf", "png")]
    ended = atcon("experiment", "report", folder / "small.yaml", *places)
    assert ended.code == 2
    assert f"{figures} exists already: choose another --figures" in ended.err


def test_without_records_nothing_is_written_and_the_next_step_is_named(folder):
    target = folder / "small.html"
    places = ("--results", folder / "nowhere", "--out", target)
    ended = atcon("experiment", "report", folder / "small.yaml", *places)
    assert ended.code == 2
    assert f"no finished cell: atcon experiment run {folder / 'small.yaml'}" in ended.err
    assert not target.exists()


def test_a_broken_record_is_named(folder):
    broken = folder / "results" / "small" / "n2-seed-0.json"
    broken.write_text("{")
    ended = atcon("experiment", "report", folder / "small.yaml", "--results", folder / "results")
    assert ended.code == 2
    assert str(broken) in ended.err
