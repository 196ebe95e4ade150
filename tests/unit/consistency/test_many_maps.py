from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny import network, pictures
from torch import nn

from atcon.attention import ATTENTION, grad_cam
from atcon.consistency import MATCHINGS, ConsistencyLoss, Preset, contrast_of, mask_contrast
from atcon.errors import InputError

THREE = ("grad_cam", "gradient", "guided_backprop")
NAMED = (("grad_cam", "gradient"), ("grad_cam", "guided_backprop"), ("gradient", "guided_backprop"))


@pytest.mark.parametrize("by", ["mask", "upsample", "pool"])
def test_three_maps_are_compared_pair_by_pair_and_the_mean_taken(by):
    model, images = network("residual"), pictures(3)
    seen = ConsistencyLoss(model, maps=THREE, matching=by, mask="deviation").compare(images)
    assert tuple(pair.names for pair in seen.pairs) == NAMED
    alone = [
        ConsistencyLoss(model, maps=names, matching=by, mask="deviation").compare(images)
        for names in NAMED
    ]
    for pair, one in zip(seen.pairs, alone, strict=True):
        torch.testing.assert_close(pair.correlation, one.correlation)
    mean = torch.stack([one.correlation for one in alone]).mean(dim=0)
    torch.testing.assert_close(seen.correlation, mean)
    assert set(seen.maps) == set(THREE)


def test_each_mask_costs_one_pass_whatever_is_measured_on_it():
    passes = []
    model = network("residual")
    model.register_forward_hook(lambda *_: passes.append(1))
    images = pictures()
    ConsistencyLoss(model).compare(images)
    for maps, by, expected in ((THREE, "mask", 3), (THREE, "pool", 1), (THREE[:2], "mask", 2)):
        passes.clear()
        ConsistencyLoss(model, "relu", maps=maps, matching=by).compare(images)
        assert len(passes) == expected


def test_the_masked_map_is_computed_on_the_masked_image():
    model, images = network("residual"), pictures()
    seen = ConsistencyLoss(model, maps=THREE, mask="deviation").compare(images)
    top = model(images).argmax(dim=1)
    for pair in seen.pairs:
        measured, masking = (ATTENTION[name] for name in pair.names)
        a = measured(model, images, top)
        torch.testing.assert_close(pair.first, a)
        torch.testing.assert_close(seen.maps[pair.names[1]], masking(model, images, top))
        again = measured(model, pair.mask[:, None] * images, top)
        torch.testing.assert_close(pair.second, again)


def test_a_coarse_mask_is_upsampled_before_it_becomes_p():
    model, images = network("residual"), pictures()
    loss = ConsistencyLoss(model, matching="grad_cam_mask", mask="deviation")
    seen = loss.compare(images)
    fine = nn.functional.interpolate(seen.maps["grad_cam"][:, None], 12, mode="bilinear")[:, 0]
    torch.testing.assert_close(seen.mask, loss.mask(fine))
    assert seen.first.shape == seen.second.shape == (2, 12, 12)


@pytest.mark.parametrize("by", ["mask", "upsample", "pool"])
def test_several_layers_are_compared_each_and_the_mean_taken(by):
    model, images = network("plain"), pictures(3)
    both = ConsistencyLoss(model, ["2", "6"], matching=by, mask="deviation")
    seen = both.compare(images)
    alone = [
        ConsistencyLoss(model, layer, matching=by, mask="deviation").compare(images).correlation
        for layer in ("2", "6")
    ]
    torch.testing.assert_close(seen.correlation, torch.stack(alone).mean(dim=0))
    assert [pair.names[0] for pair in seen.pairs] == ["grad_cam@2", "grad_cam@6"]
    both(images)
    assert both.details.layer == "2, 6"


def test_a_pair_of_input_maps_counts_once_for_each_layer():
    model, images = network("plain"), pictures()
    maps = ("grad_cam", "guided_backprop", "gradient")
    seen = ConsistencyLoss(model, ["2", "6"], maps=maps, matching="pool").compare(images)
    alone = [
        ConsistencyLoss(model, layer, maps=maps, matching="pool").compare(images).correlation
        for layer in ("2", "6")
    ]
    torch.testing.assert_close(seen.correlation, torch.stack(alone).mean(dim=0))


def test_maps_of_the_input_need_no_layer():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 3))
    loss = ConsistencyLoss(model, maps=("gradient", "guided_backprop"), mask="deviation")
    loss(torch.randn(2, 3, 4, 4)).backward()  # with few units, both maps may be one by chance
    assert loss.details.layer == ""
    assert model[1].weight.grad.any()


def test_a_map_with_options_is_an_entry_of_its_own():
    model, images = network("residual"), pictures()
    positive = replace(grad_cam, of=partial(grad_cam.of, relu=True))
    seen = ConsistencyLoss(model, maps=(positive, "guided_backprop")).compare(images)
    torch.testing.assert_close(seen.first, grad_cam(model, images).relu())
    assert seen.pairs[0].names == ("Grad-CAM", "guided_backprop")


def test_a_preset_of_ones_own_holds_every_choice():
    model, images = network("residual"), pictures()
    own = Preset(
        "deviation", "ssim", squash=True, maps=THREE, matching="average_pool", layer="convolution"
    )
    loss = ConsistencyLoss(model, preset=own)
    keywords = ConsistencyLoss(
        model, "conv", maps=THREE, matching="average_pool", correlation="ssim", squash=True
    )
    assert torch.equal(loss.compare(images).correlation, keywords.compare(images).correlation)
    assert loss.layer_name == "conv"


def test_choices_that_exclude_each_other_are_input_errors():
    model = network("plain")
    with pytest.raises(InputError, match="compares guided_backprop with grad_cam"):
        ConsistencyLoss(model, matching="grad_cam_mask", maps=("grad_cam", "guided_backprop"))
    with pytest.raises(InputError, match="two or more"):
        ConsistencyLoss(model, maps=("grad_cam",))
    maps = MATCHINGS["grad_cam_mask"].maps
    assert ConsistencyLoss(model, matching="grad_cam_mask", maps=maps).compare(pictures())


def test_the_contrast_is_the_mean_over_the_masks_and_not_defined_without():
    model, images = network("residual"), pictures()
    masked = ConsistencyLoss(model, maps=THREE, mask="deviation").compare(images)
    masks = {pair.names[1]: pair.mask for pair in masked.pairs}
    expected = (mask_contrast(masks["gradient"]) + mask_contrast(masks["guided_backprop"])) / 2
    torch.testing.assert_close(contrast_of(masked), expected)
    pooled = ConsistencyLoss(model, matching="pool").compare(images)
    assert pooled.mask is None
    assert contrast_of(pooled).isnan().all()


def test_details_name_every_pair():
    model, images = network("residual"), pictures(3)
    loss = ConsistencyLoss(model, maps=THREE, mask="deviation")
    loss(images)
    assert loss.details.pairs == NAMED
    torch.testing.assert_close(loss.details.by_pair.mean(dim=1), loss.details.correlation)
    assert not loss.details.by_pair.requires_grad
