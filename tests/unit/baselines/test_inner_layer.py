"""Which two layers are compared: the last convolutions of the last two stages."""

import pytest
import torch
import torchvision
from condition import assert_same, condition
from nets import stages
from tiny import NETWORKS, network, pictures
from tiny_transformers import transformer
from torch import Tensor, nn

from atcon.baselines import LayerAttentionLoss, inner_and_last
from atcon.errors import InputError
from atcon.models import build

TORCHVISION = {
    "mobilenet_v2": ("features.13.conv.2", "features.18.0"),
    "resnet18": ("layer3.1.conv2", "layer4.1.conv2"),
    "resnet50": ("layer3.5.conv3", "layer4.2.conv3"),
    "squeezenet1_1": ("features.7.expand3x3", "features.12.expand3x3"),
    "densenet121": ("features.transition3.conv", "features.denseblock4.denselayer16.conv2"),
    "inception_v3": ("Mixed_6e.branch_pool.conv", "Mixed_7c.branch_pool.conv"),
}


def torchvision_network(name: str) -> nn.Module:
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.random.fork_rng():
        return getattr(torchvision.models, name)(num_classes=5, **options)


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_last_two_stages_of_known_networks(name):
    model = torchvision_network(name)
    images = torch.zeros(1, 3, 128, 128)
    assert inner_and_last(model, images) == TORCHVISION[name]


def test_the_network_of_the_digits_has_two_stages_too():
    model = build("digits_resnet", classes=10).module
    found = inner_and_last(model, torch.zeros(1, 3, 64, 64))
    assert found == ("stages.1.1.conv2", "stages.2.1.conv2")


def test_a_clip_s_map_shrinks_in_space_and_time():
    with torch.random.fork_rng():
        net = nn.Sequential(
            nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(4, 4, 1), nn.Conv3d(4, 4, 3, (2, 1, 1), 1)
        )
        model = nn.Sequential(net, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3))
    assert inner_and_last(model, torch.zeros(1, 3, 4, 6, 6)) == ("0.1", "0.2")


class Bottleneck(nn.Module):
    """Shrinks in its second convolution, as a ResNet's does."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.middle = nn.Conv2d(4, 4, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.middle(self.reduce(x)))


class Wrapped(nn.Module):
    """A network inside another, whose every part is one module that ends with the last map."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.fc = body, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))


class Body(nn.Module):
    def __init__(self, *strides: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.blocks = nn.ModuleList(Bottleneck(stride) for stride in strides)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize(
    ("strides", "inner"),
    [
        ((2, 1, 2, 1), "body.blocks.1.expand"),
        ((1, 2), "body.blocks.0.expand"),
        ((2,), "body.stem"),
        ((2, 1), "body.stem"),
        ((1, 1), "body.blocks.0.expand"),
        ((1,), "body.stem"),
    ],
    ids=str,
)
def test_the_convolutions_of_a_block_that_shrinks_belong_to_the_next_stage(strides, inner):
    model = Wrapped(Body(*strides))
    last = f"body.blocks.{len(strides) - 1}.expand"
    assert inner_and_last(model, pictures(1, size=16, dtype=torch.float32)) == (inner, last)


def test_stages_of_one_resolution_are_told_apart_by_their_blocks():
    assert inner_and_last(stages(), pictures()) == ("stages.1.0", "stages.2.0")


@pytest.mark.parametrize("name", NETWORKS)
def test_looking_leaves_the_model_as_it_was(name):
    model, images = network(name).train(), pictures()
    before = condition(model)
    inner_and_last(model, images)
    assert_same(before, condition(model))


def test_a_network_of_one_convolution_says_how_to_name_layers():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2)).double()
    with pytest.raises(InputError, match=r"it has 1 convolutions.*layers=\('layer3.1.conv2'"):
        LayerAttentionLoss(model)(pictures())


def test_a_transformer_has_its_layers_named():
    model, images = transformer("vit"), pictures(2, size=32)
    with pytest.raises(InputError, match="name two layers whose outputs are maps"):
        LayerAttentionLoss(model)(images)
    blocks = [name for name, _ in model.named_modules() if name.endswith(("ln_1", "ln_2"))]
    loss = LayerAttentionLoss(model, (blocks[0], blocks[-2]))
    loss(images).backward()
    assert loss.details.layers == (blocks[0], blocks[-2])
    assert bool(loss.details.evidence.any())
