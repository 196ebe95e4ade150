"""IoU, energy and trivial maps on maps drawn by hand."""

import numpy as np
import pytest

from atcon.errors import InputError
from atcon.evaluation import (
    IOU_RULES,
    TRIVIAL_MAPS,
    box_mask,
    centre_box,
    energy_inside,
    floors,
    iou,
    localise,
    rescale,
    resize,
)
from atcon.types import Box

LEFT = Box(0, 0.0, 0.0, 0.5, 1.0)
QUARTER = Box(0, 0.5, 0.5, 1.0, 1.0)
OTHER = Box(1, 0.0, 0.0, 1.0, 1.0)


def drawn(picture):
    return np.array([[mark == "#" for mark in line] for line in picture.split()])


def test_a_box_covers_the_pixels_whose_centre_it_holds():
    box = Box(0, 0.2, 0.3, 0.7, 0.9)  # centres 0.25 and 0.5 (of 0.125, ..), 0.375 to 0.875
    expected = drawn("""
        ....
        .##.
        .##.
        .##.
    """)
    np.testing.assert_array_equal(box_mask([box], 0, 4, 4), expected)


def test_the_mask_is_the_union_of_the_boxes_of_the_class():
    boxes = [LEFT, QUARTER, OTHER, Box(0, 0.25, 0.0, 0.75, 0.25)]
    expected = drawn("""
        ###.
        ##..
        ####
        ####
    """)
    np.testing.assert_array_equal(box_mask(boxes, 0, 4, 4), expected)
    assert box_mask(boxes, 1, 4, 4).all()
    assert not box_mask(boxes, 2, 4, 4).any()


@pytest.mark.parametrize("cut", [0.0625, 0.3, 0.5, 0.8125])
def test_boxes_that_tile_the_image_share_no_pixel_and_leave_none(cut):
    sides = [Box(0, 0.0, 0.0, cut, 1.0), Box(0, cut, 0.0, 1.0, 1.0)]
    halves = [Box(0, 0.0, 0.0, 1.0, cut), Box(0, 0.0, cut, 1.0, 1.0)]
    for pair in (sides, halves):
        first, second = (box_mask([box], 0, 8, 8) for box in pair)
        assert (first ^ second).all()


def test_the_area_of_a_mask_is_the_area_of_its_box():
    mask = box_mask([Box(0, 0.1, 0.2, 0.73, 0.66)], 0, 300, 200)
    assert mask.mean() == pytest.approx(0.63 * 0.46, abs=0.005)


def test_rescaling_goes_from_zero_to_one_and_forgets_scale_and_offset():
    attention = np.array([[-3.0, 1.0], [0.0, 5.0]])
    np.testing.assert_allclose(rescale(attention), [[0, 0.5], [0.375, 1]])
    np.testing.assert_allclose(rescale(2.5 * attention - 7), rescale(attention))


@pytest.mark.parametrize("value", [0.0, 0.3, -7.1, 1e-30])
def test_a_constant_map_stays_constant_when_resized_and_becomes_zero(value):
    resized = resize(np.full((7, 5), value), 64, 48)
    np.testing.assert_array_equal(resized, np.full((64, 48), value))
    np.testing.assert_array_equal(rescale(resized), 0)


def test_resizing_to_the_same_size_changes_nothing():
    attention = np.random.default_rng(0).normal(size=(6, 9))
    np.testing.assert_allclose(resize(attention, 6, 9), attention, atol=1e-15)


def test_overlap_of_worked_examples():
    first, second = drawn("##.. ##.."), drawn(".##. .##.")
    assert iou(first, second) == pytest.approx(1 / 3)
    assert iou(first, first) == 1
    assert iou(first, ~first) == 0
    assert iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0


def test_energy_of_worked_examples():
    mask = drawn("#. ..")
    assert energy_inside(np.array([[3.0, 1.0], [0.0, 0.0]]), mask) == pytest.approx(0.75)
    assert energy_inside(np.ones((2, 2)), mask) == pytest.approx(0.25)
    assert energy_inside(np.zeros((2, 2)), mask) == 0


def test_the_rule_of_the_paper_is_half_of_the_range():
    scaled = np.array([[0.0, 0.5, 0.51, 1.0]])
    assert IOU_RULES["paper"](scaled).tolist() == [[False, False, True, True]]


