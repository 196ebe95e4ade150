"""A comparison is held to scikit-learn, scipy and plain loops."""

import csv

import numpy as np
import pytest
from finished_folders import CLASSES, OTHER, make_finished
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score

from atcon.errors import InputError
from atcon.evaluation import holm, resample_weights
from atcon.experiments.compare import COLUMNS, compare, write_table
from atcon.records import read_csv, read_json, write_text


def table_of(run, stage):
    """Labels and probabilities as they stand in the CSV, read without our code."""
    with (run / "predictions" / f"{stage}.csv").open(newline="") as handle:
        rows = list(csv.reader(handle))[1:]
    truth = {one["name"]: one["labels"] for one in read_json(run / "split.json")["test"]}
    labels = np.array([[name in truth[row[0]] for name in CLASSES] for row in rows])
    return labels, np.array([[float(cell) for cell in row[3:]] for row in rows])


def precision_of(run, stage, weights):
    """Mean average precision on every resample, by scikit-learn."""
    labels, scores = table_of(run, stage)
    return np.array(
        [
            average_precision_score(labels, scores, average="macro", sample_weight=row)
            for row in weights
        ]
    )


def marks_of(run, stage):
    labels, scores = table_of(run, stage)
    return labels, scores > 0.5


def f1_of(run, stage, weights):
    """Macro F1 on every resample, from its counts."""
    labels, predicted = marks_of(run, stage)
    right, false, missed = (
        weights @ cases.astype(float)
        for cases in (labels & predicted, ~labels & predicted, labels & ~predicted)
    )
    return (2 * right / (2 * right + false + missed)).mean(axis=1)


def row_of(record, run, stage):
    (row,) = [row for row in record["rows"] if (row["run"], row["stage"]) == (run, stage)]
    return row["metrics"]


def test_values_are_those_of_scikit_learn(pair):
    record = compare(pair, metrics=("map", "f1", "f1_tuned", "map_weighted", "iou", "consistency"))
    thresholds = np.array(read_json(pair[1] / "summary.json")["stages"]["combined"]["thresholds"])
    labels, scores = table_of(pair[1], "combined")
    found = {name: one["value"] for name, one in row_of(record, "b", "combined").items()}
    places = read_csv(pair[1] / "localisation" / "combined.csv")
    ious = [float(place["iou"]) for place in places if place["iou"]]
    assert 0 < len(ious) < len(places)
    expected = {
        "map": 100 * average_precision_score(labels, scores),
        "f1": 100 * f1_score(labels, scores > 0.5, average="macro"),
        "f1_tuned": 100 * f1_score(labels, scores > thresholds, average="macro"),
        "map_weighted": 100 * average_precision_score(labels, scores, average="weighted"),
        "iou": 100 * np.mean(ious),
        "consistency": np.mean([float(place["correlation"]) for place in places]),
    }
    assert found == pytest.approx(expected, abs=6e-4)


def test_a_difference_is_the_paired_bootstrap_of_scikit_learns_metric(pair):
    record = compare(pair, metrics=("map",))
    weights = resample_weights(60, 200, seed=np.random.default_rng([0, 2]))
    arms = [precision_of(*arm, weights) for arm in ((pair[1], "combined"), (pair[0], "supervised"))]
    drawn = 100 * (arms[0] - arms[1])
    found = row_of(record, "b", "combined")["map"]["difference"]
    assert (found["low"], found["high"]) == pytest.approx(
        tuple(np.quantile(drawn, [0.025, 0.975])), abs=6e-4
    )
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    assert found["p"] == pytest.approx(2 * (1 + tail) / 201, abs=1e-5)
    assert found["over_seeds"] is None
    own = row_of(record, "b", "combined")["map"]
    assert (own["low"], own["high"]) == pytest.approx(
        tuple(np.quantile(100 * arms[0], [0.025, 0.975])), abs=6e-4
    )
    start = row_of(record, "a", "supervised")["map"]
    assert start["difference"] is None
    assert found["value"] == pytest.approx(own["value"] - start["value"], abs=2e-3)


