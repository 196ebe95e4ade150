"""Published ImageNet weights go into the networks they are of, and into no other."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from atcon.errors import InputError
from atcon.models import build

pytestmark = pytest.mark.realdata

BESIDE = Path(__file__).parents[3] / "shared" / "data"
WEIGHTS = Path(os.environ.get("ATCON_DATA", BESIDE)) / "weights"


@pytest.mark.parametrize(
    ("name", "head"), [("mobilenet_v2", "classifier.1"), ("squeezenet1_1", "classifier.1")]
)
def test_all_but_the_head_is_the_file_bit_by_bit(name: str, head: str) -> None:
    path = WEIGHTS / f"{name}-imagenet.safetensors"
    network = build(name, classes=6, weights=path, seed=1)
    loaded = network.module.state_dict()
    body = {k: v for k, v in load_file(path).items() if not k.startswith(head)}
    assert network.head == head
    assert len(body) >= len(loaded) - 2
    assert all(torch.equal(loaded[name], value) for name, value in body.items())
    assert loaded[f"{head}.weight"].shape[0] == 6


def test_a_published_head_is_kept_where_the_classes_are_the_same() -> None:
    path = WEIGHTS / "squeezenet1_1-imagenet.safetensors"
    loaded = build("squeezenet1_1", classes=1000, weights=path).module.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in load_file(path).items())


def test_mobilenet_weights_in_a_resnet_are_listed_and_recognised() -> None:
    path = WEIGHTS / "mobilenet_v2-imagenet.safetensors"
    with pytest.raises(InputError, match="look like mobilenet_v2") as caught:
        build("resnet50", classes=6, weights=path)
    message = str(caught.value)
    assert "missing (265): conv1.weight [64, 3, 7, 7]" in message
    assert "unexpected (" in message
    assert "more" in message


@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_weights_fill_their_network_to_the_last_tensor(depth: int) -> None:
    path = WEIGHTS / f"resnet{depth}-cifar10.safetensors"
    network = build(f"cifar_resnet{depth}", classes=10, weights=path)
    loaded = {k: v for k, v in network.module.state_dict().items() if "num_batches" not in k}
    written = load_file(path)
    assert loaded.keys() == written.keys()
    assert all(torch.equal(loaded[name], value) for name, value in written.items())
    fresh = build(f"cifar_resnet{depth}", classes=10, weights=path, new_head=True).module
    assert not torch.equal(fresh.linear.weight, written["linear.weight"])
    assert torch.equal(fresh.conv1.weight, written["conv1.weight"])


@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_weights_saw_images_normalised_as_the_network_says(depth: int) -> None:
    """The first BatchNorm's running mean tells the mean input, which tells mean and std.

    A channel's mean is linear in the mean input, 16 equations for 3 unknowns. Training shifted
    images by up to 4 pixels and filled with black, so the mean input is a mixture of CIFAR-10's
    mean colour and of black.
    """
    state = load_file(WEIGHTS / f"resnet{depth}-cifar10.safetensors")
    inside = torch.tensor([31 / 32, 1, 31 / 32], dtype=torch.float64)  # of the zeros around
    taps = (state["conv1.weight"].double() * inside[:, None] * inside).sum((2, 3))
    found = torch.linalg.lstsq(taps, state["bn1.running_mean"].double()[:, None]).solution[:, 0]
    shown = (1 - 20 / 9 / 32) ** 2  # the mean shift of -4..4 is 20/9 pixels in each axis
    cifar = torch.tensor((0.4914, 0.4822, 0.4465), dtype=torch.float64)

    def expected(mean, std):
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
        return (shown * cifar - mean) / std

    network = build(f"cifar_resnet{depth}", classes=10)
    torch.testing.assert_close(found, expected(network.mean, network.std), rtol=0, atol=0.04)
    its_own = expected((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert (found - its_own).abs().max() > 0.15
