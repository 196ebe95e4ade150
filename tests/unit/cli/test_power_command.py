"""`atcon power`: the table is the library's, and what is no pilot is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from finished_folders import make_finished
from grid_records import cell_of, small_experiment
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
from atcon.experiments.cell_record import values_on_resamples
from atcon.experiments.compare_records import read_answers, read_folders
from atcon.experiments.grid import fingerprint, record_path
from atcon.records import read_json, write_json


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


@pytest.fixture
def records(tmp_path, monkeypatch):
    """An experiment of two sizes; ours gains 2 points, more or less by seed and by resample."""
    monkeypatch.chdir(tmp_path)
    experiment, random = small_experiment(tmp_path), np.random.default_rng(5)
    for cell in experiment.cells:
        record = cell_of(cell.per_class, cell.seed)
        ours = record["stages"]["consistency"]
        moves = random.normal(cell.seed - 1, 0.5, 201)
        values = values_on_resamples(ours["resampled"]["map"]) * 100 + moves[1:]
        ours["resampled"]["map"] = " ".join(str(round(100 * one)) for one in values)
        ours["test"]["map"] += moves[0]
        record["configuration"] = fingerprint(experiment.run_config(cell))
        write_json(record_path(Path("results"), experiment, cell), record)
    return "--experiment", "small.yaml", "--gain", "3"


def test_records_of_an_experiment_are_a_pilot_without_its_runs(records):
    ended = atcon("power", *records, "--per-class", "4", "--json")
    assert (ended.code, ended.err) == (0, "")
    record = json.loads(ended.out)
    kept = [read_json(path)["stages"] for path in sorted(Path("results/small").glob("n4-*.json"))]
    values, points = (
        np.array([read(one["consistency"]) - read(one["supervised"]) for one in kept])
        for read in (
            lambda stage: 100 * values_on_resamples(stage["resampled"]["map"]),
            lambda stage: stage["test"]["map"],
        )
    )
    parts = components(values, points, units=1200)
    assert (record["row"], record["unit"]) == ("small:consistency", "images")
    assert record["pilot"]["value"] == pytest.approx(points.mean(), abs=1e-4)
    assert record["pilot"]["deviations"]["own"] == pytest.approx(
        np.sqrt(parts.own / 1200), rel=1e-3
    )
    assert record["table"][1]["units"] == 1200
    expected = power(parts, 3, seeds=5, units=1200)
    assert record["table"][1]["power"][1] == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "small has sizes 2, 4: say which, --per-class N"),
        (("--per-class", "3"), "two or more finished cells of N = 3, and there is none"),
        (("--per-class", "4", "--stage", "uniformm"), "did you mean 'uniform'?"),
        (("--per-class", "4", "--against", "start"), "no stage 'start'"),
        (("--per-class", "4", "--metric", "epg"), "no metric 'epg'"),
        (("--per-class", "4", "--against", "consistency"), "the same predictions as consistency"),
        (("--per-class", "4", "a"), "as runs of several seeds or as --experiment NAME"),
        (("--per-class", "4", "--gain", "0"), "a gain of 0.0 cannot be found"),
    ],
)
def test_records_that_are_no_pilot_are_refused(records, options, said):
    ended = atcon("power", *records, *options)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_without_runs_and_without_an_experiment_there_is_no_pilot():
    ended = atcon("power", "--gain", "1")
    assert ended.code == 2
    assert "as runs of several seeds or as --experiment NAME" in ended.err
