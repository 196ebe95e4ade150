"""Weights from files: each usual wrapping is read, no code runs, misfits are listed."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from atcon.errors import InputError
from atcon.models import build, load_weights, save_weights

SOURCE_CLASSES = 5


@pytest.fixture(scope="module")
def source() -> dict[str, torch.Tensor]:
    return build("digits_resnet", classes=SOURCE_CLASSES, seed=1).module.state_dict()


def built(path: Path, classes: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    return build("digits_resnet", classes=classes, weights=path, seed=seed).module.state_dict()


def assert_all_but_the_head(loaded: dict, source: dict) -> None:
    for name, value in source.items():
        assert name.startswith("fc.") or torch.equal(loaded[name], value), name


WRAPPINGS = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "state_dict": s},
    "model": lambda s: {"model": s, "optimizer": {"state": {}}},
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}},
    "parallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "chain": lambda s: {"model": {f"module._orig_mod.backbone.{k}": v for k, v in s.items()}},
    "encoder and decoder": lambda s: {
        **{f"encoder.{k}": v for k, v in s.items() if not k.startswith("fc.")},
        "decoder.weight": torch.zeros(2),
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_usual_wrappers_and_prefixes_are_read(wrapping: str, source, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(WRAPPINGS[wrapping](source), path)
    assert_all_but_the_head(built(path), source)


def test_a_head_of_the_same_classes_is_loaded_and_another_is_new_and_seeded(
    source, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(source, path)
    same = built(path, classes=SOURCE_CLASSES)
    assert all(torch.equal(value, source[name]) for name, value in same.items())
    first, again, other = (built(path, classes=3, seed=seed) for seed in (2, 2, 3))
    assert first["fc.weight"].shape == (3, 64)
    assert torch.equal(first["fc.weight"], again["fc.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_loading_leaves_the_global_random_state_alone(source, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(source, path)
    before = torch.get_rng_state()
    built(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_is_cast_and_batch_counts_may_be_missing(source, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    kept = {k: v.half() for k, v in source.items() if not k.endswith("num_batches_tracked")}
    save_file(kept, path)
    loaded = built(path)
    assert loaded["stem.conv.weight"].dtype == torch.float32
    assert torch.equal(loaded["stem.conv.weight"], source["stem.conv.weight"].half().float())


def test_what_does_not_fit_is_listed_with_both_shapes_and_then_counted(
    source, tmp_path: Path
) -> None:
    broken = {k: v for k, v in source.items() if not k.startswith("stages.0.")}
    broken["stem.conv.weight"] = torch.zeros(16, 1, 3, 3)
    broken["extra.weight"] = torch.zeros(2)
    path = tmp_path / "weights.safetensors"
    save_file(broken, path)
    with pytest.raises(InputError) as caught:
        built(path)
    message = str(caught.value)
    missing = [
        k for k in source if k.startswith("stages.0.") and not k.endswith("num_batches_tracked")
    ]
    assert str(path) in message
    assert f"missing ({len(missing)}): {missing[0]} [16, 16, 3, 3]" in message
    assert f"and {len(missing) - 8} more" in message
    assert "unexpected (1): extra.weight [2]" in message
    assert "stem.conv.weight [16, 1, 3, 3] in the file, [16, 3, 3, 3] in the network" in message


def test_weights_of_another_network_are_told_whose_they_are(source, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(source, path)
    with pytest.raises(InputError, match="look like digits_resnet"):
        build("squeezenet1_1", classes=3, weights=path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_name(
    number: float, source, tmp_path: Path
) -> None:
    broken = {k: v.clone() for k, v in source.items()}
    broken["stages.1.0.bn1.running_var"][3] = number
    path = tmp_path / "weights.safetensors"
    save_file(broken, path)
    with pytest.raises(InputError, match=r"not finite \(1\): stages\.1\.0\.bn1\.running_var"):
        built(path)


class Canary:
    """Creates a file when it is unpickled, as hostile weights would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not_run(
    write, source, tmp_path: Path
) -> None:
    canary, path = tmp_path / "ran", tmp_path / "weights.pt"
    write({"state_dict": source, "hook": Canary(canary)}, path)
    with pytest.raises(InputError, match="weights-only"):
        built(path)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))  # noqa: S301 - the proof that it could have run
    assert canary.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04cut short"])
def test_a_damaged_file_is_wrong_input(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        built(path)


def test_missing_files_unknown_kinds_and_bare_tensors_are_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of weights"):
        built(tmp_path / "none.pt")
    with pytest.raises(InputError, match=r"known: \.safetensors"):
        built(Path(__file__))
    path = tmp_path / "tensor.pt"
    torch.save(torch.zeros(2), path)
    with pytest.raises(InputError, match="holds a Tensor"):
        built(path)


def test_names_of_torchvisions_old_files_are_translated(tmp_path: Path) -> None:
    network = build("densenet121", classes=2, seed=1).module.state_dict()
    old = {
        k.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): v
        for k, v in network.items()
    }
    assert old.keys() != network.keys()
    path = tmp_path / "densenet.safetensors"
    save_file(old, path)
    loaded = build("densenet121", classes=2, weights=path, seed=0).module.state_dict()
    assert all(torch.equal(value, network[name]) for name, value in loaded.items())


def test_auxiliary_classifiers_of_a_file_are_left_out(tmp_path: Path) -> None:
    network = build("googlenet", classes=2, seed=1).module.state_dict()
    path = tmp_path / "googlenet.safetensors"
    save_file({**network, "aux1.fc1.weight": torch.zeros(3)}, path)
    loaded = build("googlenet", classes=2, weights=path).module.state_dict()
    assert all(torch.equal(value, network[name]) for name, value in loaded.items())


def test_saved_weights_are_loaded_bit_by_bit(tmp_path: Path) -> None:
    path = tmp_path / "saved.safetensors"
    first, second = (build("digits_resnet", classes=4, seed=s).module for s in (1, 2))
    save_weights(first, path)
    load_weights(second, path)
    expected = first.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in second.state_dict().items())


def test_loading_is_strict_about_the_head_and_all_or_nothing(source, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(source, path)
    module = build("digits_resnet", classes=3, seed=2).module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InputError, match=r"fc\.weight \[5, 64\] in the file, \[3, 64\]"):
        load_weights(module, path)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    save_weights(tied, tmp_path / "tied.safetensors")
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    load_weights(other, tmp_path / "tied.safetensors")
    assert torch.equal(other[1].weight, tied[0].weight)
