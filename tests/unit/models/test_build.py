"""Networks by name: what is built is seeded, known by its head, and explained when it is wrong."""

import hashlib
import re
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from offline import offline
from torch import nn
from torchvision.models import get_model_weights
from torchvision.models import list_models as torchvision_names

from atcon.errors import InputError
from atcon.models import build, names


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a file of the user's on the import path; gives the function that writes it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        name = f"own_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


HEADS = [
    ("digits_resnet", "fc", 64),
    ("mobilenet_v2", "classifier.1", 224),
    ("resnet18", "fc", 224),
    ("squeezenet1_1", "classifier.1", 224),
    ("inception_v3", "fc", 299),
    ("googlenet", "fc", 224),
    ("efficientnet_b0", "classifier.1", 224),
    ("timm/resnet10t", "fc", 176),
]


@pytest.mark.parametrize(("name", "head", "size"), HEADS)
def test_the_head_makes_the_logits_of_any_network(name: str, head: str, size: int) -> None:
    network = build(name, classes=7)
    module = network.module.eval()
    seen: list[torch.Tensor] = []
    module.get_submodule(head).register_forward_hook(lambda *call: seen.append(call[-1]))
    logits = module(torch.zeros(1, 3, 75, 75))
    assert (network.head, network.input_size) == (head, size)
    assert logits.shape == (1, 7)
    assert seen[0].shape[:2] == (1, 7)


def test_inception_and_googlenet_return_logits_in_train_mode_too() -> None:
    for name in ("inception_v3", "googlenet"):
        module = build(name, classes=3).module.train()
        assert module(torch.rand(2, 3, 96, 96)).shape == (2, 3)


@pytest.mark.parametrize("name", ["digits_resnet", "squeezenet1_1", "mobilenet_v2"])
def test_a_network_is_a_function_of_its_seed_whatever_the_global_random_state(name: str) -> None:
    first = build(name, classes=4, seed=3).module.state_dict()
    torch.rand(11)
    again = build(name, classes=4, seed=3)
    other = build(name, classes=4, seed=4).module.state_dict()
    assert all(torch.equal(v, first[k]) for k, v in again.module.state_dict().items())
    assert not torch.equal(first[f"{again.head}.weight"], other[f"{again.head}.weight"])


def test_building_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build("digits_resnet", classes=4, seed=9)
    with pytest.raises(InputError):
        build("tests_no_such_module:make", classes=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.initial_seed() == 5


def test_digits_resnet_ends_in_maps_of_eight_by_eight_and_global_pooling() -> None:
    module = build("digits_resnet", classes=5).module.eval()
    image = torch.rand(2, 3, 64, 64)
    features = module.stages(module.stem(image))
    assert features.shape == (2, 64, 8, 8)
    expected = features.mean((2, 3)) @ module.fc.weight.T + module.fc.bias
    torch.testing.assert_close(module(image), expected)


def test_each_torchvision_network_is_normalised_as_its_weights_were() -> None:
    usual = build("squeezenet1_1", classes=2)
    assert usual.mean == (0.485, 0.456, 0.406)
    assert usual.std == (0.229, 0.224, 0.225)
    assert build("digits_resnet", classes=2).mean == (0.5, 0.5, 0.5)


def test_names_are_our_own_and_torchvisions_classifiers() -> None:
    assert {"digits_resnet", "mobilenet_v2", "resnet50", "inception_v3"} <= set(names())
    assert "fasterrcnn_resnet50_fpn" not in names()


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("resnet5", "resnet50"),
        ("mobilenetv2", "mobilenet_v2"),
        ("digit_resnet", "digits_resnet"),
        ("timm/resnet10", "timm/resnet10t"),
    ],
)
def test_an_unknown_name_is_told_its_nearest_neighbour(wrong: str, nearest: str) -> None:
    with pytest.raises(InputError, match="did you mean") as caught:
        build(wrong, classes=2)
    assert nearest in str(caught.value)


