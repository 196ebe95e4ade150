"""Maps and losses borrow the model: afterwards it is as it was, also after an exception."""

import copy
from functools import partial

import pytest
import torch
from condition import Breaks, assert_same, condition, prepared
from maps import MAPS, applies, take
from tiny import NETWORKS, network, pictures
from torch import nn

from atcon.attention import ATTENTION, count_guided, find_layer
from atcon.attention.borrow import borrowed
from atcon.consistency import PRESETS, ConsistencyLoss

USES = {
    **{name: partial(take, name) for name in MAPS},
    **{
        f"{preset} loss": lambda model, images, preset=preset: ConsistencyLoss(
            model, preset=preset
        )(images)
        for preset in PRESETS
    },
    "find_layer": find_layer,
    "count_guided": count_guided,
}


@pytest.mark.parametrize(
    ("built", "use"), [(built, use) for built in NETWORKS for use in USES if applies(use, built)]
)
def test_leaves_the_model_as_it_found_it(built, use):
    model, images = prepared(built), pictures()
    before, picture_before = condition(model), images.clone()
    USES[use](model, images)
    assert_same(before, condition(model))
    assert torch.equal(images, picture_before)
    assert images.grad is None


@pytest.mark.parametrize("use", USES)
def test_leaves_the_model_as_it_found_it_after_an_exception(use):
    model, images = Breaks().train(), pictures()
    before = condition(model)
    with pytest.raises(RuntimeError, match="out of paper"):
        USES[use](model, images)
    assert_same(before, condition(model))


def test_the_callers_modes_are_restored_after_an_exception():
    with torch.no_grad(), pytest.raises(RuntimeError, match="out of paper"):
        ATTENTION["grad_cam"](Breaks(), pictures(), layer="net.net.4")
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_training_continues_with_the_same_random_numbers():
    states = []
    for use in (lambda model, images: None, *USES.values()):
        torch.manual_seed(0)
        model = network("plain").train()
        use(model, pictures())
        states.append(model(pictures()))
    assert all(torch.equal(states[0], state) for state in states)


def test_a_buffer_that_appears_in_forward_vanishes_again():
    class Lazy(nn.Module):
        def forward(self, x):
            self.register_buffer("cache", torch.ones(1))
            return x

    model = Lazy()
    with borrowed(model, torch.device("cpu")):
        model(torch.zeros(1))
        assert dict(model.named_buffers())
    assert not dict(model.named_buffers())


def test_a_copy_of_the_model_gives_the_same_map():
    model, images = network("inplace"), pictures()
    again = copy.deepcopy(model)
    ATTENTION["guided_backprop"](model, images)
    assert torch.equal(
        ATTENTION["guided_backprop"](model, images), ATTENTION["guided_backprop"](again, images)
    )
