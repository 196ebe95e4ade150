"""What a configuration may choose about the consistency, and that a run does it."""

import math

import pytest
import torch
from pipeline import tiny
from tiny import network, pictures
from torch import nn

from atcon.attention import ATTENTION, TARGETS
from atcon.consistency import CORRELATIONS, MASKS, MATCHINGS, PRESETS, ConsistencyLoss, MaskOptions
from atcon.errors import InputError
from atcon.experiments.method_arms import consistency_loss
from atcon.experiments.run import run
from atcon.experiments.sections import ConsistencyConfig
from atcon.records import read_json, read_lines
from atcon.report import write_report

SHORT = ("supervised.epochs=1", "consistency.epochs=1", "data.test_images=12")
NAMES = {
    "preset": PRESETS,
    "maps": ATTENTION,
    "matching": MATCHINGS,
    "mask": MASKS,
    "correlation": CORRELATIONS,
    "target": TARGETS,
}


def loss_of(*overrides, uniform=False):
    return consistency_loss(tiny(*overrides), nn.Conv2d(3, 3, 1), None, uniform=uniform)


@pytest.mark.parametrize("key", NAMES)
def test_every_name_of_a_table_can_be_configured(key):
    for name in NAMES[key]:
        value = f"[{name}, {name}]" if key == "maps" else name
        chosen = getattr(tiny(f"consistency.{key}={value}").consistency, key)
        assert chosen == ((name, name) if key == "maps" else name)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("preset=papr", "consistency.preset = 'papr'.*did you mean 'paper'"),
        ("maps=[grad_cam, guided_backprob]", "consistency.maps.1.*did you mean 'guided_backprop'"),
        ("matching=grad_cam_upsample", "did you mean 'grad_cam_upsampled'"),
        ("correlation=sim", "did you mean 'ssim'"),
        ("target=positiv", "did you mean 'positive'"),
        ("mask_floor=2", "consistency.mask_floor = 2.*less than or equal to 1"),
        ("mask_strength=[0.5, 3]", "consistency.mask_strength.1 = 3"),
        ("micro_batch=0", "consistency.micro_batch = 0.*greater than 0"),
        ("mask_smoth=1", "unknown key 'consistency.mask_smoth'.*mask_smooth"),
    ],
)
def test_a_wrong_choice_is_named_with_the_nearest(override, message):
    with pytest.raises(InputError, match=message):
        tiny(f"consistency.{override}")


def test_maps_that_a_matching_does_not_compare_are_refused_before_training(tmp_path):
    config = tiny("consistency.matching=grad_cam_mask", "consistency.maps=[grad_cam, gradient]")
    with pytest.raises(InputError, match="compares guided_backprop with grad_cam"):
        run(config, tmp_path / "run")


FLAT = """
from torch import nn

def flat(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(4), Head(num_classes))

class Head(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(4, num_classes)

    def forward(self, x):
        return super().forward(x.mean(dim=(2, 3)))
"""


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ("[grad_cam, guided_backprop]", "^Guided Backpropagation found no activation to guide"),
        ("[grad_cam, gradient]", "^every evaluation shows Grad-CAM and Guided Backpropagation"),
        ("[cam, gradient]", "^CAM needs average pooling"),
        ("[rise, gradient]", "rise cannot be differentiated"),
    ],
)
def test_maps_that_the_network_cannot_give_are_refused_before_training(
    tmp_path, monkeypatch, maps, message
):
    (tmp_path / "flat_network.py").write_text(FLAT)
    monkeypatch.syspath_prepend(tmp_path)
    network = ("model.name=flat_network:flat", "model.weights=null")
    config = tiny(f"consistency.maps={maps}", *network)
    with pytest.raises(InputError, match=message):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nothing_chosen_is_the_preset():
    assert loss_of().method == ConsistencyLoss(nn.Identity(), mask="reference").method
    assert loss_of().preset.mask_options.strength_range == (1, 1)
    defaults = ConsistencyConfig()
    chosen = {key for key, value in defaults.model_dump().items() if value is not None}
    assert not chosen & {"maps", "matching", "mask", "correlation", "squash", "micro_batch"}


def test_a_loss_as_configured_and_one_by_default_agree_to_the_last_bit():
    model, images = network("residual"), pictures(3)
    configured = consistency_loss(tiny(), model, None)
    assert torch.equal(configured(images), ConsistencyLoss(model)(images))


def test_every_choice_reaches_the_loss():
    loss = loss_of(
        "consistency.maps=[grad_cam, gradient]",
        "consistency.matching=mask",
        "consistency.mask=deviation",
        "consistency.mask_smooth=1.5",
        "consistency.mask_floor=0.2",
        "consistency.mask_strength=[0.3, 0.9]",
        "consistency.correlation=ssim",
        "consistency.squash=true",
        "consistency.target=positive",
        "consistency.micro_batch=2",
    )
    preset = loss.preset
    assert preset.maps == ("grad_cam", "gradient")
    assert (preset.mask, preset.matching, preset.correlation) == ("deviation", "mask", "ssim")
    assert preset.mask_options == MaskOptions(smooth=1.5, floor=0.2, strength=(0.3, 0.9))
    assert (preset.squash, loss.target, loss.micro_batch) == (True, "positive", 2)


@pytest.mark.parametrize("matching", [None, *MATCHINGS])
def test_the_control_dims_evenly_whatever_is_compared(matching):
    given = "null" if matching is None else matching
    overrides = (f"consistency.matching={given}", "consistency.mask_floor=0.4")
    control = loss_of(*overrides, uniform=True)
    assert control.method.matching.by == "mask"
    assert control.preset.mask == "uniform"
    assert [name for name, _ in control.method.maps] == [
        name for name, _ in loss_of(*overrides).method.maps
    ]
    assert control.preset.mask_options.floor == 0


def test_a_run_without_masks_is_recorded_and_reported(tmp_path):
    config = tiny(
        *SHORT,
        "consistency.matching=guided_backprop_pooled",
        "consistency.correlation=ssim",
        "consistency.target=positive",
        "consistency.micro_batch=3",
    )
    record = run(config, tmp_path / "run")
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    (line,) = [line for line in lines if line["stage"] == "consistency"]
    assert line["mask_contrast"] is None
    assert math.isfinite(line["correlation"])
    assert record["stages"]["consistency"]["test"]["mask_contrast"] is None
    assert record["stages"]["consistency"]["test"]["iou"] is not None
    index = read_json(tmp_path / "run" / "gallery" / "index.json")
    shown = index["entries"][0]["stages"]["consistency"]
    assert shown["mask_contrast"] is None
    assert shown["ranges"]["mask"] == [1, 1]
    assert write_report(tmp_path / "run").exists()


@pytest.mark.slow
def test_random_masks_repeat_with_the_seed(tmp_path):
    overrides = (
        *SHORT,
        "controls.uniform=false",
        "consistency.mask=deviation",
        "consistency.mask_strength=[0, 1]",
        "consistency.maps=[gradient, grad_cam, guided_backprop]",
    )
    values = []
    for number in (1, 2):
        run(tiny(*overrides), tmp_path / str(number))
        lines = read_lines(tmp_path / str(number) / "metrics.jsonl")
        values.append([line["correlation"] for line in lines if line["stage"] == "consistency"])
    assert values[0] == values[1]
