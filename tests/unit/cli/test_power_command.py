"""`atcon power`: the table is the library's, and what is no pilot is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from finished_folders import make_finished
from pipeline import atcon

from atcon.evaluation import (
    components,
    mean_average_precision,
    needed_seeds,
    on_resamples,
    point,
    power,
    resample_weights,
)
from atcon.experiments.compare_records import read_answers, read_folders


@pytest.fixture
def pilot(tmp_path, monkeypatch):
    """The working folder with one method over four seeds."""
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        make_finished(Path("a") / f"seed-{seed}", seed, lifts={"supervised": 0.3, "ours": 0.4})
    return "a"


def test_the_power_is_that_of_the_components_of_the_runs(pilot):
    ended = atcon("power", pilot, "--gain", "3", "--stage", "ours", "--json")
    assert (ended.code, ended.err) == (0, "")
    record = json.loads(ended.out)
    weights = resample_weights(60, 200, seed=np.random.default_rng([0, 2]))
    metrics = [
        [
            mean_average_precision(answers.labels, answers.probabilities)
            for run in read_folders([Path("a")])
            for answers in [read_answers(run, stage, ())]
        ]
        for stage in ("ours", "supervised")
    ]
    values = [np.stack([on_resamples(metric, weights) for metric in one]) for one in metrics]
    points = [np.array([float(point(metric, 60)) for metric in one]) for one in metrics]
    points = 100 * (points[0] - points[1])
    parts = components(100 * (values[0] - values[1]), points, units=60)
    assert record["pilot"]["value"] == pytest.approx(points.mean(), abs=1e-4)
    assert record["pilot"]["deviations"]["seeds"] == pytest.approx(np.sqrt(parts.seeds), abs=1e-4)
    assert [line["units"] for line in record["table"]] == [30, 60, 120, 240]
    for line in record["table"]:
        for seeds, promised in zip(record["columns"], line["power"], strict=True):
            expected = power(parts, 3, seeds=seeds, units=line["units"])
            assert promised == pytest.approx(expected, abs=6e-4)
        assert line["needed_seeds"] == needed_seeds(parts, 3, units=line["units"])


def test_the_table_shows_what_the_record_holds(pilot):
    options = ("power", pilot, "--gain", "3", "--stage", "ours", "--metric", "f1")
    record, shown = json.loads(atcon(*options, "--json").out), atcon(*options).out
    assert "Chance to find a gain of +3 in F1" in shown
    for line in record["table"]:
        needed = "–" if line["needed_seeds"] is None else str(line["needed_seeds"])
        words = [str(line["units"]), *(f"{share:.0%}" for share in line["power"]), needed]
        assert words in [row.split() for row in shown.splitlines()]
    assert "Pilot: a:ours minus a:supervised, 4 seeds, 60 test images:" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("a/seed-0", "--gain", "3"), "of one seed: how much seeds differ is seen from"),
        (("a", "--gain", "0"), "a gain of 0.0 cannot be found"),
        (("a", "--gain", "3", "--metric", "mpa"), "map"),
        (("a", "--gain", "3", "--stage", "our"), "ours"),
    ],
)
def test_what_is_no_pilot_is_refused(pilot, options, said):
    stage = () if "--stage" in options else ("--stage", "ours")
    ended = atcon("power", *options, *stage)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_a_stage_that_kept_its_start_is_no_pilot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        make_finished(Path(f"{seed}"), seed, lifts={"supervised": 0.3})
        for kind in ("predictions", "localisation"):
            table = Path(f"{seed}") / kind / "supervised.csv"
            (table.parent / "kept.csv").write_text(table.read_text())
        summary = Path(f"{seed}") / "summary.json"
        content = json.loads(summary.read_text())
        content["stages"]["kept"] = content["stages"]["supervised"]
        summary.write_text(json.dumps(content))
    ended = atcon("power", "0", "1", "--gain", "1", "--stage", "kept")
    assert ended.code == 2
    assert "kept gives the same predictions" in ended.err
