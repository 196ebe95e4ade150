"""RISE and occlusion: what they find, and the options that must not change it."""

import pytest
import torch
from tiny import network, pictures
from torch import nn

from atcon.attention import gradient_times_input, occlusion, rise
from atcon.errors import InputError

BOTH = pytest.mark.parametrize(
    ("explained", "options"),
    [(rise, {"masks": 30}), (occlusion, {"window": 4, "stride": 2})],
    ids=["RISE", "occlusion"],
)


class Patch(nn.Module):
    """Class 1 is the brightness of one corner; the others never answer."""

    def forward(self, x):
        bright = x[:, :, 2:6, 8:12].mean(dim=(1, 2, 3))
        return torch.stack([0 * bright, 4 * bright, 0 * bright], dim=1)


@pytest.mark.parametrize("explained", [rise, occlusion])
def test_finds_the_only_place_that_the_score_reads(explained):
    images = 1 + torch.rand(2, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    maps = explained(Patch(), images, 1, score="logit")
    inside = torch.zeros(14, 14, dtype=torch.bool)
    inside[2:6, 8:12] = True
    assert inside.flatten()[maps.flatten(1).argmax(dim=1)].all()
    assert (maps[:, inside].mean(dim=1) > 1.1 * maps[:, ~inside].mean(dim=1)).all()


def test_occluding_single_pixels_of_a_linear_network_is_gradient_times_input():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 4)).double()
    images = pictures(size=6)
    found = occlusion(model, images, 1, window=1, stride=1)
    torch.testing.assert_close(found, gradient_times_input(model, images, 1))


def test_a_blurred_constant_image_hides_nothing():
    maps = occlusion(network("plain"), torch.full((2, 3, 12, 12), 0.7).double(), 1, fill="blur")
    assert maps.abs().max() < 1e-12


def test_the_fills_hide_different_things():
    model, images = network("plain"), pictures()
    maps = [occlusion(model, images, 1, fill=fill) for fill in ("constant", "noise", "blur")]
    for index, first in enumerate(maps):
        assert not any(torch.allclose(first, other, rtol=1e-3) for other in maps[index + 1 :])


def test_the_default_windows_cover_every_pixel():
    maps = occlusion(network("plain"), pictures(size=13), 1, score="softmax")
    assert (maps != 0).all()


@BOTH
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_batch_of_a_pass_does_not_change_the_map(explained, options, batch):
    model, images = network("plain"), pictures(3)
    found = explained(model, images, 1, batch=batch, **options)
    torch.testing.assert_close(found, explained(model, images, 1, **options))


@BOTH
def test_a_pass_holds_no_more_images_than_asked_for(explained, options):
    model, seen = network("plain"), []
    hook = model.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    explained(model, pictures(3), batch=10, **options)
    hook.remove()
    assert max(seen) == 9


@BOTH
def test_equal_images_of_a_batch_are_masked_equally(explained, options):
    images = pictures(1).repeat(2, 1, 1, 1)
    options = {**options, "fill": "noise"} if explained is occlusion else options
    first, second = explained(network("plain"), images, 1, **options)
    torch.testing.assert_close(first, second)


@BOTH
def test_does_not_draw_from_the_callers_random_numbers(explained, options):
    options = {**options, "fill": "noise"} if explained is occlusion else options
    torch.manual_seed(0)
    before = torch.get_rng_state()
    explained(network("plain"), pictures(), **options)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"masks": 0}, "masks must be 1 or more"),
        ({"keep": 1.0}, "keep between 0 and 1"),
        ({"cells": 0}, "cells must be one number, or one for each of the 2 axes"),
        ({"cells": (3, 3, 3)}, "cells must be"),
        ({"score": "margin"}, "score must be 'logit', 'softmax' or 'sigmoid'"),
        ({"batch": 0}, "batch must be 1 or more"),
    ],
)
def test_wrong_options_of_rise_are_input_errors(wrong, message):
    with pytest.raises(InputError, match=message):
        rise(network("plain"), pictures(), **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": 0}, "window must be one number, or one for each of the 2 axes"),
        ({"stride": (2, -1)}, "stride must be"),
        ({"fill": "grey"}, "fill must be 'constant', 'noise' or 'blur'"),
        ({"fill": "blur", "blur": 0.0}, "blur above 0"),
        ({"score": "margin"}, "score must be"),
        ({"batch": 0}, "batch must be 1 or more"),
    ],
)
def test_wrong_options_of_occlusion_are_input_errors(wrong, message):
    with pytest.raises(InputError, match=message):
        occlusion(network("plain"), pictures(), **wrong)


def test_rise_needs_a_grid_that_can_be_enlarged():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(InputError, match="1, 2 or 3 axes"):
        rise(model, torch.zeros(2, 1, 2, 2, 2, 2))
