"""Loops differ: layouts, frozen parts, modes, gradient modes, accumulated steps."""

import copy

import pytest
import torch
from nets import (
    Stages,
    assert_same_gradients,
    gradients,
    loss_and_gradients,
    stages,
)
from tiny import pictures
from torch import nn

from atcon import ConsistencyLoss, InputError, explain
from atcon.attention import logits_of
from atcon.consistency import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_channels_last_changes_nothing(preset):
    expected = loss_and_gradients(stages(), pictures(), preset=preset)
    model = stages().to(memory_format=torch.channels_last)
    found = loss_and_gradients(
        model, pictures().to(memory_format=torch.channels_last), preset=preset
    )
    torch.testing.assert_close(found[0], expected[0], rtol=1e-12, atol=0)
    assert_same_gradients(found[1], expected[1], 1e-10)
    assert model.stages[0][0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("frozen", ["stages.0", "stages.1.1", "stages", "head", "stages.2.0"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_keeps_its_own(frozen, preset):
    expected = loss_and_gradients(stages(), pictures(), preset=preset)
    model = stages()
    model.get_submodule(frozen).requires_grad_(requires_grad=False)
    value, found = loss_and_gradients(model, pictures(), preset=preset)
    rest = {name: g for name, g in expected[1].items() if not name.startswith(frozen)}
    torch.testing.assert_close(value, expected[0], rtol=1e-12, atol=0)
    assert_same_gradients(found, rest, 1e-10)


def test_a_fully_frozen_network_still_has_maps_and_a_loss():
    model = stages()
    expected = ConsistencyLoss(model)(pictures()).detach()
    maps = explain(model, pictures(), "guided_backprop")
    model.requires_grad_(requires_grad=False)
    torch.testing.assert_close(ConsistencyLoss(model)(pictures()).detach(), expected)
    torch.testing.assert_close(explain(model, pictures(), "guided_backprop"), maps)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("preset", PRESETS)
def test_running_statistics_are_used_in_either_mode_of_the_caller(preset):
    found = []
    for training in (True, False):
        model = stages().train(training)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        found.append(loss_and_gradients(model, pictures(), preset=preset))
        assert all(module.training == training for module in model.modules())
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(found[0][0], found[1][0])
    assert_same_gradients(found[0][1], found[1][1], 0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_gets_the_same_maps_and_value(mode):
    model, images = stages(), pictures()
    value = ConsistencyLoss(model)(images).detach()
    maps = {name: explain(model, images, name) for name in ("grad_cam", "guided_backprop")}
    with mode():
        made_inside = images + 0
        assert torch.equal(ConsistencyLoss(model)(made_inside).detach(), value)
        for name, expected in maps.items():
            assert torch.equal(explain(model, made_inside, name), expected)
    assert torch.equal(loss_and_gradients(model, images)[0], value)


@pytest.mark.parametrize("preset", PRESETS)
def test_two_accumulated_halves_equal_the_whole(preset):
    images = pictures(4)
    expected = loss_and_gradients(stages(), images, preset=preset)[1]
    model = stages()
    loss = ConsistencyLoss(model, preset=preset)
    for half in images.split(2):
        (loss(half) / 2).backward()
    assert_same_gradients(gradients(model), expected, 1e-10)


def test_two_losses_with_one_backward_equal_two_backwards():
    images = pictures(4).split(2)
    together, apart = stages(), stages()
    (ConsistencyLoss(together)(images[0]) + ConsistencyLoss(together)(images[1])).backward()
    for half in images:
        ConsistencyLoss(apart)(half).backward()
    assert_same_gradients(gradients(together), gradients(apart), 1e-12)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap])
def test_inside_a_transform_of_torch_func_is_refused(transform):
    consistency = ConsistencyLoss(stages())
    with pytest.raises(InputError, match="inside a transform"):
        transform(lambda images: consistency(images.reshape(-1, *images.shape[-3:])))(pictures())


def test_other_weights_may_be_put_in_by_a_functional_call():
    model, images = stages(), pictures()
    other = {f"model.{name}": weight * 1.5 for name, weight in model.named_parameters()}
    found = torch.func.functional_call(ConsistencyLoss(model), other, (images,))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    assert float(found.detach()) == pytest.approx(float(ConsistencyLoss(model)(images).detach()))


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_any_number_of_input_channels(channels):
    images = torch.randn(2, channels, 12, 12, dtype=torch.float64)
    model = stages(channels=channels)
    assert explain(model, images, "guided_backprop").shape == (2, 12, 12)
    expected = loss_and_gradients(model, images)[1]
    padded = stages(channels=channels + 1)
    padded.load_state_dict({**model.state_dict(), "stages.0.0.weight": _one_more(model)})
    more = torch.cat([images, torch.zeros(2, 1, 12, 12, dtype=torch.float64)], dim=1)
    found = loss_and_gradients(padded, more)[1]
    del found["stages.0.0.weight"], expected["stages.0.0.weight"]
    assert_same_gradients(found, expected, 1e-10)  # a channel of zeros that nobody reads


def _one_more(model: Stages) -> torch.Tensor:
    weight = model.stages[0][0].weight
    return torch.cat([weight, torch.zeros_like(weight[:, :1])], dim=1)


class Returns(nn.Module):
    """Returns its logits in some packing, beside other things."""

    def __init__(self, pack):
        super().__init__()
        self.net, self.auxiliary, self.pack = stages(), nn.Linear(3, 7).double(), pack

    def forward(self, x):
        return self.pack(self.net(x), self.auxiliary(x.mean(dim=(2, 3))))


class Named(tuple):
    """As Inception's and Hugging Face's outputs: a tuple with names."""

    @property
    def logits(self):
        return self[0]


PACKINGS = {
    "logits attribute": lambda y, extra: Named((y, extra)),
    "tuple": lambda y, extra: (y, extra),
    "list": lambda y, extra: [y, extra],
    "tuple of dictionaries": lambda y, extra: ({"logits": y}, extra),
    "logits": lambda y, extra: {"auxiliary": extra, "logits": y},
    "out": lambda y, extra: {"aux": extra, "out": y},
    "output": lambda y, extra: {"extra": extra, "output": y},
    "the only table": lambda y, extra: {"loss": extra.sum(), "scores": y},
}


@pytest.mark.parametrize("pack", PACKINGS)
def test_logits_are_found_in_what_models_return(pack):
    bare = Returns(lambda y, extra: y)
    packed = copy.deepcopy(bare)
    packed.pack = PACKINGS[pack]
    expected = loss_and_gradients(bare, pictures())
    found = loss_and_gradients(packed, pictures())
    assert torch.equal(found[0], expected[0])
    assert_same_gradients(found[1], expected[1], 0)


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        (lambda y, extra: {"a": y, "b": extra}, r"dict \{'a': \(2, 4\), 'b': \(2, 7\)\}"),
        (lambda y, extra: {}, r"dict \{\}"),
        (lambda y, extra: y[0], r"\(4,\)"),
        (lambda y, extra: (y.sum(), y), r"tuple \[\(\), \(2, 4\)\]"),
        (lambda y, extra: None, "NoneType"),
        (lambda y, extra: y[:, :, None, None], r"\(2, 4, 1, 1\)"),
    ],
)
def test_other_outputs_are_described_with_a_way_out(pack, said):
    with pytest.raises(InputError, match=f"{said}; wrap it in a module"):
        explain(Returns(pack), pictures(), layer="net.stages.2")


def test_a_dictionary_prefers_its_logits_over_other_names():
    y = torch.zeros(2, 3)
    assert logits_of({"out": torch.ones(2, 3), "logits": y}) is y
