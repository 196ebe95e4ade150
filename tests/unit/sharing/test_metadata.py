"""What stands in the metadata of images gets into nothing that is written."""

import base64
import io
import re

import pytest
from patients import MARKERS, NAMES
from PIL import Image
from pipeline import atcon
from traces import traces

HARMLESS = {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
"""What Pillow reads from the header of any JPEG."""


@pytest.fixture(scope="module")
def attended(clinic, tmp_path_factory):
    """The maps of a JPEG and of a PNG."""
    images = [clinic.images / "blue" / f"{NAMES[0]} {NAMES[1]} 0{at}" for at in (1, 2)]
    out = tmp_path_factory.mktemp("attended") / "maps"
    paths = [images[0].with_suffix(".jpg"), images[1].with_suffix(".png")]
    ended = atcon("attend", clinic.run, *paths, "--out", out, "--quiet")
    assert ended.code == 0, ended.err
    return out


def test_the_images_hold_every_marker(clinic):
    assert {word for _, word in traces(clinic.images, MARKERS)} == set(MARKERS)


def test_no_metadata_of_an_image_is_in_the_folder_of_a_run(clinic):
    assert list(clinic.run.glob("gallery/*.npz"))
    assert list(clinic.run.glob("checkpoints/*.safetensors"))
    assert traces(clinic.run, MARKERS) == set()


def test_no_metadata_of_an_image_is_with_its_maps(attended):
    assert {path.suffix for path in attended.iterdir()} == {".json", ".npz", ".png"}
    assert traces(attended, MARKERS) == set()


def test_no_picture_that_is_written_has_metadata(clinic, attended):
    page = (clinic.run / "report.html").read_text(encoding="utf-8")
    encoded = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    pictures = [base64.b64decode(one) for one in encoded]
    pictures += [path.read_bytes() for path in attended.glob("*.png")]
    assert len(pictures) == 2 * 7 + 2
    for content in pictures:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert set(image.info) <= HARMLESS
            assert not image.getexif()
