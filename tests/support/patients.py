"""Images as a clinic has them: names of patients in file names and in every kind of metadata."""

from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from pipeline import COLOURS, save_disc

NAMES = ("Mustermann", "Erika & Jörg")
GROUPS = ("Sonderbar, Karl", "Zweifel <Ida>", "4711-0815")
PLACES = ("Klinik-Sonnenschein", "Station Süd")
HOST = "klinikrechner-17"
MARKERS = ("GeburtsdatumImExif", "KommentarImJpeg", "TextImPng", "KlinikImGps", "PackedInPng")
"""What stands in the metadata: EXIF, the JPEG comment, PNG text, GPS, compressed PNG text."""


def make_patients(root: Path, per_class: int = 9) -> Path:
    """Write a folder per class; every third image is a PNG."""
    random = np.random.default_rng(0)
    for name in COLOURS:
        for index in range(per_class):
            path = root / name / f"{NAMES[0]} {NAMES[1]} {index:02d}.jpg"
            save_disc(path, (name,), random)
            with Image.open(path) as image:
                image.load()
            if index % 3 == 2:
                path.unlink()
                save_with_metadata(image, path.with_suffix(".png"))
            else:
                save_with_metadata(image, path)
    return root


def save_with_metadata(image: Image.Image, path: Path) -> None:
    """Save with the markers in all the metadata that the format has."""
    exif = Image.Exif()
    exif[0x013B] = MARKERS[0]  # the artist
    exif[0x9C9C] = MARKERS[0].encode("utf-16-le")  # the comment of Windows
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + MARKERS[0].encode("utf-16-be")
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 15.0), 0x1B: MARKERS[3].encode()})
    if path.suffix == ".jpg":
        image.save(path, quality=95, exif=exif, comment=MARKERS[1].encode())
        return
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", MARKERS[2])
    text.add_text("Patient", MARKERS[4], zip=True)
    image.save(path, exif=exif, pnginfo=text)
