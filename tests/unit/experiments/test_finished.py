import shutil
from pathlib import Path

import pytest
from pipeline import atcon, content_of, truncate

from atcon.errors import InputError
from atcon.experiments.finished import evaluate
from atcon.records import read_json


def test_evaluating_again_gives_the_numbers_of_the_run_and_leaves_it_alone(finished_run, tmp_path):
    before = content_of(finished_run)
    result = evaluate(finished_run, out=tmp_path / "again")
    summary = read_json(finished_run / "summary.json")
    for stage, found in result["stages"].items():
        for key in ("test", "intervals", "per_class"):
            assert found[key] == summary["stages"][stage][key]
    assert result["gain"] == summary["gain"]
    assert result["floors"] == summary["floors"]
    assert content_of(finished_run) == before
    again = content_of(tmp_path / "again")
    assert set(again) == {
        "evaluation.json",
        *(f"{table}/{stage}.csv" for table in ("predictions", "localisation")
          for stage in summary["stages"]),
    }  # fmt: skip
    assert all(digest == before[name] for name, digest in again.items() if name in before)


def test_more_or_fewer_test_images_can_be_asked_for(finished_run):
    assert evaluate(finished_run, ["data.test_images=7"])["counts"]["test"] == 7
    with pytest.raises(InputError, match=r"data\.test_images: 500 are asked for"):
        evaluate(finished_run, ["data.test_images=500"])


def test_the_numbers_do_not_depend_on_the_batches(finished_run):
    result = evaluate(finished_run, ["evaluation.batch_size=5"])
    summary = read_json(finished_run / "summary.json")
    for stage, found in result["stages"].items():
        assert found["test"] == pytest.approx(summary["stages"][stage]["test"], abs=1e-3)


def test_earlier_results_are_not_overwritten(finished_run, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists already"):
        evaluate(finished_run, out=tmp_path / "out")


def test_the_report_is_drawn_again_to_the_same_bytes(finished_run, tmp_path):
    copied = Path(shutil.copytree(finished_run, tmp_path / "run"))
    before = (copied / "report.html").read_bytes()
    (copied / "report.html").unlink()
    shutil.rmtree(copied / "checkpoints")
    ended = atcon("report", copied)
    assert (ended.code, ended.out) == (0, f"{copied / 'report.html'}\n")
    assert (copied / "report.html").read_bytes() == before


def test_damaged_weights_of_a_run_are_named(finished_run, tmp_path):
    copied = Path(shutil.copytree(finished_run, tmp_path / "run"))
    truncate(copied / "checkpoints" / "consistency.safetensors")
    with pytest.raises(InputError, match=r"consistency\.safetensors"):
        evaluate(copied)
    (copied / "checkpoints" / "consistency.safetensors").unlink()
    with pytest.raises(InputError, match=r"consistency\.safetensors"):
        evaluate(copied)