def test_each_metric_is_a_family_corrected_over_its_comparisons(pair):
    record = compare(pair)
    assert record["comparisons"] == 3
    cleared = []
    for metric in ("map", "f1", "f1_tuned", "iou"):
        differences = [row["metrics"][metric]["difference"] for row in record["rows"]]
        known = [one for one in differences if one is not None]
        assert len(known) == 3
        corrected = holm([one["p"] for one in known])
        assert [one["p_holm"] for one in known] == pytest.approx(corrected, abs=3e-5)
        assert [one["clear"] for one in known] == [p < 0.05 for p in corrected]
        cleared += [one["clear"] for one in known]
    assert True in cleared
    assert False in cleared


def test_a_shared_stage_is_shown_once_and_named(pair):
    record = compare(pair)
    names = [(row["run"], row["stage"]) for row in record["rows"]]
    stages = ("supervised", "consistency", "uniform")
    assert names == [*(("a", stage) for stage in stages), ("b", "combined")]
    assert record["rows"][0]["same"] == [{"run": "b", "stage": "supervised"}]
    assert record["notes"] == ["the same predictions as a:supervised, shown once: b:supervised"]


def test_stages_whose_maps_differ_are_two_rows_where_the_maps_are_compared(fresh):
    path = fresh[1] / "localisation" / "supervised.csv"
    path.write_text(path.read_text().replace("0.1\r", "0.2\r").replace(",0.1\n", ",0.2\n"))
    alike = compare(fresh, metrics=("map",))
    apart = compare(fresh, metrics=("map", "mask_contrast"))
    assert (len(alike["rows"]), len(apart["rows"])) == (4, 5)
    found = row_of(apart, "b", "supervised")
    assert found["map"]["difference"]["p"] == 1
    assert found["mask_contrast"]["difference"]["value"] == pytest.approx(0.1)


@pytest.mark.parametrize("against", ["b:combined", "combined", "{b}:combined"])
def test_the_reference_is_a_row_of_ones_choice(pair, against):
    record = compare(pair, against=against.format(b=pair[1]), metrics=("map",))
    assert record["reference"] == {"run": "b", "stage": "combined"}
    assert row_of(record, "b", "combined")["map"]["difference"] is None
    other = row_of(compare(pair, metrics=("map",)), "b", "combined")["map"]["difference"]
    mirrored = row_of(record, "a", "supervised")["map"]["difference"]
    assert mirrored["value"] == pytest.approx(-other["value"])
    assert (mirrored["low"], mirrored["high"]) == pytest.approx((-other["high"], -other["low"]))


def test_chosen_stages_stand_beside_the_reference(pair):
    record = compare(pair, stages=("combined",), metrics=("map",))
    assert [row["stage"] for row in record["rows"]] == ["supervised", "combined"]


def test_one_run_compares_its_own_stages(pair):
    record = compare(pair[:1], metrics=("map",))
    assert [row["stage"] for row in record["rows"]] == ["supervised", "consistency", "uniform"]


def test_a_run_without_a_supervised_stage_starts_from_its_first(tmp_path):
    run = make_finished(tmp_path / "a", lifts={"simclr": 0.3, "layer_attention": 0.4})
    assert compare([run])["reference"] == {"run": "a", "stage": "simclr"}


def test_the_order_of_the_test_images_does_not_matter(fresh):
    before = compare(fresh)
    for table in fresh[1].glob("*/*.csv"):
        head, *rows = table.read_text().splitlines()
        table.write_text("\n".join([head, *reversed(rows)]) + "\n")
    assert compare(fresh) == before


