"""`atcon advise`: runs on small training sets of a user's data, and what their records say."""

import json

import numpy as np
import pytest
from pipeline import atcon, sets
from scipy import stats

from atcon.errors import InputError
from atcon.evaluation import HELPS, OPEN, SAME, Rule, shared_covariance
from atcon.experiments.advise import advice_of
from atcon.experiments.advise_plan import plan_of
from atcon.experiments.advise_text import sentences
from atcon.records import read_json

TINY = [*sets("evaluation.gallery=0", "supervised.epochs=1", "consistency.epochs=1")]
QUICK = ("--sizes", "1,2", "--seeds", "2", "--quiet", *TINY)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished advice with its control, and what was printed."""
    out = tmp_path_factory.mktemp("advice") / "out"
    return out, atcon("advise", "digits", *QUICK, "--at", "4", "--control", "--out", out)


def test_an_advice_is_the_gains_of_its_runs(done):
    out, ended = done
    assert (ended.code, ended.err) == (0, "")
    record = read_json(out / "advice.json")
    assert (record["sizes"], record["seeds"], record["asked"]) == ([1, 2], [0, 1], 4)
    for name in ("supervised", "uniform"):
        for entry in record["against"][name]["sizes"]:
            gains = [
                value(cell, "consistency") - value(cell, name)
                for seed in (0, 1)
                for cell in [cell_of(out, entry["per_class"], seed)]
            ]
            assert entry["value"] == pytest.approx(np.mean(gains), abs=1e-3)
            if np.ptp(gains) > 0:  # the test images differ by seed, so nothing is shared
                ends = stats.ttest_1samp(gains, 0).confidence_interval(0.9)
                assert (entry["low"], entry["high"]) == pytest.approx(ends, abs=2e-3)


def cell_of(out, size, seed):
    return read_json(out / "records" / "digits-control" / f"n{size}-seed-{seed}.json")


def value(cell, stage):
    entry = cell["stages"][stage]
    return cell["stages"][entry.get("same_as", stage)]["test"]["map"]


def test_it_says_the_verdict_the_split_and_what_to_do(done):
    text = " ".join(done[1].out.split())
    for part in ("CANNOT TELL YET at N = 4", "Against the uniform mask", "24 test images"):
        assert part in text
    assert "data.judged=development" in text
    assert (done[0] / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_same_command_computes_nothing_again_and_more_seeds_only_what_is_missing(done):
    out, _ = done
    before = {path: path.stat().st_mtime_ns for path in (out / "records").rglob("*.json")}
    again = atcon("advise", "digits", *QUICK, "--at", "4", "--control", "--out", out, "--json")
    assert json.loads(again.out).items() <= read_json(out / "advice.json").items()
    more = ("--seeds", "3", "--control", "--out", out, "--dry-run")
    assert "2 of 6 runs are to be computed" in atcon("advise", "digits", *QUICK, *more).out
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_dry_run_writes_nothing(tmp_path):
    ended = atcon("advise", "digits", "--dry-run", "--out", tmp_path / "out")
    assert ended.code == 0
    assert "N = 40: 5 runs" in ended.out
    assert "the data can give 80" in ended.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--sizes", "2,90"), "90 images of each class are more than the data give"),
        (("--sizes", "2;4"), "not a list of numbers"),
        (("--sizes", "0,4"), "0 is no number of images"),
        (("--seeds", "1"), "two or more"),
        (("--metric", "maps"), "did you mean 'map'"),
        (("--sizes", "4,8", "--at", "2"), "smallest of the sizes is 4"),
        (("--least-gain", "0"), "above 0"),
        (("--confidence", "90"), "such as 0.9"),
        (("--set", "data.per_clas=3"), "data.per_class"),
    ],
)
def test_what_cannot_be_advised_on_is_said_before_anything_runs(options, said, tmp_path):
    ended = atcon("advise", "digits", *options, "--out", tmp_path / "out")
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert not (tmp_path / "out").exists()


def test_data_without_labels_are_refused(tmp_path):
    (tmp_path / "images").mkdir()
    root = f"data.root={tmp_path / 'images'}"
    ended = atcon("advise", "folder", "--set", root, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def records_with(plan, gain, scatter=0.05):
    """Records whose gains are known; all are judged on the same 400 images."""
    found = {}
    rng = np.random.default_rng(0)
    for cell in plan.experiment.cells:
        lift = (gain(cell.per_class) + scatter * rng.normal()) / 100
        resampled = 0.5 + 0.02 * rng.normal(size=50)
        noise = 0.0001 * rng.normal(size=50)
        found[cell] = {
            "judged": "test",
            "unit": "images",
            "counts": {"test": 400},
            "test_groups": None,
            "test_images": "one",
            "seconds": {"total": 1.0},
            "stages": {
                "supervised": entry(0.5, resampled),
                "consistency": entry(0.5 + lift, resampled + lift + noise),
            },
        }
    return found


def entry(point, values):
    text = " ".join(str(round(10_000 * one)) for one in values)
    return {"test": {"map": 100 * point}, "resampled": {"map": text}}


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (lambda n: 0 * n + 3.0, HELPS),
        (lambda n: 0 * n, SAME),
        (lambda n: max(0.0, 2 * np.log2(16 / n)), OPEN),
    ],
)
def test_the_verdict_is_that_of_the_gains(gain, verdict):
    plan = plan_of("digits", sizes=(2, 4, 8, 16), at=32)
    record = advice_of(plan, records_with(plan, gain), Rule(0.5))
    assert record["against"]["supervised"]["verdict"] == verdict
    assert verdict.upper() in sentences(record)[0]


def test_a_full_set_out_of_reach_is_left_open_and_the_next_size_is_said():
    plan = plan_of("digits", sizes=(2, 4, 8))
    record = advice_of(plan, records_with(plan, lambda n: 0 * n + 3.0), Rule(0.5))
    found = record["against"]["supervised"]
    assert (found["verdict"], found["at"]["verdict"], found["at"]["per_class"]) == (OPEN, HELPS, 16)
    assert "--sizes up to 40" in " ".join(sentences(record))


def test_the_size_where_the_gain_fades_is_said():
    plan = plan_of("digits", sizes=(2, 4, 8, 16), at=32)
    records = records_with(plan, lambda n: 2 - 0.5 * np.log2(n / 2))
    fades = advice_of(plan, records, Rule(0.75))["against"]["supervised"]["fades"]
    assert fades["low"] < 2 * 2**2.5 < fades["high"]
    assert fades["value"] == pytest.approx(2 * 2**2.5, rel=0.15)


def test_it_says_that_too_few_runs_changed_anything():
    plan = plan_of("digits", sizes=(2, 4), at=8)
    record = advice_of(plan, records_with(plan, lambda n: 0 * n, scatter=0), Rule(0.5))
    assert record["against"]["supervised"]["verdict"] == OPEN
    assert "too few runs changed anything" in " ".join(sentences(record))


def test_a_missing_cell_is_named():
    plan = plan_of("digits", sizes=(2, 4), at=8)
    records = records_with(plan, lambda n: 0 * n)
    del records[plan.experiment.cells[3]]
    with pytest.raises(InputError, match="n2-seed-3"):
        advice_of(plan, records, Rule(0.5))


def test_the_covariance_of_shared_images_is_found_below_that_of_each_seed():
    rng = np.random.default_rng(7)
    true = np.array([[0.5, 0.3], [0.3, 0.4]])
    common = rng.multivariate_normal([0, 0], true, size=20_000).T
    own = rng.normal(size=(6, 2, 20_000))
    found = shared_covariance(common + own, units=1000)
    assert found == pytest.approx(true, abs=0.02)
