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
from atcon.report.maps import MEAN_COLOUR, Kind, kinds_of

GREY = np.full((64, 64, 3), 100, np.uint8)
HALVES = np.repeat(np.array([[0, 255]], np.uint8), 32, axis=1).repeat(64, axis=0)


def pixels_of(picture) -> np.ndarray:
    data = base64.b64decode(picture.source.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(BytesIO(data)), float)


GRAD_CAM = Kind("grad_cam", "Grad-CAM", signed=True)
GUIDED = Kind("guided_backprop", "Guided Backpropagation", fine=True)
MASK = Kind("mask", "Seen through the mask")
ROLLOUT = Kind("attention_rollout", "Attention roll-out")
TIMES_INPUT = Kind("gradient_times_input", "Gradient x input", signed=True, fine=True)


def colour(name: str, fraction: float) -> np.ndarray:
    return 255 * np.array(mpl.colormaps[name](fraction)[:3])


def over_grey(name: str, fraction: float) -> np.ndarray:
    return 0.38 * 100 + 0.62 * colour(name, fraction)


@pytest.mark.parametrize(
    ("bounds", "left", "right"),
    [((-1.0, 3.0), 1 / 3, 1.0), ((-3.0, 1.0), 0.0, 2 / 3), ((0.0, 3.0), 0.5, 1.0)],
)
def test_zero_is_the_middle_of_the_colours_of_a_signed_map(bounds, left, right):
    picture = render(GRAD_CAM, GREY, HALVES, bounds, "before")
    drawn = pixels_of(picture)
    assert drawn[32, 8] == pytest.approx(over_grey("RdBu_r", left), abs=4)
    assert drawn[32, 56] == pytest.approx(over_grey("RdBu_r", right), abs=4)
    assert (picture.ramp.low, picture.ramp.high, picture.ramp.zero) == ("−3.0", "3.0", 50.0)


def test_a_signed_map_of_zeros_is_white():
    drawn = pixels_of(render(GRAD_CAM, GREY, 0 * HALVES, (0.0, 0.0), "before"))
    assert drawn[32, 32] == pytest.approx(over_grey("RdBu_r", 0.5), abs=4)


def test_a_map_without_sign_is_shown_from_its_lowest_to_its_highest_value():
    picture = render(ROLLOUT, GREY, HALVES, (1.0, 3.0), "before")
    drawn = pixels_of(picture)
    assert drawn[32, 8] == pytest.approx(over_grey("viridis", 0.0), abs=4)
    assert drawn[32, 56] == pytest.approx(over_grey("viridis", 1.0), abs=4)
    assert (picture.ramp.low, picture.ramp.high, picture.ramp.zero) == ("1.0", "3.0", None)


def test_coarse_cells_cover_the_whole_image():
    coarse = np.array([[0, 0], [255, 255]], np.uint8)
    drawn = pixels_of(render(ROLLOUT, GREY, coarse, (0.0, 1.0), "before"))
    assert drawn[2, 32] == pytest.approx(over_grey("viridis", 0.0), abs=4)
    assert drawn[61, 32] == pytest.approx(over_grey("viridis", 1.0), abs=4)


def test_the_brightest_percent_of_a_fine_map_is_clipped():
    ramp = np.arange(100, dtype=np.uint8).reshape(10, 10)
    ramp[9, 9] = 255
    picture = render(GUIDED, GREY[:10, :10], ramp, (0.0, 2.55), "before")
    assert picture.ramp.high == "1.00"
    drawn = pixels_of(render(GUIDED, GREY, HALVES, (0.0, 1.0), "before"))
    assert drawn[32, 8] == pytest.approx(colour("inferno", 0.0), abs=6)
    assert drawn[32, 56] == pytest.approx(colour("inferno", 1.0), abs=8)


def test_the_largest_percent_of_a_fine_signed_map_is_clipped_on_both_sides():
    ramp = np.full((20, 20), 128, np.uint8)
    ramp[:10], ramp[0, 0] = 100, 255
    picture = render(TIMES_INPUT, GREY[:20, :20], ramp, (-128.0, 127.0), "before")
    assert (picture.ramp.low, picture.ramp.high) == ("−28", "28")
    drawn = pixels_of(render(TIMES_INPUT, GREY, HALVES, (-1.0, 2.0), "before"))
    assert drawn[32, 8] == pytest.approx(colour("RdBu_r", 0.25), abs=8)
    assert drawn[32, 56] == pytest.approx(colour("RdBu_r", 1.0), abs=8)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_mask_keeps_its_share_of_the_image_on_an_absolute_scale(share):
    picture = render(MASK, GREY, np.zeros((64, 64), np.uint8), (share, share), "before")
    expected = share * 100 + (1 - share) * np.array(MEAN_COLOUR)
    assert pixels_of(picture)[32, 32] == pytest.approx(expected, abs=3)


def test_pictures_are_small_and_keep_their_shape():
    image = np.zeros((300, 600, 3), np.uint8)
    picture = render(MASK, image, np.zeros((3, 6), np.uint8), (0.5, 0.5), "before")
    assert (picture.width, picture.height) == (MAP_SIDE, MAP_SIDE // 2)
    assert pixels_of(picture).shape == (MAP_SIDE // 2, MAP_SIDE, 3)
    assert render(MASK, GREY, HALVES, (0.0, 1.0), "before").width == 64


def test_an_index_says_what_its_maps_are_called_and_how_they_are_drawn():
    about = {"cam": {"title": "CAM", "signed": True, "fine": False}, "gradient": {"fine": True}}
    index = {"maps": ["gradient", "cam", "mask"], "about": about}
    assert kinds_of(index) == (
        Kind("gradient", "gradient", fine=True),
        Kind("cam", "CAM", signed=True),
        Kind("mask", "mask"),
    )


def test_an_index_of_before_has_the_three_maps_of_before():
    assert kinds_of({"maps": ["grad_cam", "guided_backprop", "mask"]}) == (GRAD_CAM, GUIDED, MASK)
    assert kinds_of({}) == (GRAD_CAM, GUIDED, MASK)


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
