"""BatchNorm folded into convolutions changes no value and no derivative, and only what may be."""

import copy

import pytest
import torch
from tiny import pictures
from torch import nn

from atcon.attention import grad_cam, guided_backprop, trace
from atcon.attention.borrow import batch_statistics
from atcon.attention.convolution import Convolution
from atcon.attention.folding import folds_of


def norm(channels, seed=0):
    layer = nn.BatchNorm2d(channels)
    make = torch.Generator().manual_seed(seed)
    layer.running_mean.copy_(torch.randn(channels, generator=make))
    layer.running_var.copy_(0.5 + torch.rand(channels, generator=make))
    layer.weight.data.copy_(0.5 + torch.rand(channels, generator=make))
    layer.bias.data.copy_(torch.randn(channels, generator=make))
    return layer


class Net(nn.Module):
    """Two convolutions, each with its BatchNorm; subclasses read them in other ways."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), norm(4, 1)
        self.second, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), norm(4, 2)
        self.fc = nn.Linear(4, 3)
        self.double().eval()

    def forward(self, x):
        x = self.bn1(self.first(x)).relu()
        return self.head(self.bn2(self.second(x)))

    def head(self, x):
        return self.fc(x.relu().mean(dim=(2, 3)))


class ReadTwice(Net):
    def forward(self, x):
        y = self.first(x)
        x = self.bn1(y).relu() + y
        return self.head(self.bn2(self.second(x)))


class ReadTwiceBefore(Net):
    def forward(self, x):
        y = self.first(x)
        z = y.abs()
        x = self.bn1(y).relu() + z
        return self.head(self.bn2(self.second(x)))


class Shared(Net):
    def forward(self, x):
        x = self.bn1(self.first(x)).relu()
        x = self.bn1(self.second(x)).relu()
        return self.head(self.bn2(self.second(x)))


class BatchStatistics(Net):
    def __init__(self):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(4, track_running_stats=False).double()


class Returned(Net):
    """Its second convolution is the head: nobody reads it inside the network."""

    def forward(self, x):
        return self.second(self.bn1(self.first(x)).relu()).mean(dim=(2, 3))


class Swapped(Net):
    """Reads its convolution in another way after the first time."""

    calls = 0

    def forward(self, x):
        Swapped.calls += 1
        y = self.first(x)
        x = self.bn1(y) if Swapped.calls == 1 else self.bn1(y + 1)
        return self.head(self.bn2(self.second(x.relu())))


class ReadLater(Net):
    """Reads the output of its first convolution in a way that was not seen at first."""

    reads = None

    def forward(self, x):
        y = self.first(x)
        if self.reads is not None:
            return self.head(self.reads(y, self.bn1))
        return self.head(self.bn2(self.second(self.bn1(y).relu())))


def written_to(y, norm):
    with torch.no_grad():
        assert y.mean() != 0
    y.mul_(2)
    return norm(y) + y


READS = {
    "after its BatchNorm": lambda y, norm: norm(y).relu() + y,
    "by its BatchNorm again": lambda y, norm: norm(y) + norm(y).relu(),
    "by the same BatchNorm twice": lambda y, norm: norm(norm(y)),
    "by another function": lambda y, norm: y.relu(),
    "before and after, written to": written_to,
}


class Contained(Net):
    """A container ends with a convolution whose BatchNorm comes after it."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(self.first)

    def forward(self, x):
        return self.head(self.bn2(self.second(self.bn1(self.block(x)).relu())))


def folded(model, dtype=torch.float64):
    folds = folds_of(model, pictures(dtype=dtype))
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
        and folds.after(Convolution(pictures(), module.weight, module.bias, ()))
    ]


def assert_the_networks_own(model, images):
    """Compare logits and gradients of a traced pass with those of the network alone."""
    logits = trace(model, images).logits
    torch.testing.assert_close(logits, model(images), rtol=1e-12, atol=1e-12)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model(images).pow(2).sum(), parameters, materialize_grads=True)
    found = torch.autograd.grad(logits.pow(2).sum(), parameters, materialize_grads=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Net, ["first", "second"]),
        (ReadTwice, ["second"]),
        (ReadTwiceBefore, ["second"]),
        (Shared, ["first"]),
        (BatchStatistics, ["second"]),
        (Returned, ["first"]),
    ],
)
def test_folds_exactly_what_only_a_batch_norm_reads(kind, expected):
    assert folded(kind()) == expected


