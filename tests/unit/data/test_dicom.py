import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels import apply_voi_lut, apply_windowing
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from atcon.data import Reader, folder, load, read_image
from atcon.data.images import image_size
from atcon.errors import BadImageError, InputError

RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


def dataset(pixels: np.ndarray, bits: int | None = None, **elements) -> FileDataset:
    """A file of these pixels: grey, or RGB where they have three channels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["atcon"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    return data


@pytest.fixture
def write(tmp_path):
    def write_file(data: FileDataset, name: str = "a.dcm") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(path, enforce_file_format=True)
        return path

    return write_file


def grey(path) -> np.ndarray:
    pixels = read_image(path).numpy()
    assert np.array_equal(pixels[0], pixels[1])
    assert np.array_equal(pixels[0], pixels[2])
    return pixels[0]


def to_byte(fractions) -> np.ndarray:
    return np.floor(255 * np.clip(fractions, 0, 1) + 0.5).astype(np.uint8)


def test_8_bit_pixels_without_a_window_stay_as_they_are(write):
    pixels = np.arange(40, 120, dtype=np.uint8).reshape(8, 10)
    assert np.array_equal(grey(write(dataset(pixels))), pixels)
    assert image_size(write(dataset(pixels))) == (10, 8)


def test_deeper_pixels_without_a_window_are_stretched_to_their_own_range(write):
    pixels = RAMP // 2 + 100
    expected = to_byte((pixels - pixels.min()) / float(pixels.max() - pixels.min()))
    shown = grey(write(dataset(pixels, bits=12)))
    assert np.array_equal(shown, expected)
    assert (shown.min(), shown.max()) == (0, 255)
    assert not grey(write(dataset(np.full((4, 4), 700, np.uint16), bits=12))).any()


def test_padding_is_no_part_of_the_range(write):
    pixels = RAMP.astype(np.int16) + 1000
    pixels[0] = -2000
    shown = grey(write(dataset(pixels, PixelPaddingValue=-2000)))
    inside = pixels[1:]
    assert not shown[0].any()
    assert np.array_equal(
        shown[1:], to_byte((inside - inside.min()) / (float(inside.max()) - inside.min()))
    )


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1500, "WindowWidth": 1000}])
def test_monochrome1_is_the_negative_of_monochrome2(write, window):
    plain = grey(write(dataset(RAMP, bits=12, **window)))
    turned = grey(write(dataset(RAMP, 12, PhotometricInterpretation="MONOCHROME1", **window)))
    assert np.array_equal(turned, 255 - plain)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500), (0, 60)])
def test_the_window_is_that_of_the_standard_after_the_rescaling(write, function, centre, width):
    data = dataset(
        RAMP, 12, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=centre, WindowWidth=width,
        VOILUTFunction=function,
    )  # fmt: skip
    units = RAMP * 2.0 - 1024
    low, high = -1024.0, 4095 * 2.0 - 1024
    reference = (apply_windowing(units, data) - low) / (high - low)  # pydicom's own, to its range
    assert np.abs(grey(write(data)).astype(int) - to_byte(reference)).max() <= 1
    if function == "LINEAR":
        expected = to_byte((units - (centre - 0.5)) / (width - 1) + 0.5)
        assert np.array_equal(grey(write(data)), expected)


def test_a_window_of_width_one_is_a_threshold(write):
    shown = grey(write(dataset(RAMP, 12, WindowCenter=100.5, WindowWidth=1)))
    assert np.array_equal(shown, np.where(RAMP > 100, 255, 0))


def test_of_several_windows_the_first_is_shown(write):
    several = dataset(RAMP, 12, WindowCenter=[500, 3000], WindowWidth=[400, 20])
    single = dataset(RAMP, 12, WindowCenter=500, WindowWidth=400)
    assert np.array_equal(grey(write(several, "1.dcm")), grey(write(single, "2.dcm")))


@pytest.mark.parametrize(("bits", "vr"), [(8, "US"), (12, "US"), (12, "OW")])
def test_a_voi_table_is_applied_where_there_is_no_window(write, bits, vr):
    item, table = pydicom.Dataset(), (4095 - np.arange(4096)) // 2 ** (12 - bits)
    item.LUTDescriptor = [4096, 0, bits]
    item.LUTData = table.tolist() if vr == "US" else table.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", vr
    data = dataset(RAMP, 12, VOILUTSequence=[item])
    shown = grey(write(data))
    assert np.array_equal(shown, to_byte(table[RAMP] / (2**bits - 1)))
    if bits > 8:
        assert np.array_equal(shown, to_byte(apply_voi_lut(RAMP, data) / 4095))


def test_colour_is_read_as_it_is(write):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    assert np.array_equal(read_image(write(dataset(pixels))).numpy(), pixels.transpose(2, 0, 1))


def test_ybr_becomes_rgb(write):
    pixels = np.tile(np.array([81, 90, 240], np.uint8), (4, 4, 1))  # red, as JPEG counts
    data = dataset(pixels, PhotometricInterpretation="YBR_FULL")
    red = read_image(write(data))[:, 0, 0].tolist()
    assert np.abs(np.subtract(red, [238, 14, 14])).max() <= 2


def test_a_palette_gives_colours(write):
    indices = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    data = dataset(indices, PhotometricInterpretation="PALETTE COLOR")
    for at, name in enumerate(("Red", "Green", "Blue")):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 16])
        values = np.array([257 * (10 + at), 257 * (200 + at)], dtype="<u2")
        setattr(data, f"{name}PaletteColorLookupTableData", values.tobytes())
    assert read_image(write(data)).permute(1, 2, 0)[0].tolist() == [[10, 11, 12], [200, 201, 202]]


def test_a_compressed_file_is_read_where_a_decoder_is_there(write):
    data = dataset(RAMP, 12, WindowCenter=2048, WindowWidth=4096)
    plain = grey(write(data))
    data.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(grey(write(data, "rle.dcm")), plain)


def compressed_as(syntax) -> FileDataset:
    data = dataset(RAMP, 12)
    data.PixelData = pydicom.encaps.encapsulate([b"\0" * 10])
    data.file_meta.TransferSyntaxUID = syntax
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dataset(RAMP, 12, NumberOfFrames=16), "it has 16 frames, and only single frames are read"),
        (compressed_as(MPEG2MPML), "compressed as 'MPEG2 Main Profile / Main Level', and no dec"),
        (dataset(RAMP, 12, WindowCenter=3, WindowWidth=0), "window of width 0 shows nothing"),
        (dataset(RAMP, 12, WindowCenter=3, WindowWidth=9, VOILUTFunction="ODD"), "'ODD' is unknow"),
        (dataset(RAMP, 12, PhotometricInterpretation="HSV"), "'HSV', which is neither grey nor"),
        (dataset(RAMP, 12, PixelData=RAMP.tobytes()[:-100]), r"cannot be decoded \(.*bytes"),
        (dataset(RAMP, 12, Rows=60_000, Columns=60_000), "60000 x 60000 pixels exceed the limit"),
    ],
)
def test_what_cannot_be_shown_is_refused_by_name(write, data, message):
    path = write(data)
    with pytest.raises(BadImageError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_decoder_is_named(write, monkeypatch):
    class Missing:
        is_available = False

    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda syntax: Missing)
    with pytest.raises(BadImageError, match=r"'JPEG-LS Lossless .*no decoder of that is installed"):
        read_image(write(compressed_as(JPEGLSLossless)))


def test_a_file_without_pixels_is_refused(write):
    data = dataset(RAMP, 12)
    del data.PixelData
    with pytest.raises(BadImageError, match="it holds no pixels"):
        read_image(write(data))


@pytest.mark.parametrize("content", [b"", b"no DICOM file", b"\0" * 128 + b"DICM"])
def test_other_files_under_that_name_are_refused(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=r"a\.dcm: "):
        read_image(path)
    with pytest.raises(BadImageError, match=r"b\.dcm: no such file"):
        read_image(tmp_path / "b.dcm")


def test_a_file_without_a_known_suffix_is_known_by_its_content(write):
    data = dataset(np.full((4, 6), 77, np.uint8))
    assert np.array_equal(grey(write(data, "IM.0001")), data.pixel_array)
    assert image_size(write(data, "IM.0001")) == (6, 4)


def test_without_pydicom_the_error_says_what_to_install(write, monkeypatch):
    path = write(dataset(RAMP, 12))
    monkeypatch.setattr("atcon.data.dicom.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"a\.dcm: a DICOM file needs pydicom: pip") as caught:
        read_image(path)
    assert not isinstance(caught.value, BadImageError)
    assert "pydicom" in sys.modules


def test_class_folders_hold_dicom_files_with_their_patients(write, tmp_path):
    for name in ("ill", "well"):
        for index in range(8):
            data = dataset(RAMP, 12, PatientID=f"P{index // 2}{name}")
            write(data, f"{name}/{index}.dcm")
    made = folder(tmp_path, group="patient")
    assert {e.name: e.group for e in made.pool}.items() <= {
        f"{name}/{index}.dcm": f"P{index // 2}{name}" for name in ("ill", "well")
        for index in range(8)
    }.items()  # fmt: skip
    assert not {e.group for e in made.pool} & {e.group for e in made.test}
    assert load(Reader(made, 8), made.pool).pixels.shape == (len(made.pool), 3, 8, 8)


def test_a_file_without_its_patient_is_refused_and_a_broken_one_follows_the_policy(write, tmp_path):
    for name in ("ill", "well"):
        for index in range(4):
            write(dataset(RAMP, 12, PatientID=f"P{index}{name}"), f"{name}/{index}.dcm")
    (tmp_path / "ill" / "broken.dcm").write_bytes(b"broken")
    made = folder(tmp_path, group="patient")
    assert [name for name, _ in made.skipped] == ["ill/broken.dcm"]
    with pytest.raises(BadImageError, match=r"broken\.dcm: not a DICOM file"):
        folder(tmp_path, group="patient", on_bad_image="error")
    write(dataset(RAMP, 12), "ill/none.dcm")
    with pytest.raises(InputError, match=r"says nothing of 1 files \(ill/none\.dcm\)"):
        folder(tmp_path, group="patient")
