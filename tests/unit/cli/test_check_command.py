import json
from pathlib import Path

import pytest
import torch
from pipeline import atcon

from atcon.cli.check import _wake
from atcon.inspection import CHECKS
from atcon.models import build, save_weights

OWN = """
import torch
from torch import nn

from neighbour import CLASSES

def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES),
    )

def frozen(num_classes):
    return network().requires_grad_(False) if num_classes == 7 else None

def clips(**kwargs):
    return nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, 3), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, kwargs["num_classes"]),
    )

def number():
    return 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file with networks that imports its neighbour."""
    (tmp_path / "neighbour.py").write_text("CLASSES = 3\n")
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def checked(*arguments: object) -> dict[str, list[dict[str, object]]]:
    """The findings of a check by name, and its exit code."""
    ended = atcon("check", *arguments, "--json", "--no-cost", "--device", "cpu")
    said = json.loads(ended.out)
    assert ended.code == (1 if said["level"] == "error" else 0), ended
    found: dict[str, list[dict[str, object]]] = {}
    for finding in said["findings"]:
        found.setdefault(finding["name"], []).append(finding)
    return found


def test_a_network_by_name_is_inspected_as_text_and_as_json():
    arguments = ("digits_resnet", "--size", 32, "--batch", 2, "--device", "cpu")
    shown = atcon("check", *arguments)
    assert (shown.code, shown.err) == (0, "")
    words = " ".join(shown.out.split())
    assert "digits_resnet with random weights, 2 random images of 3x32x32 on cpu" in words
    assert "ready to train" in words or "read the warnings" in words
    found = checked(*arguments[:-2])
    assert set(found) == set(CHECKS) - {"cost"}
    assert found["logits"][0]["values"] == {"classes": 10}
    for name in CHECKS:
        assert name in words


def test_the_layer_and_the_number_of_classes_are_options():
    found = checked("digits_resnet", "--size", 32, "--layer", "stages.0", "--classes", 4)
    assert found["layer"][0]["values"]["layer"] == "stages.0"
    assert found["logits"][0]["values"] == {"classes": 4}


def test_weights_of_a_file_are_inspected(tmp_path):
    save_weights(build("digits_resnet", classes=10).module, tmp_path / "w.safetensors")
    ended = atcon(
        "check", "digits_resnet", "--size", 32, "--weights", tmp_path / "w.safetensors", "--no-cost"
    )
    assert ended.code == 0
    assert "w.safetensorsweights" in "".join(ended.out.split())  # a long path is wrapped anywhere


def test_a_network_of_a_file_may_import_its_neighbours(own):
    found = checked(f"{own}:network", "--size", 16, "--channels", 1)
    assert found["logits"][0]["values"] == {"classes": 3}
    assert found["activations"][0]["values"]["guided"] == {"relu": 2}


def test_clips_are_three_dimensional(own):
    found = checked(f"{own}:clips", "--size", 16, "--frames", 8)
    assert found["layer"][0]["values"]["cells"] == [6, 14, 14]


def test_an_error_ends_with_1_and_the_fix(own):
    ended = atcon("check", f"{own}:frozen", "--classes", 7, "--channels", 1, "--size", 16)
    assert ended.code == 1
    words = " ".join(ended.out.split())
    assert "nothing to train: every weight is frozen -> model.requires_grad_(True)" in words
    assert "1 error" in words.rsplit("frozen", 1)[-1]
    wrong = atcon("check", f"{own}:network", "--size", 16, "--no-cost")
    assert wrong.code == 1
    assert "-> give images with the channels" in " ".join(wrong.out.split())


def test_images_of_a_folder_are_read_and_normalised(own_images):
    arguments = ("digits_resnet", "--size", 32, "--batch", 3, "--images", own_images)
    ended = atcon("check", *arguments, "--no-cost", "--device", "cpu")
    assert ended.code == 0
    assert "3 images of 3x32x32" in " ".join(ended.out.split())
    assert checked(*arguments)["images"][0]["level"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("resnt18",), ("no network 'resnt18'", "did you mean resnet18")),
        (("none.py:network",), ("none.py: no such file",)),
        (("{own}:nothing",), ("gives no network (AttributeError", "FILE.py:NAME")),
        (("{own}:number",), ("returned a int, not a torch.nn.Module",)),
        (("digits_resnet", "--images", "{folder}"), ("there are no images",)),
        (("digits_resnet", "--device", "gpu9"), ("--device gpu9", "try auto")),
        (("digits_resnet", "--weights", "none.pt"), ("no such file of weights",)),
        (("digits_resnet", "--batch", "0"), ("--batch",)),
    ],
)
def test_wrong_input_ends_with_2_and_says_what_is_valid(arguments, says, own):
    given = [word.format(own=own, folder=own.parent) for word in arguments]
    ended = atcon("check", *given)
    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err
    for words in says:
        assert words in ended.err


def test_a_file_that_cannot_be_run_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    ended = atcon("check", f"{tmp_path / 'broken.py'}:network")
    assert ended.code == 2
    assert "broken.py cannot be run (ModuleNotFoundError" in ended.err


def test_a_new_head_that_starts_at_zero_is_drawn_so_that_there_is_something_to_see():
    zero, drawn = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    torch.nn.init.zeros_(zero.weight)
    before = drawn.weight.clone()
    for head in (zero, drawn):
        _wake(head)
    assert bool(zero.weight.any())
    assert torch.equal(drawn.weight, before)
