import numpy as np
import pytest
from finished_folders import edit, make_finished
from pipeline import atcon, folder_config, make_folder

from atcon.errors import InputError
from atcon.evaluation import bootstrap, on_resamples, resample_weights, weighted_mean
from atcon.experiments.cell_record import RESAMPLES, cell_record, values_on_resamples
from atcon.experiments.compare import compare
from atcon.experiments.compare_metrics import METRICS
from atcon.experiments.compare_records import read_answers, read_folders
from atcon.experiments.config import load_config
from atcon.experiments.finished import evaluate
from atcon.experiments.folder import RunFolder
from atcon.experiments.resampling import groups_of, resampled_record, weights_for
from atcon.experiments.run import run
from atcon.records import read_json
from atcon.report import write_report


def test_without_groups_the_resamples_are_those_of_the_images():
    images = [(f"{index}.png", None) for index in range(30)]
    assert groups_of(images) is None
    expected = resample_weights(30, 50, seed=np.random.default_rng([4, 2]))
    assert np.array_equal(weights_for(30, groups_of(images), 50, 4), expected)
    assert resampled_record(groups_of(images)) == {"resampled": "images", "test_groups": None}


def test_images_of_a_group_are_drawn_together_and_one_without_stands_alone():
    groups = groups_of([("1", "p"), ("2", "p"), ("3", None), ("4", "q"), ("p", None)])
    weights = weights_for(5, groups, 200, 0)
    assert np.array_equal(weights[:, 0], weights[:, 1])
    for one, other in ((0, 2), (0, 3), (0, 4), (2, 3)):
        assert not np.array_equal(weights[:, one], weights[:, other])
    drawn = weights[:, [0, 2, 3, 4]].sum(axis=1)
    assert np.array_equal(drawn, np.full(200, 4.0))
    assert resampled_record(groups) == {"resampled": "groups", "test_groups": 4}


def test_one_group_leaves_nothing_to_resample_and_is_refused():
    with pytest.raises(InputError, match=r"the whole test part is of one group \(p\)"):
        groups_of([("1", "p"), ("2", "p")])


def test_intervals_over_few_groups_of_alike_images_are_wider():
    values = np.repeat([0.1, 0.4, 0.6, 0.9], 25)
    metric = weighted_mean(values, np.ones(100, dtype=bool))
    groups = [f"p{index // 25}" for index in range(100)]
    wide = bootstrap(metric, weights_for(100, groups, 2000, 0))
    narrow = bootstrap(metric, weights_for(100, None, 2000, 0))
    assert wide.value == narrow.value
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


@pytest.fixture(scope="module")
def grouped_run(tmp_path_factory):
    """A run on images whose file names say the patient: 27 images of 9 patients."""
    base = tmp_path_factory.mktemp("grouped")
    root = make_folder(base / "images")
    config = folder_config(base / "own.yaml", root, "group: '^.(.)'")
    run(load_config(str(config), ["data.validation_images=3"]), base / "run")
    return base / "run"


def test_a_run_resamples_whole_groups_and_says_so(grouped_run):
    summary, split = (read_json(grouped_run / f"{name}.json") for name in ("summary", "split"))
    groups = {entry["group"] for entry in split["test"]}
    assert summary["resampled"] == "groups"
    assert summary["test_groups"] == len(groups)
    for part in ("train", "validation"):
        assert not groups & {entry["group"] for entry in split[part]}
    assert "groups of test images are what the intervals cover" in summary["verdict"]["reasons"][-1]
    assert any(note["name"] == "data.group" for note in split["notes"])
    page = write_report(grouped_run).read_text(encoding="utf-8")
    assert f"bootstrap resamples of the {len(groups)} groups of test images" in page
    assert f"{len(groups)} among the test images; intervals resample whole groups" in page


def test_evaluation_and_comparison_resample_the_same_groups(grouped_run):
    summary = read_json(grouped_run / "summary.json")
    again = evaluate(grouped_run)
    assert (again["resampled"], again["test_groups"]) == ("groups", summary["test_groups"])
    table = compare([grouped_run], metrics=["f1"])
    assert (table["resampled"], table["test_groups"]) == ("groups", summary["test_groups"])
    for row in table["rows"]:
        stage, measured = row["stage"], row["metrics"]["f1"]
        told = [measured["low"], measured["high"]]
        assert told == pytest.approx(summary["stages"][stage]["intervals"]["f1"], abs=0.01)
        assert (
            again["stages"]["supervised"]["intervals"]
            == (summary["stages"]["supervised"]["intervals"])
        )
    shown = atcon("compare", grouped_run).out
    assert (
        f"over the {summary['test_groups']} groups of {table['test_images']} test images" in shown
    )
    shown = atcon("evaluate", grouped_run, "--quiet").out
    assert "intervals over whole groups" in " ".join(shown.split())


def test_the_record_of_a_cell_resamples_groups_and_says_so(grouped_run):
    record = cell_record(RunFolder(grouped_run))
    test = read_json(grouped_run / "split.json")["test"]
    assert (record["resampled"], record["test_groups"]) == (
        "groups",
        len({e["group"] for e in test}),
    )
    answers = read_answers(read_folders([grouped_run])[0], "supervised", ())
    groups = {entry["name"]: entry["group"] for entry in test}
    weights = resample_weights(
        len(test), RESAMPLES, seed=2012, groups=[groups[name] for name in answers.names]
    )
    expected = on_resamples(METRICS["f1"].of(answers), weights)
    told = values_on_resamples(record["stages"]["supervised"]["resampled"]["f1"])
    assert told == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_runs_whose_groups_differ_are_compared_over_those_of_the_first(tmp_path):
    first, second = make_finished(tmp_path / "a"), make_finished(tmp_path / "b", method=1)

    def add_groups(split):
        for index, entry in enumerate(split["test"]):
            entry["group"] = f"p{index // 4}"

    edit(first / "split.json", add_groups)
    table = compare([first, second], metrics=["f1"])
    assert table["test_groups"] == 15
    assert any("data.group differs between the runs" in note for note in table["notes"])
    assert compare([second, first], metrics=["f1"])["resampled"] == "images"
