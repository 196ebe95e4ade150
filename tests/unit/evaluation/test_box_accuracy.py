"""Boxes around the parts of maps that are drawn by hand."""

import numpy as np
import pytest

from atcon.errors import InputError
from atcon.evaluation import (
    MAP_THRESHOLDS,
    bootstrap,
    box_iou,
    box_ious,
    floors,
    localise,
    max_box_accuracy,
    point,
    pointing,
    resample_weights,
)
from atcon.types import Box

LEFT_TOP = Box(0, 0.0, 0.0, 0.5, 0.5)


def drawn(picture):
    rows = picture.split()
    return np.array([[0.0 if mark == "." else int(mark) / 10 for mark in line] for line in rows])


TWO_PARTS = drawn("""
    99......
    99......
    ........
    ........
    ....4444
    ....4444
    ....4444
    ....4444
""")


def test_the_best_of_several_parts_counts_against_the_best_of_several_boxes():
    mask = TWO_PARTS > 0.1
    assert box_iou(mask, [LEFT_TOP], 0) == pytest.approx(4 / 16)
    assert box_iou(mask, [Box(0, 0.5, 0.5, 1.0, 1.0)], 0) == 1
    assert box_iou(mask, [LEFT_TOP, Box(0, 0.5, 0.5, 1.0, 0.75)], 0) == pytest.approx(0.5)
    assert box_iou(TWO_PARTS > 0.5, [Box(0, 0.5, 0.5, 1.0, 1.0)], 0) == 0


def test_a_box_is_drawn_around_a_part_whatever_its_form_and_corners_connect():
    corner = drawn("""
        9...
        .9..
        ..9.
        ....
    """)
    assert box_iou(corner > 0, [Box(0, 0.0, 0.0, 0.75, 0.75)], 0) == 1
    ring = drawn("""
        999
        9.9
        999
    """)
    assert box_iou(ring > 0, [Box(0, 0.0, 0.0, 1.0, 1.0)], 0) == 1
    assert box_iou(ring > 0, [Box(0, 1 / 3, 1 / 3, 2 / 3, 2 / 3)], 0) == pytest.approx(1 / 9)


def test_boxes_are_compared_exactly_not_by_pixels_and_those_of_other_classes_do_not_count():
    mask = np.ones((2, 4), dtype=bool)
    assert box_iou(mask, [Box(0, 0.1, 0.2, 0.43, 0.9)], 0) == pytest.approx(0.33 * 0.7)
    assert box_iou(mask, [Box(1, 0.0, 0.0, 1.0, 1.0)], 0) == 0
    assert box_iou(~mask, [LEFT_TOP], 0) == 0


def test_the_map_is_cut_at_every_threshold():
    found = dict(zip(MAP_THRESHOLDS, box_ious(TWO_PARTS, [LEFT_TOP], 0), strict=True))
    whole = dict(zip(MAP_THRESHOLDS, box_ious(TWO_PARTS, [Box(0, 0.5, 0.5, 1, 1)], 0), strict=True))
    assert len(MAP_THRESHOLDS) == 20
    for threshold in MAP_THRESHOLDS:
        assert found[threshold] == (0.25 if threshold < 0.9 else 0)
        assert whole[threshold] == (1 if threshold < 0.4 else 0)


def test_the_best_cut_is_chosen_over_all_images_for_each_of_the_three_iou():
    ious = [  # two cuts of three images, the last of which does not count
        [0.35, 0.75],
        [0.55, 0.00],
        [0.95, 0.95],
    ]
    metric = max_box_accuracy(ious, [True, True, False])
    # 0.3: the first cut fits both; 0.5: one of two either way; 0.7: the second fits one
    assert point(metric, 3) == pytest.approx((1 + 0.5 + 0.5) / 3)
    weights = np.array([[2.0, 1, 5], [0, 3, 0], [0, 0, 4]])
    # two of the first: 0.3: 3/3; 0.5: 2/3; 0.7: 2/3; three of the second: 1, 1, 0
    np.testing.assert_allclose(metric(weights), [(1 + 2 / 3 + 2 / 3) / 3, 2 / 3, np.nan])


def test_an_iou_at_the_threshold_fits():
    assert point(max_box_accuracy([[0.3], [0.5], [0.7]], [True] * 3), 3) == pytest.approx(
        (3 + 2 + 1) / 9
    )


def test_resampled_values_are_those_of_the_images_repeated():
    generator = np.random.default_rng(0)
    ious, valid = generator.random((30, 20)), generator.random(30) < 0.7
    weights = resample_weights(30, 40, seed=0)
    expected = []
    for row in weights.astype(int):
        chosen = np.repeat(np.arange(30), row)
        own = ious[chosen][valid[chosen]]
        expected.append(np.mean([(own >= d).mean(axis=0).max() for d in (0.3, 0.5, 0.7)]))
    np.testing.assert_allclose(max_box_accuracy(ious, valid)(weights), expected)
    assert bootstrap(max_box_accuracy(ious, valid), weights).low < expected[0] + 1


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match="map threshold"):
        max_box_accuracy(np.zeros(3), [True] * 3)
    with pytest.raises(InputError, match="valid"):
        max_box_accuracy(np.zeros((3, 20)), [True] * 2)


def test_the_peak_points_into_the_mask_or_not_and_equal_peaks_share():
    mask = np.zeros((4, 4), dtype=bool)
    mask[:2, :2] = True
    peak = np.zeros((4, 4))
    peak[0, 1] = 1
    assert pointing(peak, mask) == 1
    peak[3, 3] = 1
    assert pointing(peak, mask) == 0.5
    peak[3, 3] = 1.01
    assert pointing(peak, mask) == 0
    assert pointing(np.zeros((4, 4)), mask) == 0.25


def test_a_perfect_map_and_the_trivial_ones_on_one_image():
    attention = np.zeros((8, 8))
    attention[:4, :4] = 1.0
    found = localise(attention, [LEFT_TOP], 0, size=8)
    assert (found.pointing, set(found.box_ious), found.iou) == (1.0, {1.0}, 1.0)
    trivial = floors([LEFT_TOP], 0, size=8)
    assert trivial["whole_image"].pointing == 0.25
    assert trivial["whole_image"].box_ious == (0.25,) * 20
    # The centred square of 45 % covers 6 x 6 of 8 x 8 pixels, 9 of its 36 on the box of 16
    assert trivial["centre_box"].pointing == 9 / 36
    assert trivial["centre_box"].box_ious == pytest.approx((9 / (36 + 16 - 9),) * 20)
    constant = localise(np.ones((8, 8)), [LEFT_TOP], 0, size=8)
    assert (constant.pointing, set(constant.box_ious)) == (0.25, {0.0})
