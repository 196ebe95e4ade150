"""The demo as a newcomer runs it: it learns, leaves room to gain, and is quick."""

import pytest
from pipeline import atcon

from atcon.records import read_json


@pytest.mark.slow
def test_the_demo_learns_leaves_room_to_gain_and_takes_less_than_three_minutes(tmp_path):
    ended = atcon("demo", "--quiet", "--out", tmp_path / "demo")
    assert ended.code == 0, ended.err
    summary = read_json(tmp_path / "demo" / "summary.json")
    assert 60 < summary["stages"]["supervised"]["test"]["f1"] < 90
    assert summary["seconds"]["total"] < 180
    assert summary["floors"]["whole_image"]["iou"] < summary["stages"]["supervised"]["test"]["iou"]
    assert (tmp_path / "demo" / "report.html").stat().st_size > 500_000
