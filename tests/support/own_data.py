"""Own data in every form: the same few discs, as folders, COCO, XML, a set of datasets, DICOM."""

import json
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pipeline import COLOURS, save_disc
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from scipy.io import savemat

from atcon.records import write_csv

NAMES = tuple(COLOURS)
_OBJECT = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)


def discs(root: Path, count: int = 30) -> dict[str, list[tuple[str, int, int, int, int]]]:
    """Write images of one disc each; give their boxes by file."""
    random = np.random.default_rng(0)
    return {
        f"{at:02d}.png": save_disc(root / f"{at:02d}.png", (NAMES[at % 3],), random)
        for at in range(count)
    }


def make_coco(root: Path) -> Path:
    """A COCO JSON, `labels.json`, and a patient of every two images."""
    boxes = discs(root)
    images = [
        {"id": at, "file_name": file, "width": 64, "height": 64, "patient": f"p{at // 3}"}
        for at, file in enumerate(boxes)
    ]
    annotations = [
        {
            "id": at, "image_id": at, "category_id": NAMES.index(name), "iscrowd": 0,
            "bbox": [left, top, right - left, bottom - top],
        }
        for at, ((name, left, top, right, bottom),) in enumerate(boxes.values())
    ]  # fmt: skip
    categories = [{"id": at, "name": name} for at, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "labels.json").write_text(json.dumps(content))
    return root


def make_xml(root: Path) -> Path:
    """One XML beside each image."""
    for file, found in discs(root).items():
        size = "<size><width>64</width><height>64</height></size>"
        text = "".join(_OBJECT.format(*box) for box in found)
        (root / file).with_suffix(".xml").write_text(f"<annotation>{size}{text}</annotation>")
    return root


def make_hf(root: Path) -> Path:
    """A saved set of `datasets`, undivided."""
    import datasets  # noqa: PLC0415 - an extra

    plain = root.with_name(f"{root.name}-images")
    rows = {
        "image": [{"bytes": (plain / file).read_bytes(), "path": None} for file in discs(plain)],
        "label": [at % 3 for at in range(30)],
    }
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    table.save_to_disk(str(root))
    return root


def make_svhn(root: Path) -> Path:
    """A test file alone, three digits to a street image."""
    root.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 90), dtype=np.uint8)
    labels = np.array([1 + at // 3 % 10 for at in range(90)], dtype=np.uint8)
    savemat(root / "test_32x32.mat", {"X": pixels, "y": labels[:, None]})
    rows = [[at, at // 3, 4, 4, 20, 28] for at in range(90)]
    write_csv(root / "boxes.csv", ["index", "source_image", "x1", "y1", "x2", "y2"], rows)
    return root


def make_dicom(root: Path) -> Path:
    """A folder per class of single frames of 8 bits."""
    boxes = discs(root.with_name(f"{root.name}-images"))
    for file, ((name, *_),) in boxes.items():
        with Image.open(root.with_name(f"{root.name}-images") / file) as image:
            pixels = np.asarray(image.convert("L"))
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[file])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = pydicom.Dataset()
        data.file_meta = meta
        data.SOPClassUID, data.SOPInstanceUID = meta[0x00020002].value, meta[0x00020003].value
        data.Rows, data.Columns, data.SamplesPerPixel = *pixels.shape, 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
        data.PixelData = pixels.tobytes()
        (root / name).mkdir(parents=True, exist_ok=True)
        data.save_as(root / name / file.replace("png", "dcm"), enforce_file_format=True)
    return root
