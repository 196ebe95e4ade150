import csv
import json
import re
from itertools import pairwise
from math import floor, log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atcon.report.charts import Axes, Line, line_chart, round_ticks
from atcon.report.figures import curves, gain_plot, scatter
from atcon.report.inputs import read_run

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_ticks_are_round_equally_spaced_and_enclose_the_values(values):
    ticks = round_ticks(values)
    step = ticks[1] - ticks[0]
    slack = 1e-6 * step
    assert ticks[0] - slack <= min(values)
    assert max(values) <= ticks[-1] + slack
    assert 2 <= len(ticks) <= 7
    assert all(b - a == pytest.approx(step, rel=1e-6) for a, b in pairwise(ticks))
    leading = step / 10.0 ** floor(log10(step) + 1e-6)
    assert min(abs(leading - unit) for unit in (1, 2, 5)) < 1e-4


def test_points_are_drawn_on_linear_scales_with_y_upwards():
    axes = Axes((0.0, 10.0), (0.0, 5.0, 10.0), (0.0, 1.0))
    left, bottom = axes.at((0.0, 0.0))
    right, top = axes.at((10.0, 1.0))
    assert axes.at((5.0, 0.5)) == pytest.approx(((left + right) / 2, (top + bottom) / 2))
    assert left < right
    assert top < bottom


def test_the_ring_marks_the_kept_epoch_and_the_dashed_line_the_start():
    points = ((1.0, 0.0), (2.0, 2.0), (3.0, 1.0))
    svg = line_chart("mAP", [Line("Ours", "ours", points, kept=2.0, start=1.0)])
    drawn = re.search(r'points="([^"]+)"', svg)[1].split()
    ring = re.search(r'<circle class="ring ours" cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert ",".join(ring.groups()) == drawn[1]
    start = re.search(r'class="rule start" d="M[\d.]+ ([\d.]+)L[\d.]+ ([\d.]+)"', svg)
    assert start[1] == start[2] == drawn[2].split(",")[1]


def test_the_scatter_counts_each_image_once_by_its_change_of_mind(finished):
    rows = []
    for stage in ("supervised", "consistency"):
        with (finished / "localisation" / f"{stage}.csv").open(newline="") as handle:
            rows.append(list(csv.DictReader(handle)))
    pairs = list(zip(*rows, strict=True))
    risen = sum(float(b["correlation"]) > float(a["correlation"]) for a, b in pairs)
    became_right = sum((a["correct"], b["correct"]) == ("0", "1") for a, b in pairs)
    figure = scatter(read_run(finished))
    assert figure.meaning == f"Consistency rose for {risen} of {len(pairs)} test images."
    assert dict(figure.legend)["turned"] == f"became right ({became_right})"
    assert figure.svg.count("h0") == len(pairs)


def test_gains_share_one_linear_axis_with_zero(finished):
    summary = json.loads((finished / "summary.json").read_text())
    plot = gain_plot(summary)
    places = [position for position, _ in plot.ticks]
    assert (places[0], places[-1]) == (0.0, 100.0)
    assert dict(plot.ticks)[plot.zero] == "0"
    first = plot.rows[0]
    gain = summary["gain"]["map"]
    scale = (places[1] - places[0]) / 2
    assert first.dot - plot.zero == pytest.approx(scale * gain["value"])
    assert first.width == pytest.approx(scale * (gain["high"] - gain["low"]))


def test_the_curves_start_where_fine_tuning_started(finished):
    panels = dict(curves(read_run(finished)))
    assert [figure.title for figure in panels["Supervised training"]] == ["Loss", "Validation mAP"]
    tuned = {figure.title: figure for figure in panels["Consistency fine-tuning, without labels"]}
    assert list(tuned) == ["Consistency loss", "Validation mAP", "Correlation", "Mask contrast"]
    title = re.search(r"<title>([^<]+)</title>", tuned["Validation mAP"].svg)[1]
    assert "Ours: from 70.200 to" in title
    assert "epoch 7 kept" in title
    assert tuned["Correlation"].legend[-1] == ("between", "Different images, ours")


def test_a_run_that_changed_nothing_draws_neither_gains_nor_scatter(finished):
    run = read_run(finished)
    still = {**run.localisation, "consistency": run.localisation["supervised"]}
    assert scatter(type(run)(**{**vars(run), "localisation": still})) is None
    nothing = {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    assert gain_plot({"gain": {"map": nothing}}) is None


def test_a_training_of_one_epoch_is_a_dot_inside_the_axes():
    drawn = line_chart("Loss", [Line("Supervised", "ours", ((1.0, 0.5),))])
    ((x, y),) = re.findall(r'circle class="dot ours" cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert 0 < float(x) < 360
    assert 0 < float(y) < 216
    assert "nan" not in drawn