def test_runs_that_differ_in_their_seed_only_are_one_method(seeds):
    record = compare(seeds, metrics=("f1",))
    assert (record["runs"], record["seeds"]) == (["a", "b"], [0, 1, 2, 3])
    weights = resample_weights(60, 200, seed=np.random.default_rng([0, 2]))
    runs = [[root / f"seed-{seed}" for seed in range(4)] for root in seeds]
    after = np.stack([f1_of(run, "combined", weights) for run in runs[1]])
    before = np.stack([f1_of(run, "supervised", weights) for run in runs[0]])
    chosen = np.random.default_rng([0, 3]).integers(4, size=(200, 4))
    drawn = [(after - before)[seed, draw].mean() for draw, seed in enumerate(chosen)]
    found = row_of(record, "b", "combined")["f1"]["difference"]
    assert (found["low"], found["high"]) == pytest.approx(
        tuple(100 * np.quantile(drawn, [0.025, 0.975])), abs=6e-4
    )
    tail = min(sum(d <= 0 for d in drawn), sum(d >= 0 for d in drawn))
    assert found["p"] == pytest.approx(2 * (1 + tail) / 201, abs=1e-5)
    points = [
        f1_score(*marks_of(b, "combined"), average="macro")
        - f1_score(*marks_of(a, "supervised"), average="macro")
        for a, b in zip(*runs, strict=True)
    ]
    t = stats.ttest_1samp(points, 0)
    ends = t.confidence_interval(0.95)
    over_seeds = found["over_seeds"]
    assert found["value"] == over_seeds["value"] == pytest.approx(100 * np.mean(points), abs=6e-4)
    assert over_seeds["p"] == pytest.approx(t.pvalue, abs=1e-5)
    assert (over_seeds["low"], over_seeds["high"]) == pytest.approx(
        (100 * ends.low, 100 * ends.high), abs=6e-4
    )


def test_over_seeds_a_difference_is_clear_where_both_tests_say_so(seeds):
    names = ("map", "iou", "consistency")
    two = [root / f"seed-{seed}" for root in seeds for seed in (0, 1)]  # one degree of freedom
    seen = set()
    for record in (compare(seeds, metrics=names), compare(two, metrics=names)):
        for metric in names:
            entries = [row["metrics"][metric]["difference"] for row in record["rows"]]
            known = [one for one in entries if one is not None]
            for kind in (known, [one["over_seeds"] for one in known]):
                corrected = holm([one["p"] for one in kind])
                assert [one["p_holm"] for one in kind] == pytest.approx(corrected, abs=4e-5)
            for one in known:
                both = one["p_holm"] < 0.05, one["over_seeds"]["p_holm"] < 0.05
                assert one["clear"] == all(both)
                seen.add(both)
    assert {(True, True), (True, False), (False, False)} <= seen


def test_loose_folders_of_seeds_are_the_same_method_in_any_order(seeds):
    loose = [root / f"seed-{seed}" for seed in (2, 0, 3, 1) for root in seeds]
    whole, found = compare(seeds), compare(loose)
    assert found == whole


def test_runs_of_one_configuration_and_seed_are_told_apart_by_their_folders(tmp_path):
    old, new = (make_finished(tmp_path / name / "run") for name in ("old", "new"))
    record = compare([old, new], metrics=("map",))
    assert record["runs"] == ["old/run", "new/run"]
    assert [len(row["same"]) for row in record["rows"]] == [1, 1, 1]


def test_a_metric_that_no_image_defines_is_empty_and_no_comparison(tmp_path):
    runs = [make_finished(tmp_path / name, method=at, boxes=False) for at, name in enumerate("ab")]
    record = compare(runs)
    for row in record["rows"]:
        assert row["metrics"]["iou"] == dict.fromkeys(("value", "low", "high", "difference"))
        assert row["metrics"]["map"]["value"] is not None


def test_single_label_runs_are_judged_by_their_top_class(tmp_path):
    runs = [
        make_finished(tmp_path / name, method=at, multi_label=False, lifts=lifts)
        for at, (name, lifts) in enumerate((("a", None), ("b", OTHER)))
    ]
    labels, scores = table_of(runs[1], "combined")
    top = np.eye(3)[scores.argmax(axis=1)]
    found = row_of(compare(runs, metrics=("f1",)), "b", "combined")["f1"]["value"]
    assert found == pytest.approx(100 * f1_score(labels, top, average="macro"), abs=6e-4)