def test_the_rule_of_the_reference_code_on_worked_examples():
    scaled = np.array([[0.0, 0.4, 0.6, 1.0]])  # median = mean = 0.5, std 0.36: min(0.5, 0.61)
    assert IOU_RULES["reference"](scaled).tolist() == [[False, False, True, True]]
    flat = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 1.0]])  # min(0.25, 0.08 + 0.32 - 0.25)
    assert IOU_RULES["reference"](flat).tolist() == [[False] * 6 + [True] * 2]


def test_the_rule_of_the_reference_code_lights_half_of_a_noisy_map_and_the_paper_does_not():
    peaked = np.random.default_rng(0).random((64, 64)) ** 3
    assert IOU_RULES["paper"](peaked).mean() == pytest.approx(1 - 0.5 ** (1 / 3), abs=0.02)
    assert 0.35 < IOU_RULES["reference"](peaked).mean() < 0.5


def test_a_map_that_is_its_box_is_perfect_by_every_measure():
    found = localise(box_mask([LEFT], 0, 64, 64).astype(float), [LEFT], 0, size=64)
    assert (found.iou, found.iou_reference, found.epg) == (1, 1, 1)


def test_a_map_beside_its_box_earns_nothing():
    attention = box_mask([Box(0, 0.5, 0.0, 1.0, 1.0)], 0, 64, 64).astype(float)
    found = localise(attention, [LEFT], 0, size=64)
    assert (found.iou, found.iou_reference, found.epg) == (0, 0, 0)


def test_a_coarse_map_is_interpolated_before_it_is_compared():
    found = localise([[1.0, 0.0]], [LEFT], 0, size=8)  # columns 1, 1, .875, .625, .375, .125, 0, 0
    assert found.iou == 1
    assert found.epg == pytest.approx(3.5 / 4)


def test_the_threshold_follows_the_range_of_the_resized_map():
    peak = np.zeros((3, 3))
    peak[1, 1] = 1.0  # interpolated to 4 x 4: four pixels of 0.39 in the middle, 0 around
    found = localise(peak, [Box(0, 0.25, 0.25, 0.75, 0.75)], 0, size=4)
    assert (found.iou, found.epg) == (1, 1)


def test_localisation_forgets_scale_and_offset_and_mirrors_with_the_image():
    attention = np.random.default_rng(0).normal(size=(7, 7))
    box = Box(0, 0.125, 0.25, 0.5, 0.75)
    found = localise(attention, [box], 0, size=32)
    assert localise(4 * attention - 8, [box], 0, size=32).iou == found.iou
    mirrored = localise(attention[:, ::-1], [Box(0, 0.5, 0.25, 0.875, 0.75)], 0, size=32)
    assert (mirrored.iou, mirrored.iou_reference) == (found.iou, found.iou_reference)
    assert mirrored.epg == pytest.approx(found.epg)


def test_an_image_without_a_box_of_the_class_has_no_localisation_and_no_floor():
    assert localise(np.eye(4), [OTHER], 0, size=8) is None
    assert floors([OTHER], 0, size=8) is None


@pytest.mark.parametrize("size", [64, 100, 224])
def test_the_whole_image_earns_the_share_of_the_box(size):
    share = box_mask([QUARTER], 0, size, size).mean()
    floor = floors([QUARTER, OTHER], 0, size=size)["whole_image"]
    assert floor.iou == floor.iou_reference == pytest.approx(share)
    assert floor.epg == pytest.approx(share)


@pytest.mark.parametrize("area", [0.1, 0.45, 1.0])
def test_the_centred_box_covers_its_area_around_the_centre(area):
    mask = centre_box(224, area)
    assert mask.mean() == pytest.approx(area, abs=0.01)
    np.testing.assert_array_equal(mask, mask[::-1, ::-1])
    assert mask[112, 112]


def test_the_centred_box_on_a_centred_object_beats_the_whole_image():
    side = np.sqrt(0.45) / 2
    box = Box(0, 0.5 - side, 0.5 - side, 0.5 + side, 0.5 + side)
    found = floors([box], 0, size=200)
    assert set(found) == set(TRIVIAL_MAPS)
    assert found["centre_box"].iou == 1
    assert found["centre_box"].epg == 1
    assert found["whole_image"].iou == pytest.approx(0.45, abs=0.01)


@pytest.mark.parametrize("attention", [np.ones(4), np.ones((2, 0)), np.array([[1.0, np.nan]])])
def test_what_is_no_finite_map_is_refused(attention):
    for call in (rescale, lambda values: resize(values, 4, 4)):
        with pytest.raises(InputError, match="\\[height, width\\] and finite"):
            call(attention)
