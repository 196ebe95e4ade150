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