def test_a_real_run_has_the_intervals_and_gains_of_its_own_summary(finished_run):
    summary = read_json(finished_run / "summary.json")
    names = ("map", "f1", "f1_tuned", "map_weighted", "iou", "epg", "consistency")
    record = compare([finished_run], metrics=names)
    (run,) = record["runs"]
    for row in record["rows"]:
        stage = summary["stages"][row["stage"]]
        for name in names:
            found = row["metrics"][name]
            near = 1e-4 if name == "consistency" else 2e-3
            assert found["value"] == pytest.approx(stage["test"][name], abs=near)
            assert [found["low"], found["high"]] == pytest.approx(
                stage["intervals"][name], abs=near
            )
    if {"run": run, "stage": "consistency"} in record["rows"][0]["same"]:
        assert summary["gain"]["map"]["value"] == 0
    else:
        for name in names:
            gain = row_of(record, run, "consistency")[name]["difference"]
            assert {key: gain[key] for key in ("value", "low", "high", "p")} == pytest.approx(
                summary["gain"][name], abs=2e-3
            )


def test_the_table_is_written_as_csv_and_replaces_only_its_own_kind(seeds, tmp_path):
    record = compare(seeds, metrics=("map", "iou"))
    for _ in range(2):
        write_table(tmp_path / "table.csv", record)
    rows = read_csv(tmp_path / "table.csv")
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 2 * len(record["rows"])
    (row,) = [r for r in rows if (r["run"], r["stage"], r["metric"]) == ("b", "combined", "iou")]
    entry = row_of(record, "b", "combined")["iou"]
    found = {key: float(row[key]) for key in ("value", "low", "difference", "p_holm", "t_high")}
    change = entry["difference"]
    assert found == {
        "value": entry["value"], "low": entry["low"], "difference": change["value"],
        "p_holm": change["p_holm"], "t_high": change["over_seeds"]["high"],
    }  # fmt: skip
    assert (row["seeds"], row["clear"]) == ("0 1 2 3", str(int(change["clear"])))
    assert rows[0]["difference"] == ""
    write_text(tmp_path / "own.csv", "three years of work\n")
    for path in (tmp_path / "own.csv", tmp_path):
        with pytest.raises(InputError, match="is not a table of atcon compare"):
            write_table(path, record)
    assert (tmp_path / "own.csv").read_text() == "three years of work\n"


def test_columns_that_older_runs_lack_are_not_defined_and_newer_ones_are_read(fresh):
    table = fresh[0] / "localisation" / "consistency.csv"
    old = compare(fresh[:1], metrics=("pointing", "max_box_acc", "iou_reference", "iou"))
    found = row_of(old, "a", "consistency")
    assert {found[name]["value"] for name in ("pointing", "max_box_acc", "iou_reference")} == {None}
    assert found["iou"]["value"] > 0
    for stage in ("supervised", "consistency", "uniform"):
        table = fresh[0] / "localisation" / f"{stage}.csv"
        head, *rows = table.read_text().splitlines()
        lines = [head + ",iou_reference,pointing,box_ious"]
        for at, row in enumerate(rows):
            placed = row.split(",")[3]
            cells = ",".join([placed, str(at % 2), ";".join(["0.1"] * 19 + [placed])])
            lines.append(row + "," + (cells if placed else ",,"))
        write_text(table, "\n".join(lines) + "\n")
    new = compare(fresh[:1], metrics=("pointing", "max_box_acc", "iou_reference", "iou"))
    found = row_of(new, "a", "consistency")
    assert found["iou_reference"] == found["iou"]
    rows = read_csv(fresh[0] / "localisation" / "consistency.csv")
    ious = np.array([float(row["iou"]) for row in rows if row["iou"]])
    points = [at % 2 for at, row in enumerate(rows) if row["iou"]]
    assert found["pointing"]["value"] == pytest.approx(100 * np.mean(points), abs=1e-3)
    fits = [np.mean(ious >= least) for least in (0.3, 0.5, 0.7)]
    assert found["max_box_acc"]["value"] == pytest.approx(100 * np.mean(fits), abs=1e-3)


def test_a_cell_with_too_few_values_is_named(fresh):
    table = fresh[0] / "localisation" / "supervised.csv"
    head, *rows = table.read_text().splitlines()
    rows = [f"{row},0.5,1,0.5;0.5" for row in rows]
    write_text(table, "\n".join([head + ",iou_reference,pointing,box_ious", *rows]) + "\n")
    with pytest.raises(InputError, match="image t0: 2 values in a cell, expected 20"):
        compare(fresh[:1], metrics=("max_box_acc",))
