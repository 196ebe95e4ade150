"""Promise 10: a hostile checkpoint is refused by its name and its cause, and runs no code."""

import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import FAST, Canary
from pipeline import atcon, content_of, sets
from run_folder import make_run
from safetensors.torch import save

from atcon.data.clip_files import clip_bytes, read_clip
from atcon.errors import BadVideoError, InputError
from atcon.models import build, load_weights
from atcon.models.weights import read_weights

CLASSES = 10
STEM = "stem.conv.weight"

State = dict[str, torch.Tensor]


def state(classes: int = CLASSES) -> State:
    return build("digits_resnet", classes=classes, seed=1).module.state_dict()


def saved(content: object, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def headed(header: bytes | dict, body: bytes = b"", claim: int | None = None) -> bytes:
    """A safetensors file of this header, which may claim another length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claim is None else claim) + text + body


def tensor(begin: int, end: int) -> dict:
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


def in_itself() -> dict:
    content: dict = {}
    content["state_dict"] = content["model"] = content
    return content


def compressed(content: bytes) -> bytes:
    """The same zip of PyTorch, its parts deflated, as PyTorch never writes them."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as parts,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for part in parts.infolist():
            made.writestr(part.filename, parts.read(part))
    return packed.getvalue()


CHECKPOINTS: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "pickle with code": (
        ".pt", lambda canary: saved({"state_dict": state(), "hook": Canary(canary)}), "run code",
    ),
    "bare pickle with code": (".pth", lambda canary: pickle.dumps(Canary(canary)), "run code"),
    "legacy pickle with code": (
        ".ckpt",
        lambda canary: saved([Canary(canary)], _use_new_zipfile_serialization=False),
        "run code",
    ),
    "pickle called safetensors": (
        ".safetensors", lambda canary: pickle.dumps(Canary(canary)), "cannot be read",
    ),
    "huge header": (".safetensors", lambda _: headed(b"{}", claim=2**62), "cannot be read"),
    "header beyond the file": (".safetensors", lambda _: headed(b"{}", claim=4096), "cannot be"),
    "header that is no JSON": (".safetensors", lambda _: headed(b"{" * 5000), "cannot be read"),
    "overlapping tensors": (
        ".safetensors",
        lambda _: headed({"a": tensor(0, 16), "b": tensor(8, 24)}, bytes(24)),
        "cannot be read",
    ),
    "tensor beyond the file": (
        ".safetensors", lambda _: headed({"a": tensor(0, 4000)}, bytes(16)), "cannot be read",
    ),
    "negative offset": (
        ".safetensors", lambda _: headed({"a": tensor(-16, 0)}, bytes(16)), "cannot be read",
    ),
    "truncated": (".safetensors", lambda _: save(state())[:-100], "cannot be read"),
    "truncated zip": (".pt", lambda _: saved(state())[:-100], "cannot be read|not a weights-only"),
    "empty": (".pt", lambda _: b"", "cannot be read"),
    "bomb": (".pt", lambda _: compressed(saved({STEM: torch.zeros(10**6)})), "compressed"),
    "wrong shape": (".pt", lambda _: saved({**state(), STEM: torch.zeros(2, 2)}), "wrong shape"),
    "endless view": (
        ".pt", lambda _: saved({**state(), "x": torch.zeros(1).expand(10**6, 10**6)}), "unexpected",
    ),
    "another network": (".safetensors", lambda _: save({"x": torch.zeros(2)}), "do not fit"),
    "sparse": (".pt", lambda _: saved({**state(), STEM: state()[STEM].to_sparse()}), "dense"),
    "complex": (".pt", lambda _: saved({**state(), STEM: state()[STEM] * 1j}), "real numbers"),
    "whole numbers": (".pt", lambda _: saved({**state(), STEM: state()[STEM].int()}), "another k"),
    "without content": (
        ".pt", lambda _: saved({**state(), STEM: torch.empty(16, 3, 3, 3, device="meta")}), "dense",
    ),
    "not finite": (".pt", lambda _: saved({**state(), STEM: state()[STEM] / 0}), "not finite"),
    "names that are numbers": (".pt", lambda _: saved({1: torch.zeros(2)}), "do not fit"),
    "a mapping in itself": (".pt", lambda _: saved(in_itself()), "do not fit"),
    "a name without an end": (
        ".pt", lambda _: saved({**state(), "module." * 4000: torch.zeros(1)}), "unexpected",
    ),
    "a list": (".pt", lambda _: saved([torch.zeros(2)]), "holds a list"),
}  # fmt: skip
"""The suffix of the file, its content (given where code would leave a mark), and what is said."""


