"""One clip in one file: pixels as they were cut, and what proves that they still are."""

import hashlib
import json
from pathlib import Path

import torch
from jaxtyping import UInt8
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from atcon.errors import BadVideoError

ClipPixels = UInt8[Tensor, "3 frame height width"]

CLIP_SUFFIX = ".safetensors"

_ABOUT = "atcon"  # one entry: safetensors writes several in no fixed order


def clip_bytes(pixels: ClipPixels, key: str) -> bytes:
    """Give the content of a clip's file: the same for the same pixels and key.

    Args:
        pixels: uint8 RGB, `[3, frame, height, width]`.
        key: What the clip was cut from and how; `clip_key` reads it again.
    """
    about = {"key": key, "pixels": _digest(pixels)}
    return save({"pixels": pixels.contiguous()}, {_ABOUT: json.dumps(about, sort_keys=True)})


def read_clip(path: str | Path) -> ClipPixels:
    """Read a clip, uint8 RGB `[3, frame, height, width]`, to the bit as it was cut.

    Raises:
        BadVideoError: The file is missing, damaged, or no clip.
    """
    return _read(Path(path))[0]


def clip_key(path: Path) -> str | None:
    """Give the key of a whole clip; None where there is no file, or not a whole clip."""
    try:
        return _read(path)[1]
    except BadVideoError:
        return None


def _read(path: Path) -> tuple[ClipPixels, str]:
    try:
        with safe_open(path, framework="pt") as file:
            pixels, about = file.get_tensor("pixels"), json.loads(file.metadata()[_ABOUT])
        key, digest = str(about["key"]), about["pixels"]
    except FileNotFoundError:
        raise BadVideoError("missing", f"{path}: no such clip") from None
    except Exception as error:  # readers of broken files raise anything
        raise BadVideoError("damaged", f"{path}: not a clip of atcon clips ({error})") from error
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or len(pixels) != 3 or not pixels.numel():
        found = f"{pixels.dtype} {list(pixels.shape)}"
        raise BadVideoError("damaged", f"{path}: not a clip of atcon clips (it holds {found})")
    if _digest(pixels) != digest:
        raise BadVideoError("damaged", f"{path}: its pixels are not those that were written")
    return pixels, key


def _digest(pixels: ClipPixels) -> str:
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()
