"""Weights from files: read without running code, fitted name by name, written again."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from atcon.errors import InputError

WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network", "weights")
"""Keys under which training programs keep the weights of a checkpoint."""

PREFIXES = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.")
"""What wrappers (DistributedDataParallel, Lightning, torch.compile, ...) put before each name."""

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Auxiliary classifiers of Inception and GoogLeNet, which serve training from scratch only."""

OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
"""Names in torchvision's published files that its networks no longer use."""

_COUNT = "num_batches_tracked"  # of BatchNorm: no weight
_LISTED = 8
_CHAIN = 8  # prefixes before one name; without an end to it, a name could go on for ever

State = dict[str, Tensor]


def _read_checkpoint(path: Path) -> Any:
    _refuse_bomb(path)
    try:
        with warnings.catch_warnings():  # of pickle protocols: the file loads, or is refused below
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: not a weights-only checkpoint: it holds Python objects, which would run code "
            "when loaded, or is not a PyTorch file. Save only the weights, "
            "torch.save(model.state_dict(), PATH), or give a .safetensors file."
        ) from error


def _refuse_bomb(path: Path) -> None:
    """PyTorch compresses nothing, so what a file unpacks to is no larger than the file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            if any(part.file_size > part.compress_size for part in parts.infolist()):
                raise ValueError("parts of it are compressed, which PyTorch does not write")


READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": load_file,
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin", ".tar"), _read_checkpoint),
}
"""How a file of each suffix is read."""


def read_weights(path: Path) -> Mapping[str, Any]:
    """Read what a weights file holds, wrappers and all, to the CPU, without running code from it.

    Raises:
        InputError: The file is missing, of an unknown kind, damaged, or would run code.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights; give 'imagenet' or an existing file")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown kind of weights; known: {', '.join(READERS)}")
    try:
        content = reader(path)
    except InputError:
        raise
    except Exception as error:  # readers of broken files raise anything
        raise InputError(f"{path}: cannot be read as weights ({error}); is it damaged?") from error
    if not isinstance(content, Mapping):
        found = type(content).__name__
        raise InputError(f"{path}: holds a {found}, not a mapping of names to tensors")
    return content


def fit_weights(
    module: nn.Module,
    content: Mapping[str, Any],
    *,
    source: str,
    head: str | None = None,
    new_head: bool = False,
    resembles: Callable[[State], str | None] = lambda _: None,
) -> None:
    """Load weights into `module`, all of them or none; `num_batches_tracked` may be missing.

    Args:
        module: Receives the weights, cast to its types.
        content: Names and tensors, possibly inside the usual wrappers and prefixes.
        source: Where they come from, for the error.
        head: The module whose weights stay as they are where `content` has none of its classes.
        new_head: They stay in any case.
        resembles: Names the network that the weights look like, for the error.

    Raises:
        InputError: Something is missing, left over, of another shape or kind, or not finite.
    """
    state = module.state_dict()
    found = _best_match(content, state)
    _require_real(found, state, source)
    if head is not None and (new_head or not _same_classes(found, state, head)):
        found = {name: value for name, value in found.items() if not _inside(name, head)}
        optional = {name for name in state if _inside(name, head)}
    else:
        optional = set()
    problems = _problems(found, state, optional)
    if problems:
        looks = resembles(found)
        hint = f" They look like {looks}: give that as the model's name." if looks else ""
        raise InputError(
            f"{source}: these weights do not fit the network.{hint}\n" + "\n".join(problems)
        )
    _require_finite(found, source)
    state.update((name, value) for name, value in found.items() if name in state)
    module.load_state_dict(state)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a file that holds every weight of `module`, its head included.

    Raises:
        InputError: As for `read_weights` and `fit_weights`.
    """
    fit_weights(module, read_weights(Path(path)), source=str(path))


def save_weights(module: nn.Module, path: str | Path) -> None:
    """Write the weights to exactly `path` as safetensors; the caller sees to atomicity.

    Raises:
        OSError: They cannot be written.
    """
    try:
        save_file({name: _own_copy(value) for name, value in module.state_dict().items()}, path)
    except SafetensorError as error:  # its own, also where the disk is full
        raise OSError(str(error)) from error


def _own_copy(tensor: Tensor) -> Tensor:
    """A contiguous CPU copy: safetensors refuses tensors that share memory, as tied weights do."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _best_match(content: Mapping[str, Any], state: Mapping[str, Any]) -> State:
    """Of all readings of a checkpoint, the one that shares most names with the network."""
    readings = [r for tensors in _unwrapped(content) for r in _unprefixed(tensors)]
    kept = [{n: v for n, v in r.items() if _expected(n, state)} for r in readings]
    return max(kept, key=lambda reading: len(reading.keys() & state.keys()), default={})