def written(name: str, folder: Path) -> tuple[Path, Path]:
    suffix, make, _ = CHECKPOINTS[name]
    path, canary = folder / f"hostile{suffix}", folder / "ran"
    path.write_bytes(make(canary))
    return path, canary


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_hostile_weights_are_refused_by_name_and_cause_and_change_nothing(name, tmp_path):
    path, canary = written(name, tmp_path)
    module = build("digits_resnet", classes=CLASSES, seed=2).module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(InputError, match=CHECKPOINTS[name][2]) as refused:
        load_weights(module, path)
    assert str(path) in str(refused.value)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not canary.exists()


def test_the_canary_would_have_sung(tmp_path):
    path, canary = written("bare pickle with code", tmp_path)
    pickle.loads(path.read_bytes())  # noqa: S301 - the proof that it could have run
    assert canary.exists()


def mostly_slow(names: Iterable[str], *default: str) -> list[object]:
    return [n if n in default else pytest.param(n, marks=pytest.mark.slow) for n in names]


COMMANDS = {
    "check": lambda path: ("check", "digits_resnet", "--weights", path, "--no-cost"),
    "run": lambda path: ("run", "digits", *sets(f"model.weights={path}"), "--out", "run"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "name",
    mostly_slow(("pickle with code", "overlapping tensors", "whole numbers"), "pickle with code"),
)
def test_a_command_that_is_given_hostile_weights_ends_with_2(command, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, canary = written(name, tmp_path)
    before = content_of(tmp_path)
    ended = atcon(*COMMANDS[command](path))
    assert ended.code == 2, ended
    assert str(path) in ended.err
    assert content_of(tmp_path) == before
    assert not canary.exists()


def damaged(whole: bytes, draw: np.random.Generator) -> bytes:
    """One, three or ten bytes are others, most of them near the start, where the structure is."""
    content = bytearray(whole)
    for _ in range(draw.choice((1, 1, 3, 10))):
        most = min(len(content), 1500) if draw.random() < 0.6 else len(content)
        content[draw.integers(most)] = draw.integers(256)
    return bytes(content)


def outcome(path: Path) -> str:
    try:
        read_weights(path)
    except InputError as error:
        return "refused" if str(path) in str(error) else "not named"
    return "read"


@pytest.mark.parametrize("mutations", [60, pytest.param(5001, marks=pytest.mark.slow)])
def test_no_damage_of_single_bytes_is_more_than_wrong_input(mutations, tmp_path):
    small = {f"layer.{place}.weight": torch.randn(3, 4) for place in range(5)}
    files = {
        "zip.pt": saved({"state_dict": small, "epoch": 3}),
        "old.pt": saved(small, _use_new_zipfile_serialization=False),
        "new.safetensors": save(small),
    }
    ended = {"read": 0, "refused": 0}
    for name, whole in files.items():
        for seed in range(mutations // len(files)):
            (tmp_path / name).write_bytes(damaged(whole, np.random.default_rng(seed)))
            ended[outcome(tmp_path / name)] += 1
    assert ended["refused"] > mutations // 3
    assert sum(ended.values()) == mutations


STAGE_FILES: dict[str, Callable[[Path], bytes]] = {
    "wrong classes": lambda _: save(state(CLASSES + 1)),
    "wrong shape": lambda _: save({**state(), STEM: torch.zeros(2)}),
    "truncated": lambda _: save(state())[:-100],
    "pickle with code": lambda canary: pickle.dumps(Canary(canary)),
}


@pytest.mark.parametrize("name", mostly_slow(STAGE_FILES, "wrong classes"))
def test_hostile_weights_in_a_run_folder_are_refused_by_whoever_opens_it(
    name, tiny_run, own_picture, tmp_path
):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    path, canary = run / "checkpoints" / "consistency.safetensors", tmp_path / "ran"
    path.write_bytes(STAGE_FILES[name](canary))
    before = content_of(tmp_path)
    for command in (
        ("evaluate", run),
        ("attend", run, own_picture, "--out", tmp_path / "seen"),
        ("monitor", run, own_picture.parent, "--out", tmp_path / "watched"),
    ):
        ended = atcon(*command, "--quiet")
        assert ended.code == 2, ended
        assert str(path) in ended.err
    assert content_of(tmp_path) == before
    assert not canary.exists()


def spoiled(change: Callable[[dict], object]) -> Callable[[dict, Path], bytes]:
    def make(content: dict, _canary: Path) -> bytes:
        change(content)
        return saved(content)

    return make


def other_moments(content: dict) -> None:
    for moments in content["optimizer"]["state"].values():
        moments["exp_avg"] = torch.zeros(7)


LAST: dict[str, Callable[[dict, Path], bytes]] = {
    "pickle with code": lambda content, canary: saved({**content, "hook": Canary(canary)}),
    "truncated": lambda content, _: saved(content)[:-100],
    "empty": lambda *_: b"",
    "a list": lambda *_: saved([1]),
    "without a stage": spoiled(lambda content: content.pop("stage")),
    "without the model": spoiled(lambda content: content.pop("model")),
    "wrong shape": spoiled(lambda content: content["model"].update({STEM: torch.zeros(2)})),
    "wrong classes": spoiled(lambda content: content["model"].update(state(CLASSES + 1))),
    "kept weights of another network": spoiled(
        lambda content: content["selection"].update(weights={"x": torch.zeros(1)})
    ),
    "moments of another network": spoiled(other_moments),
}


@pytest.mark.parametrize("name", mostly_slow(LAST, "pickle with code"))
def test_a_hostile_last_checkpoint_is_not_resumed_from(name, unfinished_run, tmp_path):
    run, canary = Path(shutil.copytree(unfinished_run, tmp_path / "run")), tmp_path / "ran"
    last = run / "checkpoints" / "last.pt"
    last.write_bytes(LAST[name](torch.load(last, weights_only=True), canary))
    before = content_of(run / "checkpoints")
    ended = atcon("run", "digits", *sets(*FAST), "--out", run, "--resume", "--quiet")
    assert ended.code == 2, ended
    assert f"{last}: cannot resume from this file" in ended.err
    assert content_of(run / "checkpoints") == before
    assert not canary.exists()


def arrays(**content: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)
    return buffer.getvalue()


def claimed() -> bytes:
    """An array whose header says that it has a billion rows."""
    whole, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(
        whole, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**9, 3)}
    )
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("image.npy", whole.getvalue() + bytes(100))
    return buffer.getvalue()


GALLERIES: dict[str, Callable[[Path], bytes]] = {
    "objects with code": lambda canary: arrays(image=np.array([Canary(canary)], dtype=object)),
    "pickle with code": lambda canary: pickle.dumps(Canary(canary)),
    "truncated": lambda _: arrays(image=np.zeros((8, 8, 3), np.uint8))[:-40],
    "empty": lambda _: b"",
    "bomb": lambda _: arrays(image=np.zeros((1024, 1024, 1025), np.uint8)),
    "claims": lambda _: claimed(),
    "other arrays": lambda _: arrays(image=np.zeros((8, 8), np.float32)),
}


@pytest.fixture(scope="module")
def shown_run(tmp_path_factory) -> Path:
    """A run folder with a gallery of two."""
    return make_run(tmp_path_factory.mktemp("shown") / "run", entries=2)


@pytest.mark.parametrize("name", mostly_slow(GALLERIES, *GALLERIES.keys() - {"bomb"}))
def test_a_hostile_gallery_is_refused(name, shown_run, tmp_path):
    run, canary = Path(shutil.copytree(shown_run, tmp_path / "run")), tmp_path / "ran"
    path = run / "gallery" / "001.npz"
    path.write_bytes(GALLERIES[name](canary))
    before = content_of(tmp_path)
    ended = atcon("report", run)
    assert ended.code == 2, ended
    assert str(path) in ended.err
    assert content_of(tmp_path) == before
    assert not canary.exists()


PIXELS = torch.zeros(3, 2, 4, 4, dtype=torch.uint8)


def clip_of(pixels: torch.Tensor, about: str) -> bytes:
    return save({"pixels": pixels}, {"atcon": about})


CLIPS: dict[str, Callable[[Path], bytes]] = {
    "pickle with code": lambda canary: pickle.dumps(Canary(canary)),
    "empty": lambda _: b"",
    "truncated": lambda _: clip_bytes(PIXELS, "key")[:-10],
    "huge header": lambda _: headed(b"{}", claim=2**62),
    "no description": lambda _: save({"pixels": PIXELS}),
    "a description that is a list": lambda _: clip_of(PIXELS, "[]"),
    "a description without hashes": lambda _: clip_of(PIXELS, "{}"),
    "a description without an end": lambda _: clip_of(PIXELS, "[" * 100_000),
    "no pixels": lambda _: save({"other": PIXELS}),
    "a hash of other pixels": lambda _: clip_of(PIXELS, '{"key": "k", "pixels": "0"}'),
    "other numbers": lambda _: clip_of(PIXELS.bfloat16(), '{"key": "k", "pixels": "0"}'),
    "another shape": lambda _: clip_bytes(PIXELS[0], "key"),
}


@pytest.mark.parametrize("name", CLIPS)
def test_a_hostile_clip_is_refused_and_can_be_passed_over(name, tmp_path):
    path, canary = tmp_path / "clip.safetensors", tmp_path / "ran"
    path.write_bytes(CLIPS[name](canary))
    with pytest.raises(BadVideoError) as refused:
        read_clip(path)
    assert str(path) in str(refused.value)
    assert refused.value.reason == "damaged"
    assert not canary.exists()
