"""The verdict from hand-made gains: value and p of F1, mAP and IoU."""

import pytest

from atcon.experiments.summary import verdict_record

SURE, UNSURE = 0.001, 0.4


def change(value: float, p: float) -> dict[str, float]:
    return {"value": value, "low": value - 1, "high": value + 1, "p": p}


def controls(uniform: float, uniform_p: float, calibration: float = 2.0, p: float = SURE) -> dict:
    """Differences, ours minus control, the same for every metric."""
    names = ("f1", "map", "iou")
    return {
        "uniform": {"difference": {name: change(uniform, uniform_p) for name in names}},
        "calibration": {"difference": {"f1": change(calibration, p)}},
    }


def gains(f1: tuple | None, mean: tuple | None, iou: tuple | None) -> dict:
    named = zip(("f1", "map", "iou"), (f1, mean, iou), strict=True)
    return {name: None if pair is None else change(*pair) for name, pair in named}


UP, DOWN, LEVEL = (3.0, SURE), (-3.0, SURE), (1.0, UNSURE)
BEATEN, UNBEATEN = controls(2.0, SURE), controls(0.1, UNSURE)


@pytest.mark.parametrize(
    ("outcome", "gain", "control"),
    [
        ("helps", gains(UP, UP, UP), BEATEN),
        ("helps", gains(LEVEL, UP, LEVEL), BEATEN),
        ("helps", gains(LEVEL, UP, None), BEATEN),
        ("helps", gains(LEVEL, UP, LEVEL), controls(2.0, SURE, -2.0)),
        ("control_explains", gains(UP, UP, UP), UNBEATEN),
        ("control_explains", gains(UP, LEVEL, LEVEL), controls(2.0, SURE, -2.0)),
        ("control_explains", gains(UP, LEVEL, LEVEL), controls(2.0, SURE, 0.5, UNSURE)),
        ("control_explains", gains(UP, UP, UP), controls(-2.0, SURE)),
        ("no_difference", gains(LEVEL, LEVEL, LEVEL), BEATEN),
        ("no_difference", gains((0.0, 1.0), (0.0, 1.0), None), BEATEN),
        ("harms", gains(LEVEL, DOWN, LEVEL), BEATEN),
        ("harms", gains(DOWN, DOWN, DOWN), BEATEN),
        ("mixed", gains(UP, DOWN, LEVEL), BEATEN),
        ("mixed", gains(UP, LEVEL, DOWN), UNBEATEN),
    ],
)
def test_the_outcome_follows_from_gains_and_controls(outcome, gain, control):
    verdict = verdict_record(True, 12, gain, control)
    assert verdict["outcome"] == outcome
    assert verdict["reasons"]
    for name, shown in (("f1", "F1"), ("map", "mAP"), ("iou", "IoU")):
        if gain[name] is None:
            assert shown not in verdict["sentence"]
        else:
            value = f"{gain[name]['value']:+.1f}".replace("-", "−")
            assert f"{shown} {value} points" in verdict["sentence"]


def test_a_start_that_was_kept_is_no_gain_whatever_the_numbers_say():
    verdict = verdict_record(False, 12, gains(UP, UP, UP), BEATEN)
    assert verdict["outcome"] == "not_kept"
    assert "12 epochs" in verdict["reasons"][0]


def test_one_p_below_the_level_among_three_does_not_count():
    near = (3.0, 0.03)
    assert verdict_record(True, 1, gains(near, LEVEL, LEVEL), BEATEN)["outcome"] == "no_difference"
    assert verdict_record(True, 1, gains(near, None, None), BEATEN)["outcome"] == "helps"


def test_without_the_uniform_control_nothing_can_be_credited_to_the_maps():
    calibration = {"calibration": BEATEN["calibration"]}
    verdict = verdict_record(True, 12, gains(UP, UP, UP), calibration)
    assert verdict["outcome"] == "control_explains"
    assert "the control with a uniform mask was not run" in verdict["reasons"]


def test_the_reasons_name_what_rose_what_fell_and_what_a_control_explains():
    mixed = verdict_record(True, 12, gains(UP, DOWN, LEVEL), UNBEATEN)["reasons"]
    assert any(reason.startswith("F1 rose clearly") for reason in mixed)
    assert any(reason.startswith("mAP fell clearly") for reason in mixed)
    assert any(reason.startswith("F1: not clearly above every control") for reason in mixed)
    assert not any("IoU" in reason for reason in mixed)
