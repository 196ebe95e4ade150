import pytest
import torch
from tiny import NETWORKS, network, pictures
from torch import nn

from atcon.baselines.features import features_of, head_input
from atcon.errors import InputError

HEADS = dict.fromkeys(("residual", "functional", "preactivation", "smooth"), "head.fc") | {
    "plain": "7.fc",
    "grouped": "7.fc",
    "relu6": "4.fc",
    "inplace": "6.fc",
    "edits": "net.7.fc",
}


class ConvolutionalHead(nn.Module):
    """As in SqueezeNet: a convolution makes the logits of every position, which are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, stride=2)
        self.head = nn.Conv2d(5, 4, 1)

    def forward(self, x):
        return self.head(self.stem(x).relu()).flatten(2).mean(dim=2)


class Breaks(nn.Module):
    """Fails after its head has run."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        self.head(self.norm(x).flatten(2).mean(dim=2))
        raise RuntimeError("out of memory")


class Spare(nn.Module):
    """Has a part that never runs, and hands its head an argument by name."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 4)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        return self.head(input=x.flatten(2).mean(dim=2))


def state_of(model):
    hooks = [len(m._forward_pre_hooks) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    return hooks, modes, {k: v.clone() for k, v in model.state_dict().items()}


def assert_as_before(model, before):
    hooks, modes, values = state_of(model)
    assert (hooks, modes) == before[:2]
    assert values.keys() == before[2].keys()
    assert all(torch.equal(value, before[2][name]) for name, value in values.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_head_turns_the_features_into_the_logits(name):
    model, images = network(name), pictures(3)
    features = features_of(model, HEADS[name], images)
    head = model.get_submodule(HEADS[name])
    assert features.shape == (3, head.in_features)
    torch.testing.assert_close(head(features), model(images.clone()))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_model_and_the_images_are_given_back_as_they_were(name):
    model, images = network(name).train(), pictures(3)
    before, copy = state_of(model), images.clone()
    random = torch.get_rng_state()
    features_of(model, HEADS[name], images)
    assert_as_before(model, before)
    assert torch.equal(images, copy)
    assert torch.equal(torch.get_rng_state(), random)


def test_the_model_is_given_back_after_an_exception():
    model = Breaks().train()
    before = state_of(model)
    with pytest.raises(RuntimeError, match="out of memory"):
        features_of(model, "head", torch.rand(2, 3, 4, 4))
    assert_as_before(model, before)


def test_the_input_of_a_convolutional_head_is_averaged_over_positions():
    model, images = ConvolutionalHead().double(), pictures(3)
    features = features_of(model, "head", images)
    expected = model.stem(images).relu().mean(dim=(2, 3))
    torch.testing.assert_close(features, expected)
    weight, bias = model.head.weight.flatten(1), model.head.bias
    torch.testing.assert_close(features @ weight.T + bias, model(images))


def test_features_are_taken_in_evaluation_mode():
    model, images = network("plain"), pictures(3)
    expected = features_of(model, "7.fc", images)
    assert torch.equal(features_of(model.train(), "7.fc", images), expected)


def test_features_have_a_graph_only_when_asked_for_one():
    model, images = network("plain"), pictures(2)
    assert not features_of(model, "7.fc", images).requires_grad
    with torch.no_grad():
        features = features_of(model, "7.fc", images, gradients=True)
    features.sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_every_pass_of_the_block_is_collected_and_none_after_it():
    model = network("plain")
    with head_input(model, "7.fc") as seen:
        for count in (1, 3):
            model(pictures(count))
    model(pictures(2))
    assert [len(x) for x in seen] == [1, 3]
    torch.testing.assert_close(model[7].fc(seen[1]), model(pictures(3)))


def test_an_input_that_is_passed_by_name_is_found():
    model, images = Spare().double(), pictures(2)
    torch.testing.assert_close(features_of(model, "head", images), images.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("model", "head", "message"),
    [
        (Spare(), "haed", r"no head 'haed'; the nearest are head"),
        (Spare(), "", r"no head ''"),
        (Spare(), "unused", "'unused' did not run"),
        (network("plain", dtype=torch.float32), "1", r"was given \(2, 4, 5, 5\) for 2 images"),
    ],
)
def test_what_is_no_head_is_named(model, head, message):
    with pytest.raises(InputError, match=message):
        features_of(model, head, pictures(2, dtype=torch.float32))