def test_a_missing_timm_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'atcon\[timm\]'"):
        build("timm/resnet18", classes=2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where PyTorch keeps what it has fetched; empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def test_imagenet_weights_without_a_connection_say_how_to_give_a_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_connection(*_args, **_options):
        raise OSError("name resolution failed")

    monkeypatch.setattr("timm.models._builder.load_pretrained", no_connection)
    monkeypatch.setattr("atcon.downloads.download.time.sleep", lambda _: None)
    with pytest.raises(InputError, match="give a local file") as caught:
        build("timm/resnet10t", classes=2, weights="imagenet")
    assert "name resolution failed" in str(caught.value)
    with offline() as attempts, pytest.raises(InputError, match="to a local file") as caught:
        build("resnet18", classes=2, weights="imagenet")
    assert "download.pytorch.org" in attempts[0]
    for words in ("model.weights: the weights of resnet18", str(cache), "HTTPS_PROXY"):
        assert words in str(caught.value)


def test_networks_without_imagenet_weights_say_so() -> None:
    with pytest.raises(InputError, match="digits_resnet has no 'imagenet' weights"):
        build("digits_resnet", classes=2, weights="imagenet")


def published(monkeypatch: pytest.MonkeyPatch, cache: Path, legacy: bool = False) -> Path:
    """Weights as they are published, in the cache under a name with the start of their hash."""
    cache.mkdir(parents=True)
    made = cache / "made.pth"
    network = build("squeezenet1_1", classes=1000, seed=7).module
    torch.save(network.state_dict(), made, _use_new_zipfile_serialization=not legacy)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()[:8]
    weights = get_model_weights("squeezenet1_1").DEFAULT
    url = f"https://download.pytorch.org/models/squeezenet1_1-{digest}.pth"
    monkeypatch.setattr(type(weights), "url", property(lambda _: url))
    return made.rename(cache / url.rpartition("/")[2])


@pytest.mark.parametrize("legacy", [False, True])
def test_imagenet_weights_are_loaded_with_a_new_head(monkeypatch, cache, legacy) -> None:
    path = published(monkeypatch, cache, legacy)
    with offline() as attempts:
        loaded = build("squeezenet1_1", classes=2, weights="imagenet").module.state_dict()
    expected = torch.load(path, weights_only=True)
    assert torch.equal(loaded["features.0.weight"], expected["features.0.weight"])
    assert loaded["classifier.1.weight"].shape == (2, 512, 1, 1)
    assert attempts == []


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_half_a_file_in_the_cache_is_never_taken_for_a_whole_one(monkeypatch, cache, kept) -> None:
    path = published(monkeypatch, cache)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with offline() as attempts, pytest.raises(InputError, match="as published") as caught:
        build("squeezenet1_1", classes=2, weights="imagenet")
    assert str(path) in str(caught.value)
    assert attempts == []


def test_a_changed_weight_in_the_cache_is_found_out(monkeypatch, cache) -> None:
    path = published(monkeypatch, cache, legacy=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # PyTorch itself sees nothing
    with pytest.raises(InputError, match="its SHA-256 begins with"):
        build("squeezenet1_1", classes=2, weights="imagenet")


def test_every_published_file_of_torchvision_has_a_hash_in_its_name_and_comes_over_https() -> None:
    for name in torchvision_names(module=torchvision.models):
        url = get_model_weights(name).DEFAULT.url
        assert re.fullmatch(r"https://download\.pytorch\.org/.+-[0-9a-f]{8,}\.pth", url), url


def test_the_users_own_factory_is_called_with_the_number_of_classes(own_module) -> None:
    name = own_module(
        "from torch import nn\n"
        "def make(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))\n"
    )
    network = build(f"{name}:make", classes=5)
    assert isinstance(network.module, nn.Sequential)
    assert network.head == "1"
    assert network.module(torch.zeros(1, 3, 2, 2)).shape == (1, 5)


@pytest.mark.parametrize(
    ("source", "factory", "reason"),
    [
        ("import no_such_package_at_all\n", "make", "No module named"),
        ("syntax error\n", "make", "SyntaxError"),
        ("", "make", "no attribute 'make'"),
        ("def make():\n    return None\n", "make", "num_classes"),
        ("def make(num_classes):\n    return 3\n", "make", "returned a int"),
        (
            "from torch import nn\ndef make(num_classes):\n    return nn.Linear(3, 10)\n",
            "make",
            "no linear layer or convolution with 5 outputs",
        ),
    ],
)
def test_a_factory_that_gives_no_network_is_wrong_input(
    own_module, source: str, factory: str, reason: str
) -> None:
    with pytest.raises(InputError, match=r"model\.name") as caught:
        build(f"{own_module(source)}:{factory}", classes=5)
    assert reason in str(caught.value)


def test_a_network_needs_a_class() -> None:
    with pytest.raises(InputError, match="at least one class, not 0"):
        build("digits_resnet", classes=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_listed_network_is_silenced_by_its_head_alone(name: str) -> None:
    network = build(name, classes=7)
    module = network.module.eval()
    frames = [16] if network.takes == "clips" else []
    sample = torch.rand(1, 3, *frames, network.input_size, network.input_size)
    with torch.no_grad():
        for parameter in module.get_submodule(network.head).parameters():
            parameter.zero_()
        assert torch.equal(module(sample), torch.zeros(1, 7))
