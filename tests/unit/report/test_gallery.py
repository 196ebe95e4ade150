import base64
import json
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from run_folder import edit_json

from atcon.errors import InputError
from atcon.report.gallery import MAP_SIDE, cards, render
from atcon.report.inputs import read_run
from atcon.report.maps import MEAN_COLOUR

GREY = np.full((64, 64, 3), 100, np.uint8)
HALVES = np.repeat(np.array([[0, 255]], np.uint8), 32, axis=1).repeat(64, axis=0)


def pixels_of(picture) -> np.ndarray:
    data = base64.b64decode(picture.source.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(BytesIO(data)), float)


def viridis(fraction: float) -> np.ndarray:
    return 0.38 * 100 + 0.62 * 255 * np.array(mpl.colormaps["viridis"](fraction)[:3])


def test_grad_cam_is_shown_signed_from_its_lowest_to_its_highest_value():
    picture = render("grad_cam", GREY, HALVES, (-1.0, 3.0), "before")
    drawn = pixels_of(picture)
    assert drawn[32, 8] == pytest.approx(viridis(0.0), abs=4)
    assert drawn[32, 56] == pytest.approx(viridis(1.0), abs=4)
    assert (picture.ramp.low, picture.ramp.high, picture.ramp.zero) == ("−1.0", "3.0", 25.0)


def test_a_map_without_a_change_of_sign_has_no_mark_for_zero():
    assert render("grad_cam", GREY, HALVES, (0.5, 3.0), "before").ramp.zero is None


def test_a_coarse_grad_cam_covers_the_whole_image():
    coarse = np.array([[0, 0], [255, 255]], np.uint8)
    drawn = pixels_of(render("grad_cam", GREY, coarse, (0.0, 1.0), "before"))
    assert drawn[2, 32] == pytest.approx(viridis(0.0), abs=4)
    assert drawn[61, 32] == pytest.approx(viridis(1.0), abs=4)


def test_the_brightest_percent_of_guided_backpropagation_is_clipped():
    ramp = np.arange(100, dtype=np.uint8).reshape(10, 10)
    ramp[9, 9] = 255
    picture = render("guided_backprop", GREY[:10, :10], ramp, (0.0, 2.55), "before")
    assert picture.ramp.high == "1.00"
    drawn = pixels_of(render("guided_backprop", GREY, HALVES, (0.0, 1.0), "before"))
    assert drawn[32, 8] == pytest.approx([0, 0, 3], abs=6)
    assert drawn[32, 56] == pytest.approx([252, 255, 164], abs=8)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_mask_keeps_its_share_of_the_image_on_an_absolute_scale(share):
    picture = render("mask", GREY, np.zeros((64, 64), np.uint8), (share, share), "before")
    expected = share * 100 + (1 - share) * np.array(MEAN_COLOUR)
    assert pixels_of(picture)[32, 32] == pytest.approx(expected, abs=3)


def test_pictures_are_small_and_keep_their_shape():
    image = np.zeros((300, 600, 3), np.uint8)
    picture = render("mask", image, np.zeros((3, 6), np.uint8), (0.5, 0.5), "before")
    assert (picture.width, picture.height) == (MAP_SIDE, MAP_SIDE // 2)
    assert pixels_of(picture).shape == (MAP_SIDE // 2, MAP_SIDE, 3)
    assert render("mask", GREY, HALVES, (0.0, 1.0), "before").width == 64


def test_a_change_needs_both_stages(run):
    index = run / "gallery" / "index.json"
    entries = json.loads(index.read_text())["entries"]
    entries[0]["stages"]["consistency"]["correlation"] = None
    del entries[1]["stages"]["consistency"]
    edit_json(index, entries=entries)
    first, second, third, *_ = cards(read_run(run))
    assert first.change.value is None
    assert first.data["data-change"] == ""
    assert second.after is None
    assert (second.data["data-change"], second.data["data-now"]) == ("", "")
    assert third.change.value is not None


def test_an_entry_cannot_reach_outside_the_gallery(run):
    index = run / "gallery" / "index.json"
    entries = json.loads(index.read_text())["entries"]
    entries[0]["file"] = "../../secret.npz"
    np.savez(run.parent / "secret.npz", image=GREY)
    edit_json(index, entries=entries)
    with pytest.raises(InputError, match=r"run/gallery/secret\.npz: missing"):
        cards(read_run(run))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("image", np.zeros((8, 8), np.uint8)),
        ("image", np.zeros((8, 8, 3), np.float32)),
        ("supervised_mask", np.zeros((8, 8), np.float32)),
    ],
)
def test_an_array_of_another_kind_is_an_input_error_that_names_it(run, name, array):
    path = run / "gallery" / "000.npz"
    with np.load(path) as arrays:
        content = {key: arrays[key] for key in arrays.files}
    np.savez(path, **{**content, name: array})
    with pytest.raises(InputError, match=f"000.npz: '{name}'"):
        cards(read_run(run))


@pytest.mark.parametrize("bounds", [None, [1.0], [2.0, 1.0], [None, 1.0], "0..1"])
def test_a_map_without_its_range_is_an_input_error(run, bounds):
    index = run / "gallery" / "index.json"
    entries = json.loads(index.read_text())["entries"]
    entries[0]["stages"]["supervised"]["ranges"]["grad_cam"] = bounds
    edit_json(index, entries=entries)
    with pytest.raises(InputError, match=r"no range \[low, high\] for grad_cam"):
        cards(read_run(run))
