import pytest
import torch
from tiny import network, pictures

from atcon.consistency import ConsistencyLoss


def warnings_of(loss, images):
    loss(images)
    return loss.details.warnings


def test_a_healthy_comparison_warns_of_nothing():
    loss = ConsistencyLoss(network("residual"), mask="deviation")
    assert warnings_of(loss, pictures(4)) == ()


@pytest.mark.parametrize("mask", ["uniform", "reference"])
def test_a_mask_without_contrast_is_named(mask):
    (warning,) = warnings_of(ConsistencyLoss(network("residual"), mask=mask), pictures(4))
    assert "contrast of 0.00" in warning
    assert "dimming" in warning


def test_one_map_for_all_images_is_named():
    loss = ConsistencyLoss(network("residual"), mask="deviation")
    (warning,) = warnings_of(loss, pictures(1).repeat(3, 1, 1, 1))
    assert "different images correlate with 1.000" in warning


def test_flat_maps_are_named():
    model = network("residual")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    found = warnings_of(ConsistencyLoss(model, matching="pool"), pictures(4))
    (warning,) = found
    assert "entropy of 1.000" in warning


def test_without_masks_nothing_is_said_of_their_contrast():
    loss = ConsistencyLoss(network("residual"), matching="pool")
    assert warnings_of(loss, pictures(4)) == ()
    assert loss.details.mask_contrast.isnan().all()
