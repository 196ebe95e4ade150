import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline import atcon, content_of, truncate

from atcon import explain
from atcon.attention import ATTENTION
from atcon.data import digits
from atcon.errors import InputError
from atcon.experiments.attend import attend
from atcon.experiments.bench import inputs_of
from atcon.experiments.finished import reopen
from atcon.experiments.progress import Progress
from atcon.experiments.setup import fabric_of
from atcon.records import read_csv, read_json

STAGES = ("supervised", "consistency")
CONVOLUTIONAL = [name for name, entry in ATTENTION.items() if entry.resolution != "tokens"]


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


def values_of(folder: Path, name: str, stage: str = "supervised") -> tuple[np.ndarray, float]:
    """The map of the first image as it was recorded, and the step between two of its bytes."""
    (entry,) = read_json(folder / "index.json")["entries"]
    low, high = entry["stages"][stage]["ranges"][name]
    step = (high - low) / 255
    with np.load(folder / entry["file"]) as arrays:
        return low + step * arrays[f"{stage}_{name}"].astype(float), step


def explained(run: Path, image: Path, name: str, layer: str | None = None) -> np.ndarray:
    """The map as the library gives it."""
    opened = reopen(run)
    fabric = fabric_of(opened.config)
    network = opened.network("supervised", fabric)
    pixels = torch.from_numpy(np.asarray(Image.open(image)).copy()).permute(2, 0, 1)
    images = inputs_of(pixels[None], network, fabric.device)
    return explain(network.module, images, name, layer=layer)[0].numpy()


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
    with pytest.raises(InputError, match="none of the 1 files could be read"):
        attend(finished_run, [broken], tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"label": "cat"}, "class 'cat' is not one of the run's: 5, 6, 7, 8, 9"),
        ({"stages": ["before"]}, "no stage 'before': it has supervised, consistency, uniform"),
        ({"overrides": ["seed=1"]}, "--set seed=1"),
        ({"maps": ["grad_cam", "gradient_roll"]}, "did you mean 'gradient_rollout'?"),
        ({"layer": "stage.1"}, "no layer 'stage.1'; the nearest are stages.1"),
    ],
)
def test_what_a_run_does_not_know_is_an_input_error(
    finished_run, image_file, tmp_path, options, says
):
    with pytest.raises(InputError, match=says):
        attend(finished_run, [image_file], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_every_map_of_the_table_is_the_one_of_the_library(finished_run, image_file, tmp_path):
    out = tmp_path / "out"
    attend(finished_run, [image_file], out, maps=CONVOLUTIONAL, stages=["supervised"])
    for name in CONVOLUTIONAL:
        values, step = values_of(out, name)
        expected = explained(finished_run, image_file, name)
        assert values.shape == expected.shape
        assert abs(values - expected).max() <= 0.51 * step, name


def test_the_index_says_of_each_map_what_the_table_says(finished_run, image_file, tmp_path):
    asked = ["rise", "mask", "layer_cam", "gradient_times_input", "rise"]
    attend(finished_run, [image_file], tmp_path / "out", maps=asked, stages=["supervised"])
    index = read_json(tmp_path / "out" / "index.json")
    assert index["maps"] == asked[:4]
    assert index["about"] == {
        "rise": {"title": "RISE", "signed": False, "fine": False},
        "mask": {"title": "Seen through the mask", "signed": False, "fine": False},
        "layer_cam": {"title": "LayerCAM", "signed": True, "fine": False},
        "gradient_times_input": {"title": "Gradient x input", "signed": True, "fine": True},
    }
    assert list(index["entries"][0]["stages"]["supervised"]["ranges"]) == asked[:4]


def test_another_layer_can_be_explained(finished_run, image_file, tmp_path):
    for name, layer in (("run", None), ("early", "stages.1")):
        attend(
            finished_run, [image_file], tmp_path / name,
            maps=["grad_cam", "gradient"], stages=["supervised"], layer=layer,
        )  # fmt: skip
    early, step = values_of(tmp_path / "early", "grad_cam")
    expected = explained(finished_run, image_file, "grad_cam", "stages.1")
    assert abs(early - expected).max() <= 0.51 * step
    assert early.size > values_of(tmp_path / "run", "grad_cam")[0].size
    same = [values_of(tmp_path / name, "gradient")[0] for name in ("run", "early")]
    assert (same[0] == same[1]).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"maps": ["attention_rollout"]}, ("showed no attention weights",)),
        ({"maps": ["cam"], "layer": "stages.1"}, ("CAM needs average pooling", "stages")),
    ],
)
def test_a_map_that_the_network_does_not_allow_names_map_image_and_network(
    finished_run, image_file, tmp_path, options, says
):
    with pytest.raises(InputError) as refused:
        attend(finished_run, [image_file], tmp_path / "out", **options)
    (name,) = options["maps"]
    where = f"no map {name!r} of {image_file} with digits_resnet (supervised): "
    assert str(refused.value).startswith(where)
    assert all(words in str(refused.value) for words in says)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_maps_and_layer_are_options_of_the_command(finished_run, image_file, tmp_path):
    asked = ("--map", "hires_cam", "--map", "mask", "--layer", "stages.1", "--stage", "supervised")
    ended = atcon("attend", finished_run, image_file, "--out", tmp_path / "out", *asked)
    assert ended.code == 0, ended.err
    assert read_json(tmp_path / "out" / "index.json")["maps"] == ["hires_cam", "mask"]
    values, _ = values_of(tmp_path / "out", "hires_cam")
    assert values.shape == explained(finished_run, image_file, "hires_cam", "stages.1").shape
    wrong = atcon("attend", finished_run, image_file, "--out", tmp_path / "no", "--map", "gradcam")
    assert wrong.code == 2
    assert "no attention map 'gradcam': did you mean 'grad_cam'?" in wrong.err
    assert not (tmp_path / "no").exists()


def test_earlier_pictures_are_not_overwritten(finished_run, image_file, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists already"):
        attend(finished_run, [image_file], tmp_path / "out")
