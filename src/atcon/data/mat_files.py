"""The MATLAB files of SVHN: digits and labels, checked before anything large is read."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from atcon.errors import InputError

SIDE = 32
MAX_DIGITS = 1_000_000
"""More are refused before they are read; the largest file, `extra`, holds 531,131."""


class MatDigits(NamedTuple):
    """What one file holds.

    Attributes:
        pixels: RGB, with the digits along the last axis.
        labels: 1 to 10; 10 is the digit zero.
    """

    pixels: UInt8[np.ndarray, "32 32 3 digit"]
    labels: Int[np.ndarray, " digit"]


def read_mat(path: Path) -> MatDigits:
    """Read `X` (uint8 [32, 32, 3, N]) and `y` (N labels from 1 to 10).

    Raises:
        InputError: The file is missing, damaged, or holds something else.
    """
    from scipy.io import loadmat, whosmat  # noqa: PLC0415 - slow to import

    try:
        with warnings.catch_warnings():  # scipy warns of damage that it reads over
            warnings.simplefilter("error", UserWarning)
            sizes = {name: shape for name, shape, _ in whosmat(path, appendmat=False)}
            digits = _digits_declared(path, sizes)
            content = loadmat(path, appendmat=False, variable_names=["X", "y"])
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except NotImplementedError as error:  # HDF5, which MATLAB writes since version 7.3
        raise InputError(f"{path}: {error}; fetch SVHN's own file again") from error
    except Exception as error:  # the reader of broken files raises anything
        raise InputError(
            f"{path}: cannot be read as a MATLAB file ({error}); it is damaged or incomplete: "
            f"fetch it again"
        ) from error
    return MatDigits(_pixels(path, content, digits), _labels(path, content, digits))


def _digits_declared(path: Path, sizes: Mapping[str, Sequence[int]]) -> int:
    """Give the number of digits that the headers promise, before anything is read."""
    missing = [name for name in ("X", "y") if name not in sizes]
    if missing:
        raise InputError(
            f"{path}: holds no {' and no '.join(missing)}, but {', '.join(sizes) or 'nothing'}; it "
            f"is incomplete, or none of SVHN's cropped digits (format 2), which hold X and y"
        )
    shape = tuple(sizes["X"])
    if len(shape) != 4 or shape[:3] != (SIDE, SIDE, 3) or shape[3] == 0:
        raise InputError(f"{path}: X has the shape {list(shape)}, not [{SIDE}, {SIDE}, 3, digits]")
    if shape[3] > MAX_DIGITS:
        raise InputError(f"{path}: {shape[3]} digits exceed the limit of {MAX_DIGITS}")
    if int(np.prod(sizes["y"], dtype=object)) != shape[3]:
        raise InputError(
            f"{path}: X has {shape[3]} digits, but y has the shape {list(sizes['y'])}; "
            f"the file is damaged"
        )
    return shape[3]


def _pixels(path: Path, content: Mapping[str, Any], digits: int) -> np.ndarray:
    pixels = np.asarray(content["X"])
    if pixels.dtype != np.uint8 or pixels.shape != (SIDE, SIDE, 3, digits):
        raise InputError(
            f"{path}: X is {pixels.dtype} {list(pixels.shape)}, not uint8 "
            f"[{SIDE}, {SIDE}, 3, {digits}]"
        )
    return pixels


def _labels(path: Path, content: Mapping[str, Any], digits: int) -> np.ndarray:
    labels = np.asarray(content["y"]).reshape(-1)
    if labels.dtype.kind not in "iuf" or len(labels) != digits:
        raise InputError(f"{path}: y is {labels.dtype}, not {digits} whole numbers")
    wrong = np.flatnonzero(~np.isin(labels, np.arange(1, 11)))
    if len(wrong):
        raise InputError(
            f"{path}: {len(wrong)} of {digits} labels are not from 1 to 10, the first is "
            f"{labels[wrong[0]]:g} of digit {wrong[0]} (SVHN's label of zero is 10)"
        )
    return labels.astype(np.int64)
