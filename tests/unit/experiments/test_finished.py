import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipeline import atcon, content_of, truncate

from atcon.data import digits
from atcon.errors import InputError
from atcon.experiments.attend import attend
from atcon.experiments.finished import evaluate
from atcon.experiments.progress import Progress
from atcon.records import read_csv, read_json

STAGES = ("supervised", "consistency")


class Heard(Progress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def image_file(finished_run: Path, tmp_path: Path) -> Path:
    """The first test image of the run as a file, without loss."""
    name = read_csv(finished_run / "predictions" / "supervised.csv")[0]["name"]
    image_set = digits()
    example = next(example for example in image_set.test if example.name == name)
    path = tmp_path / "scene.png"
    Image.fromarray(image_set.read(example).permute(1, 2, 0).numpy()).save(path)
    return path


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


def test_attending_a_test_image_says_what_the_evaluation_said(finished_run, image_file, tmp_path):
    (entry,) = attend(finished_run, [image_file], tmp_path / "out")
    for stage in STAGES:
        said = read_csv(finished_run / "predictions" / f"{stage}.csv")[0]
        seen = read_csv(finished_run / "localisation" / f"{stage}.csv")[0]
        answer = entry["stages"][stage]
        assert answer["top"] == answer["explained"] == seen["class"]
        assert answer["predicted"] == [name for name in said["predicted"].split(";") if name]
        assert answer["correlation"] == pytest.approx(float(seen["correlation"]), abs=1e-4)
        for name, value in answer["probabilities"].items():
            assert value == pytest.approx(float(said[name]), abs=1e-4)


def test_attend_draws_a_sheet_per_image_and_writes_the_numbers(finished_run, image_file, tmp_path):
    ended = atcon("attend", finished_run, image_file, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert set(content_of(tmp_path / "out")) == {"0000.npz", "0000.png", "index.json"}
    assert str(tmp_path / "out" / "0000.png") in ended.out
    assert all(f"{stage}: " in ended.out for stage in STAGES)
    with Image.open(tmp_path / "out" / "0000.png") as sheet:
        assert sheet.size[0] > 1000
    index = read_json(tmp_path / "out" / "index.json")
    assert index["stages"] == list(STAGES)
    assert index["entries"][0]["name"] == str(image_file)


def test_a_class_can_be_asked_for_and_only_the_stages_that_are_wanted(
    finished_run, image_file, tmp_path
):
    (top,) = attend(finished_run, [image_file], tmp_path / "top", stages=["uniform"])
    assert list(top["stages"]) == ["uniform"]
    other = next(name for name in ("5", "6") if name != top["stages"]["uniform"]["top"])
    (entry,) = attend(finished_run, [image_file], tmp_path / "out", stages=["uniform"], label=other)
    answer = entry["stages"]["uniform"]
    assert answer["explained"] == other
    assert answer["top"] == top["stages"]["uniform"]["top"]
    maps = [np.load(tmp_path / name / "0000.npz")["uniform_grad_cam"] for name in ("top", "out")]
    assert (maps[0] != maps[1]).any()


def test_an_image_that_cannot_be_read_is_named_and_passed_over(finished_run, image_file, tmp_path):
    broken = tmp_path / "broken.png"
    shutil.copy(image_file, broken)
    truncate(broken)
    images = [broken, tmp_path / "none.jpg", tmp_path, image_file]
    heard = Heard()
    entries = attend(finished_run, images, tmp_path / "out", progress=heard)
    assert [entry["name"] for entry in entries] == [str(image_file)]
    assert len(heard.said) == 3
    for said, path in zip(heard.said, images, strict=False):
        assert said.startswith("passed over: ")
        assert str(path) in said
    with pytest.raises(InputError, match="no image could be read"):
        attend(finished_run, [broken], tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"label": "cat"}, "class 'cat' is not one of the run's: 5, 6, 7, 8, 9"),
        ({"stages": ["before"]}, "no stage 'before': it has supervised, consistency, uniform"),
        ({"overrides": ["seed=1"]}, "--set seed=1"),
    ],
)
def test_what_a_run_does_not_know_is_an_input_error(
    finished_run, image_file, tmp_path, options, says
):
    with pytest.raises(InputError, match=says):
        attend(finished_run, [image_file], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_earlier_results_are_not_overwritten(finished_run, image_file, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists already"):
        attend(finished_run, [image_file], tmp_path / "out")
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
