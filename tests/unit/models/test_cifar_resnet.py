"""The CIFAR ResNets: the published names, shortcuts without weights, and maps of eight by eight."""

import re

import pytest
import torch
from torch.nn.functional import conv2d

import atcon
from atcon.attention.layers import find_layer
from atcon.models import build, names, save_weights
from atcon.models.cifar_resnet import BLOCKS, PaddedShortcut

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def written_out(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The same network from its weights alone, block by block, as the paper has it (option A)."""

    def normalised(name, x):
        shape = (1, -1, 1, 1)
        mean, var = (state[f"{name}.running_{s}"].view(shape) for s in ("mean", "var"))
        scale, shift = (state[f"{name}.{s}"].view(shape) for s in ("weight", "bias"))
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = normalised("bn1", conv2d(x, state["conv1.weight"], padding=1)).clamp(min=0)
    blocks = sorted({m[0] for m in map(re.compile(r"layer\d\.\d+").match, state) if m})
    for name in sorted(blocks, key=lambda name: [int(n) for n in re.findall(r"\d+", name)]):
        first, second = (state[f"{name}.conv{i}.weight"] for i in (1, 2))
        stride = 2 if len(first) > first.shape[1] else 1
        y = normalised(f"{name}.bn1", conv2d(x, first, stride=stride, padding=1)).clamp(min=0)
        y = normalised(f"{name}.bn2", conv2d(y, second, padding=1))
        if stride == 2:
            grown = torch.zeros_like(y)
            quarter = len(first) // 4
            grown[:, quarter : quarter + x.shape[1]] = x[:, :, 0::2, 0::2]
            x = grown
        x = (x + y).clamp(min=0)
    return x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_resnet32"])
def test_the_logits_are_those_of_the_network_written_out(name: str) -> None:
    module = build(name, classes=10, seed=1).module
    module(torch.randn(8, 3, 32, 32))  # moves the running statistics
    module.eval()
    expected = written_out(module.state_dict(), IMAGES)
    torch.testing.assert_close(module(IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_a_shortcut_takes_every_second_pixel_and_puts_zeros_around_its_channels() -> None:
    x = torch.arange(32.0).view(1, 2, 4, 4)
    widened = PaddedShortcut(1)(x)
    assert widened.shape == (1, 4, 2, 2)
    assert widened[0, 0].eq(0).all()
    assert widened[0, 3].eq(0).all()
    assert widened[0, 1].tolist() == [[0, 2], [8, 10]]
    assert widened[0, 2].tolist() == [[16, 18], [24, 26]]
    assert not list(PaddedShortcut(1).parameters())


@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269_722), (32, 464_154), (56, 853_018), (110, 1_727_962)]
)
def test_depth_and_number_of_weights_are_those_of_table_6_of_the_paper(depth, parameters) -> None:
    module = build(f"cifar_resnet{depth}", classes=10).module
    layers = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == depth
    assert sum(p.numel() for p in module.parameters()) == parameters


def test_every_depth_is_listed_with_an_input_of_32_and_the_statistics_of_its_weights() -> None:
    for depth in BLOCKS:
        name = f"cifar_resnet{depth}"
        network = build(name, classes=3)
        assert name in names()
        assert (network.head, network.input_size) == ("linear", 32)
        assert (network.mean[0], network.std[0]) == (0.485, 0.229)


def test_grad_cam_is_taken_at_the_last_stage_on_eight_by_eight_cells() -> None:
    module = build("cifar_resnet20", classes=10).module.eval()
    assert find_layer(module, IMAGES) == "layer3"
    assert find_layer(module, IMAGES, "convolution") == "layer3.2.conv2"
    assert atcon.explain(module, IMAGES, "grad_cam").shape == (2, 8, 8)
    assert atcon.explain(module, IMAGES, "guided_backprop").shape == (2, 32, 32)


def test_the_inspection_finds_all_19_activations_and_nothing_wrong() -> None:
    module = build("cifar_resnet20", classes=10).module
    found = atcon.check(module, IMAGES, cost=False)
    (activations,) = found.named("activations")
    assert activations.values["guided"] == {"relu": 19}
    assert found.level in ("ok", "note"), str(found)


def test_weights_of_another_depth_are_recognised(tmp_path) -> None:
    save_weights(build("cifar_resnet32", classes=10).module, tmp_path / "deeper.safetensors")
    with pytest.raises(atcon.errors.InputError, match="look like cifar_resnet32"):
        build("cifar_resnet20", classes=10, weights=tmp_path / "deeper.safetensors")


def test_a_new_head_leaves_the_published_one_out_though_it_has_as_many_classes(tmp_path) -> None:
    path = tmp_path / "published.safetensors"
    published = build("cifar_resnet20", classes=10, seed=7).module
    save_weights(published, path)
    kept = build("cifar_resnet20", classes=10, weights=path, seed=1).module
    new = build("cifar_resnet20", classes=10, weights=path, seed=1, new_head=True).module
    fresh = build("cifar_resnet20", classes=10, seed=1).module
    assert torch.equal(kept.linear.weight, published.linear.weight)
    assert torch.equal(new.linear.weight, fresh.linear.weight)
    assert torch.equal(new.linear.bias, fresh.linear.bias)
    assert torch.equal(new.layer3[2].conv2.weight, published.layer3[2].conv2.weight)