def _unwrapped(content: Mapping[str, Any]) -> Iterator[State]:
    """The tensors of every wrapper, each looked into once: one may lie in itself."""
    waiting, seen = [content], set()
    while waiting:
        content = waiting.pop(0)
        if id(content) in seen:
            continue
        seen.add(id(content))
        tensors = {_new_name(str(n)): v for n, v in content.items() if isinstance(v, Tensor)}
        if tensors:
            yield tensors
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        waiting = [*inner, *waiting]


def _unprefixed(tensors: State, most: int = _CHAIN) -> Iterator[State]:
    """The tensors as named, and without each chain of prefixes that some of them carry."""
    yield tensors
    for prefix in PREFIXES if most else ():
        inner = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        if inner:
            yield from _unprefixed(inner, most - 1)


def _new_name(name: str) -> str:
    for pattern, replacement in OLD_NAMES:
        name = pattern.sub(replacement, name)
    return name


def _expected(name: str, state: Mapping[str, Any]) -> bool:
    return name in state or not name.startswith(AUXILIARY)


def _inside(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")


def _same_classes(found: State, state: Mapping[str, Any], head: str) -> bool:
    weight = found.get(f"{head}.weight")
    return weight is not None and weight.shape[:1] == state[f"{head}.weight"].shape[:1]


def _problems(found: State, state: Mapping[str, Any], optional: set[str]) -> list[str]:
    """One line for each kind of misfit: missing, unexpected and wrongly shaped tensors."""
    missing = [
        f"{name} {list(value.shape)}"
        for name, value in state.items()
        if name not in found and name not in optional and not name.endswith(_COUNT)
    ]
    unexpected = [
        f"{name} {list(value.shape)}"
        for name, value in found.items()
        if name not in state and not name.endswith(_COUNT)
    ]
    shapes = [
        f"{name} {list(found[name].shape)} in the file, {list(value.shape)} in the network"
        for name, value in state.items()
        if name in found and found[name].shape != value.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "wrong shape": shapes}
    return [_line(kind, entries) for kind, entries in kinds.items() if entries]


def _line(kind: str, entries: list[str]) -> str:
    shown = ", ".join(entries[:_LISTED])
    rest = f", and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
    return f"  {kind} ({len(entries)}): {shown}{rest}"


def _require_real(found: State, state: State, source: str) -> None:
    """Refuse what would lose a part, or all of it, where it is copied into the network."""
    broken = [
        f"{name} {value.dtype}"
        for name, value in found.items()
        if not _is_dense(value)
        or (name in state and state[name].is_floating_point() and not value.is_floating_point())
    ]
    if broken:
        line = _line("another kind", broken)
        raise InputError(f"{source}: weights must be dense tensors of real numbers\n{line}")


def _is_dense(value: Tensor) -> bool:
    special = value.is_nested or value.is_quantized or value.is_meta
    return not special and value.layout is torch.strided


def _is_finite(value: Tensor) -> bool:
    comparable = value.float() if value.is_floating_point() else value  # some kinds are not
    return bool(torch.isfinite(comparable).all())


def _require_finite(found: State, source: str) -> None:
    broken = [name for name, value in found.items() if not _is_finite(value)]
    if broken:
        line = _line("not finite", broken)
        raise InputError(f"{source}: weights must be finite numbers; is the file damaged?\n{line}")
