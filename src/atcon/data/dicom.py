"""Single DICOM frames: rescaled, windowed and inverted as their headers say, and the patient.

The pixels of a grey image go through the modality transformation (rescale slope and intercept, or a
table), then through the first window of the header (PS3.3 C.11.2: LINEAR, LINEAR_EXACT, SIGMOID) or
its VOI table, to 0..255; MONOCHROME1 is inverted. Without window and table, 8-bit pixels stay as
they are, and others are stretched from their smallest to their largest value, without padding.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from atcon.errors import BadImageError, InputError

SUFFIXES = frozenset({".dcm", ".dicom"})


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is one, in its name or where DICOM files do."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def read_dicom(path: Path, limit: int) -> np.ndarray:
    """Give the pixels as uint8, `[H, W, 3]`.

    Args:
        path: The file.
        limit: How many pixels are too many.

    Raises:
        BadImageError: It holds no single frame of pixels that can be decoded; other errors of the
            decoder are passed on.
        InputError: pydicom is not installed.
    """
    data = _opened(path)
    _check_pixels(data, limit)
    _check_decoder(data.file_meta.TransferSyntaxUID)
    stored = data.pixel_array
    kind = str(data.get("PhotometricInterpretation", ""))
    if kind in {"MONOCHROME1", "MONOCHROME2"}:
        grey = _bytes(_grey(data, stored))
        return np.repeat((255 - grey if kind == "MONOCHROME1" else grey)[..., None], 3, axis=2)
    if kind == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut  # noqa: PLC0415 - an extra

        colours = apply_color_lut(stored, data)[..., :3]
        return _bytes(colours / np.iinfo(colours.dtype).max)
    if stored.ndim == 3 and stored.shape[2] == 3:
        return _bytes(stored / (2 ** int(data.BitsStored) - 1))
    raise BadImageError(
        f"its photometric interpretation is {kind!r}, which is neither grey nor RGB"
    )


def dicom_size(path: Path) -> tuple[int, int]:
    """Give width and height, from the header alone."""
    data = _opened(path, ["Rows", "Columns"])
    return int(data.Columns), int(data.Rows)


def patient_of(path: Path) -> str | None:
    """Give the PatientID of the header, or None where it is empty.

    Raises:
        BadImageError: The file cannot be read.
        InputError: pydicom is not installed.
    """
    try:
        return str(_opened(path, ["PatientID"]).get("PatientID", "")).strip() or None
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # as in `read_image`: broken files raise anything
        raise BadImageError(f"{path}: cannot be read ({error})") from error


def _opened(path: Path, tags: list[str] | None = None) -> Any:
    """Read a file, or these tags of its header."""
    if find_spec("pydicom") is None:
        raise InputError("a DICOM file needs pydicom: pip install 'atcon[dicom]'")
    from pydicom import dcmread  # noqa: PLC0415 - an extra
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415

    try:
        if tags is None:
            return dcmread(path)
        return dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
    except InvalidDicomError:
        raise BadImageError("not a DICOM file, or an empty one") from None
    except FileNotFoundError:
        raise BadImageError("no such file") from None


def _check_pixels(data: Any, limit: int) -> None:
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise BadImageError(
            f"it has {frames} frames, and only single frames are read; save the one that is meant "
            f"as a file of its own"
        )
    if "PixelData" not in data:
        floating = "FloatPixelData" in data or "DoubleFloatPixelData" in data
        what = "floating-point pixels, which have no defined range" if floating else "no pixels"
        raise BadImageError(f"it holds {what}")
    if int(data.Rows) * int(data.Columns) > limit:
        raise BadImageError(f"{data.Columns} x {data.Rows} pixels exceed the limit of {limit}")


def _check_decoder(syntax: Any) -> None:
    from pydicom.pixels import get_decoder  # noqa: PLC0415 - an extra

    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise BadImageError(
            f"it is compressed as {syntax.name!r}, and no decoder of that is installed; "
            f"pip install pylibjpeg 'pylibjpeg-libjpeg' 'pylibjpeg-openjpeg', or save it "
            f"uncompressed"
        )


def _grey(data: Any, stored: np.ndarray) -> np.ndarray:
    """Give the grey values before any inversion: 0 and below are black, 1 and above white."""
    from pydicom.pixels import apply_modality_lut  # noqa: PLC0415 - an extra

    values: np.ndarray = np.asarray(apply_modality_lut(stored, data), dtype=np.float64)
    centre, width = _first(data.get("WindowCenter")), _first(data.get("WindowWidth"))
    if not np.isfinite([values.min(), values.max(), centre or 0, width or 0]).all():
        raise BadImageError("its header rescales or windows to values that are not finite")
    if centre is not None and width is not None:
        return _windowed(values, centre, width, str(data.get("VOILUTFunction") or "LINEAR"))
    if data.get("VOILUTSequence"):
        return _looked_up(values, data.VOILUTSequence[0])
    bits = int(data.BitsStored)
    if bits <= 8 and np.array_equal(values, stored) and values.min() >= 0:
        values /= 2**bits - 1
        return values
    return _stretched(values, _padding(data, stored))


def _first(value: Any) -> float | None:
    """Several windows are several views; the first is shown."""
    if value is None or value == "":
        return None
    several = hasattr(value, "__iter__")
    return float(value[0] if several else value) if not several or len(value) else None


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise BadImageError(f"its window of width {width:g} shows nothing")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    if function != "LINEAR":
        raise BadImageError(f"its window function {function!r} is unknown")
    offset = values - (centre - 0.5)
    return offset / (width - 1) + 0.5 if width > 1 else (offset > 0).astype(np.float64)


def _looked_up(values: np.ndarray, table: Any) -> np.ndarray:
    """Look values up; pydicom's own `apply_voi` goes wrong for tables of 8 bits (3.0.2)."""
    entries, first, bits = map(int, table.LUTDescriptor)
    content = table.LUTData
    if isinstance(content, bytes):
        content = np.frombuffer(content, "<u2" if len(content) >= 2 * (entries or 2**16) else "u1")
    shown: np.ndarray = np.asarray(content, dtype=np.float64) / (2**bits - 1)
    places = np.clip(np.rint(values).astype(np.int64) - first, 0, len(shown) - 1)
    return np.asarray(shown[places])


def _padding(data: Any, stored: np.ndarray) -> np.ndarray:
    """Which pixels lie outside of what was imaged."""
    value = data.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    low, high = sorted((int(value), int(data.get("PixelPaddingRangeLimit", value))))
    return (stored >= low) & (stored <= high)


def _stretched(values: np.ndarray, padding: np.ndarray) -> np.ndarray:
    shown = values[~padding]
    if not shown.size or shown.min() == shown.max():
        return np.zeros(values.shape)
    low, high = float(shown.min()), float(shown.max())
    return (values - low) / (high - low)


def _bytes(fractions: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.floor(255 * np.clip(fractions, 0, 1) + 0.5)
    return rounded.astype(np.uint8)