def test_a_hooked_convolution_shows_its_own_output():
    model, seen = Net(), []
    model.first.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    assert folded(model) == ["second"]
    seen.clear()
    trace(model, pictures())
    torch.testing.assert_close(seen[-1], model.first(pictures()).detach())


@pytest.mark.parametrize("kind", [Net, ReadTwice, ReadTwiceBefore, Shared, Returned])
def test_value_and_derivatives_are_those_of_the_network(kind):
    assert_the_networks_own(kind(), pictures())


def test_a_network_that_reads_its_convolution_in_another_way_later_is_still_right():
    Swapped.calls = 0
    model, images = Swapped(), pictures()
    assert folded(model) == ["first", "second"]
    torch.testing.assert_close(trace(model, images).logits, model(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reads", READS.values(), ids=READS)
def test_whatever_reads_a_folded_convolution_later_reads_the_convolution(reads):
    model, images = ReadLater(), pictures()
    assert folded(model) == ["first", "second"]
    model.reads = reads
    assert_the_networks_own(model, images)


@pytest.mark.parametrize("place", ["first", "block", "bn1"])
def test_a_hook_that_came_later_shows_and_may_use_the_convolution(place):
    model, images, kept = Contained(), pictures(), []
    assert folded(model) == ["first", "second"]

    def add_what_was_seen(_module, _inputs, output):
        return output + kept[-1]

    model.get_submodule(place).register_forward_hook(
        lambda _module, inputs, output: kept.append(inputs[0] if place == "bn1" else output)
    )
    model.bn1.register_forward_hook(add_what_was_seen)
    assert_the_networks_own(model, images)
    plain = model.first(images)
    trace(model, images)
    torch.testing.assert_close(kept[-1], plain, rtol=1e-12, atol=1e-12)


def test_what_the_network_keeps_of_a_folded_convolution_is_the_convolution_with_its_gradient():
    class Keeps(Net):
        def forward(self, x):
            self.kept = self.first(x)
            return self.head(self.bn2(self.second(self.bn1(self.kept).relu())))

    model, images = Keeps(), pictures()
    assert folded(model) == ["first", "second"]
    trace(model, images)
    plain = model.first(images)
    torch.testing.assert_close(model.kept, plain, rtol=1e-12, atol=1e-12)
    weight = model.first.weight
    (found,) = torch.autograd.grad(model.kept.square().sum(), weight)
    (expected,) = torch.autograd.grad(plain.square().sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_layer_that_ends_with_a_convolution_is_explained_whichever_was_first():
    model, images = Contained(), pictures()
    expected = grad_cam(Contained(), images, 0, layer="block")
    grad_cam(model, images, 0, layer="second")
    torch.testing.assert_close(grad_cam(model, images, 0, layer="block"), expected)
    torch.testing.assert_close(grad_cam(model, images, 0, layer="first"), expected)


def test_weights_that_change_are_folded_anew():
    model, images = Net(), pictures()
    before = grad_cam(model, images, 0)
    with torch.no_grad():
        model.first.weight.mul_(2)
        model.bn2.running_mean.add_(1)
    fresh = copy.deepcopy(model)
    assert not torch.equal(grad_cam(model, images, 0), before)
    assert torch.equal(grad_cam(model, images, 0), grad_cam(fresh, images, 0))


def test_a_model_that_was_moved_to_another_type_is_read_again():
    model = Net()
    folded(model)
    model.float()
    assert folded(model, torch.float32) == ["first", "second"]
    maps = guided_backprop(model, pictures().float(), 0)
    exact = guided_backprop(Net(), pictures(), 0)
    torch.testing.assert_close(maps.double(), exact, rtol=1e-4, atol=1e-5)


def test_other_weights_than_the_models_are_not_mistaken_for_them():
    model, images = Net(), pictures()
    folded(model)
    other = {name: torch.randn_like(value) for name, value in model.named_parameters()}

    class Called(nn.Module):
        def forward(self, x):
            return torch.func.functional_call(model, other, (x,))

    expected = torch.func.functional_call(model, other, (images,))
    torch.testing.assert_close(trace(Called().eval(), images).logits, expected)


def test_nothing_is_folded_while_batch_norm_uses_the_statistics_of_the_batch():
    model, images = Net(), pictures()
    with batch_statistics():
        run = trace(model, images, model.bn1)
        assert folded(model) == []
    expected = copy.deepcopy(model).train().bn1(model.first(images))
    torch.testing.assert_close(run.features[0], expected, rtol=1e-12, atol=1e-12)
    assert folded(model) == ["first", "second"]
