"""Maps and losses borrow the model: afterwards it is as it was, also after an exception."""

import copy
from functools import partial

import pytest
import torch
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


def condition(model):
    """Everything that borrowing could leave behind."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "training": [module.training for module in model.modules()],
        "modules": [id(module) for module in model.modules()],
        "hooks": [len(getattr(module, kind)) for module in model.modules() for kind in hooks],
        "storage": [id(t) for t in (*model.parameters(), *model.buffers())],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "grad": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "random": torch.get_rng_state(),
    }


def assert_same(before, after):
    for key in ("state", "grad", "random"):
        torch.testing.assert_close(after.pop(key), before.pop(key), rtol=0, atol=0, equal_nan=True)
    assert after == before


def prepared(built, dtype=torch.float64):
    """A model in a mixed mode, with gradients on some of its parameters."""
    model = network(built, dtype=dtype).train()
    list(model.modules())[2].eval()
    parameters = list(model.parameters())
    parameters[0].grad = torch.ones_like(parameters[0])
    parameters[-1].requires_grad_(requires_grad=False)
    return model


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("built", NETWORKS)
def test_leaves_the_model_as_it_found_it(built, use):
    if not applies(use, built):
        pytest.skip("this map cannot explain this network")
    model, images = prepared(built), pictures()
    before, picture_before = condition(model), images.clone()
    USES[use](model, images)
    assert_same(before, condition(model))
    assert torch.equal(images, picture_before)
    assert images.grad is None


class Breaks(nn.Module):
    """Fails after it has used random numbers and written to its buffers."""

    def __init__(self):
        super().__init__()
        self.net = network("edits")

    def forward(self, x):
        self.net(x)
        torch.rand(3)
        raise RuntimeError("out of paper")


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
