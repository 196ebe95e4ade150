"""Experiments: cells that survive a stop, and tables from their records alone."""

import json
import re

import numpy as np
import pytest
from pipeline import TINY, atcon, tiny
from sklearn.metrics import average_precision_score

from atcon.data import Reader
from atcon.errors import InputError
from atcon.evaluation import resample_weights
from atcon.experiments.cell_record import RESAMPLES, values_on_resamples
from atcon.experiments.config import variant_of
from atcon.experiments.engines import cell as one_cell
from atcon.experiments.engines.table import run_cells
from atcon.experiments.engines.work import Work
from atcon.experiments.grid import (
    Cell,
    fingerprint,
    finished,
    part_of,
)
from atcon.experiments.grid_tables import (
    calibration_table,
    gains_table,
    quartile_table,
    seconds_table,
    tables_of,
    validation_table,
    values_table,
)
from atcon.experiments.parts import followed_of, split_of
from atcon.experiments.regret import Cell as Followed
from atcon.experiments.regret import regret_table, regrets
from atcon.experiments.shipped import experiment_of, experiments
from atcon.experiments.sources import image_set_of
from atcon.records import read_csv, read_json, read_lines, write_json

YAML = """\
name: small
title: a small one
config: digits
set:
{settings}
  supervised.epochs: 1
  consistency.epochs: 2
  consistency.signals: true
  consistency.validate_every: 1 epoch
  evaluation.followed_images: 12
  evaluation.gallery: 0
  variants:
    again: {{}}
    never: {{stopping: start}}
per_class: [1, 2]
seeds: [3, 4]
against: [supervised, uniform]
metrics: [map]
tables: [gains, validation, calibration, seconds, lowest_quartile, rules]
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small experiment on the embedded digits, as a user writes one."""
    settings = (entry.split("=") for entry in TINY if not entry.startswith("data.per_class"))
    lines = "\n".join(f"  {key}: {value}" for key, value in settings if f" {key}: " not in YAML)
    path = tmp_path_factory.mktemp("experiment") / "small.yaml"
    path.write_text(YAML.format(settings=lines))
    return path


@pytest.fixture(scope="module")
def done(source):
    """Two of its four cells by one process, the others by another."""
    folder = source.parent
    places = ("--out", folder / "runs", "--results", folder / "results")
    for part in ("1/2", "2/2"):
        ended = atcon("experiment", "run", source, "--part", part, *places)
        assert ended.code == 0, ended.err
    return folder


def _records(done, source):
    return dict(finished(done / "results", experiment_of(str(source))))


def test_every_shipped_experiment_gives_a_configuration_for_each_of_its_cells():
    for one in experiments(small=True).values():
        configs = [one.run_config(cell) for cell in one.cells]
        assert len({fingerprint(config) for config in configs}) == len(configs)
        assert len({cell.name for cell in one.cells}) == len(one.per_class) * len(one.seeds)


def test_parts_are_disjoint_and_together_everything():
    cells = [Cell(count, seed) for seed in range(3) for count in (2, 4)]
    parts = [part_of(cells, f"{index}/4") for index in (1, 2, 3, 4)]
    assert sorted((cell for part in parts for cell in part), key=cells.index) == cells
    assert part_of(cells, None) == cells
    for wrong in ("0/2", "3/2", "1", "a/2", "1/0"):
        with pytest.raises(InputError, match="write it as 1/2"):
            part_of(cells, wrong)


def test_cells_of_two_processes_are_all_there_and_no_weights_are_left(done, source):
    ended = atcon("experiment", "status", source, "--results", done / "results")
    assert ended.out == "N = 1: seeds 3, 4\nN = 2: seeds 3, 4\n4 of 4 cells are finished\n"
    names = {path.stem for path in (done / "results/small").iterdir()}
    assert names == {"n1-seed-3", "n2-seed-3", "n1-seed-4", "n2-seed-4"}
    assert not list(done.rglob("*.safetensors"))


def test_a_record_holds_the_metrics_of_the_run_and_of_its_resamples(done):
    run = done / "runs/small/n2-seed-4"
    record = read_json(done / "results/small/n2-seed-4.json")
    summary = read_json(run / "summary.json")
    assert (record["seed"], record["per_class"]) == (4, 2)
    rows = read_csv(run / "predictions/supervised.csv")
    names = list(rows[0])[3:]
    scores = np.array([[float(row[name]) for name in names] for row in rows])
    marks = np.array([[name in row["labels"].split(";") for name in names] for row in rows])
    weights = resample_weights(len(rows), RESAMPLES, seed=2012)
    own = record["stages"]["supervised"]
    for metric in ("map", "f1", "iou"):
        expected = summary["stages"]["supervised"]["test"][metric]
        assert own["test"][metric] == pytest.approx(expected, abs=2e-3)
    found = values_on_resamples(own["resampled"]["map"])
    for at in (0, 7):
        drawn = np.repeat(np.arange(len(rows)), weights[at].astype(int))
        seen = [index for index in range(len(names)) if marks[drawn, index].any()]
        expected = average_precision_score(marks[drawn][:, seen], scores[drawn][:, seen])
        assert found[at] == pytest.approx(expected, abs=1e-4)


def test_the_lowest_quartile_is_that_of_the_start_for_every_stage(done):
    run = done / "runs/small/n2-seed-3"
    record = read_json(done / "results/small/n2-seed-3.json")
    tables = {
        stage: {
            row["name"]: float(row["correlation"])
            for row in read_csv(run / f"localisation/{stage}.csv")
            if row["correlation"]
        }
        for stage in ("supervised", "uniform")
    }
    start = tables["supervised"]
    least = sorted(start, key=start.__getitem__)[: len(start) // 4]
    for stage, values in tables.items():
        entry = record["stages"][stage]
        entry = record["stages"].get(entry.get("same_as"), entry)
        expected = np.mean([values[name] for name in least])
        assert entry["lowest_quartile"] == pytest.approx(expected, abs=1e-4)


def test_a_variant_without_changes_is_the_method_and_one_that_never_trains_is_the_start(done):
    for path in (done / "results/small").iterdir():
        stages = read_json(path)["stages"]
        assert stages["again"]["same_as"] in ("consistency", "supervised")
        assert stages["never"]["same_as"] == "supervised"
        assert "resampled" not in stages["never"]
        assert stages["again"]["epoch"] == stages["consistency"]["epoch"]


def test_the_rounds_begin_with_the_start_and_hold_what_each_round_measured(done):
    record = read_json(done / "results/small/n1-seed-3.json")
    lines = [
        line
        for line in read_lines(done / "runs/small/n1-seed-3/metrics.jsonl")
        if line["stage"] == "consistency"
    ]
    assert len(record["rounds"]) == 3
    assert record["rounds"][0]["signals"]["drift"] == 0
    for seen, line in zip(record["rounds"][1:], lines, strict=True):
        assert seen["validation"] == line["validation"]["map"]
        assert seen["held_out"] == line["validation"]["held_out"]
        assert "held_out" not in seen["signals"]


def test_followed_images_are_in_no_other_part(done):
    config = experiment_of(str(done / "small.yaml")).run_config(Cell(2, 3))
    reader = Reader(image_set_of(config.data), 16)
    split = split_of(config, reader)
    followed = {example.name for example in followed_of(config, reader, split).examples}
    others = {e.name for part in (split.train, split.validation, split.test) for e in part}
    assert len(followed) == 12
    assert not followed & others


def test_a_finished_cell_is_not_computed_again_and_a_lost_record_is_made_from_its_run(
    done, source, monkeypatch
):
    def refuse(*_given, **_more):
        raise AssertionError("a finished cell was computed again")

    monkeypatch.setattr(one_cell, "run", refuse)
    one = experiment_of(str(source))
    record = done / "results/small/n2-seed-3.json"
    before = record.read_bytes()
    record.unlink()
    assert run_cells(Work(one, done / "runs", done / "results"), one.cells).failed == {}
    assert record.read_bytes() == before


def test_a_record_of_another_configuration_is_refused_by_name(done, source):
    ended = atcon(
        "experiment", "run", source, "--set", "consistency.lr=1e-3",
        "--out", done / "runs", "--results", done / "results",
    )  # fmt: skip
    assert ended.code == 2
    assert "n1-seed-3.json was made with another configuration" in ended.err


def test_a_cell_that_fails_is_named_and_the_others_are_computed(source, tmp_path, monkeypatch):
    def fail_once(config, out, **_given):
        raise InputError(f"no luck with seed {config.seed}")

    monkeypatch.setattr(one_cell, "run", fail_once)
    one = replace_cells(experiment_of(str(source)), seeds=(3,))
    ended = run_cells(Work(one, tmp_path / "runs", tmp_path / "results"), one.cells)
    assert ended.failed == dict.fromkeys(("n1-seed-3", "n2-seed-3"), "no luck with seed 3")
    assert not (tmp_path / "results").exists()
    ended = atcon(
        "experiment", "run", source, "--out", tmp_path / "r", "--results", tmp_path / "results"
    )
    assert ended.code == 2
    assert "4 cells failed" in ended.err
    assert "n1-seed-4: no luck with seed 4" in ended.err


def replace_cells(one, **changes):
    return one.model_copy(update=changes)


def test_the_fingerprint_is_of_what_a_result_depends_on():
    config = tiny()
    assert fingerprint(config) == fingerprint(config.model_copy(update={"device": "cuda"}))
    assert fingerprint(config) != fingerprint(config.model_copy(update={"seed": 9}))
    assert fingerprint(config) != fingerprint(tiny("consistency.lr=2e-5"))


def test_gains_are_means_of_paired_differences_over_the_seeds(done, source):
    records = _records(done, source)
    table = gains_table(records, "map", "supervised").splitlines()
    assert table[0] == "| mAP: difference from supervised | N = 1 | N = 2 |"
    row = next(line for line in table if line.startswith("| uniform mask"))
    for cell, count in zip(row.strip("| ").split(" | ")[1:], (1, 2), strict=True):
        gains = []
        for seed in (3, 4):
            stages = records[Cell(count, seed)]["stages"]
            entry = stages["uniform"]
            entry = stages.get(entry.get("same_as"), entry)
            gains.append(entry["test"]["map"] - stages["supervised"]["test"]["map"])
        said = float(cell.split(" ")[0].rstrip("*").replace("−", "-"))
        assert said == pytest.approx(np.mean(gains), abs=0.051)
    start = next(line for line in table if line.startswith("| supervised"))
    mean = np.mean(
        [records[Cell(1, seed)]["stages"]["supervised"]["test"]["map"] for seed in (3, 4)]
    )
    assert f"| {mean:.1f} |" in start


def test_the_values_table_has_the_mean_of_every_stage_inside_its_interval(done, source):
    records = _records(done, source)
    head, _, *body = values_table(records, "map").splitlines()
    assert head == "| mAP | N = 1 | N = 2 |"
    assert len(body) == 5
    for line in body:
        title, *cells = line.strip("| ").split(" | ")
        stage = {"supervised": "supervised", "ours": "consistency"}.get(title)
        for cell, count in zip(cells, (1, 2), strict=True):
            mean, low, high = map(float, re.findall(r"\d+\.\d", cell))
            assert low <= mean <= high
            if stage is not None:
                own = [records[Cell(count, seed)]["stages"] for seed in (3, 4)]
                entries = [one.get(one[stage].get("same_as"), one[stage]) for one in own]
                expected = np.mean([entry["test"]["map"] for entry in entries])
                assert mean == pytest.approx(expected, abs=0.051)


def test_the_validation_table_has_the_mean_f1_of_every_stage_and_what_it_gained(done, source):
    records = _records(done, source)
    head, _, *body = validation_table(records).splitlines()
    assert head.startswith("| F1 on the validation images; difference from supervised | N = 1 |")
    shown = {row[1].strip(): row[2:4] for row in (line.split("|") for line in body)}
    assert shown.keys() == {"supervised", "ours", "uniform mask", "again", "never"}
    for at, count in enumerate((1, 2)):
        own = [records[Cell(count, seed)]["stages"] for seed in (3, 4)]
        f1 = {
            stage: np.array([one[stage]["validation"]["f1"] for one in own])
            for stage in ("supervised", "uniform")
        }
        assert float(shown["supervised"][at]) == pytest.approx(f1["supervised"].mean(), abs=0.051)
        mean, gain = shown["uniform mask"][at].replace("−", "-").split("; ")
        assert float(mean) == pytest.approx(f1["uniform"].mean(), abs=0.051)
        expected = (f1["uniform"] - f1["supervised"]).mean()
        assert float(gain.split(" (")[0]) == pytest.approx(expected, abs=0.051)
        assert shown["never"][at].split("; ")[1].startswith("+0.0 (+0.0 to +0.0)")


def test_without_validation_images_there_is_no_validation_table(done, source):
    records = {
        cell: {
            **record,
            "stages": {"supervised": {**record["stages"]["supervised"], "validation": {}}},
        }
        for cell, record in _records(done, source).items()
    }
    with pytest.raises(InputError, match="there are no validation images"):
        validation_table(records)


def test_calibration_alone_is_the_start_with_the_thresholds_of_validation(done, source):
    records = _records(done, source)
    shown = {
        row[1]: row[2:4]
        for row in (line.split("|") for line in calibration_table(records).splitlines())
    }
    for at, count in enumerate((1, 2)):
        own = [record["stages"] for cell, record in records.items() if cell.per_class == count]
        base = np.mean([stages["supervised"]["test"]["f1_tuned"] for stages in own])
        plain = np.mean([stages["supervised"]["test"]["f1"] for stages in own])
        assert float(shown[" calibration alone "][at]) == pytest.approx(base, abs=0.051)
        said = shown[" supervised "][at].split()[0].replace("−", "-").rstrip("*")
        assert float(said) == pytest.approx(plain - base, abs=0.051)


def test_tables_are_drawn_from_the_records_alone(done, source):
    records = _records(done, source)
    one = experiment_of(str(source))
    drawn = tables_of(one, records)
    for table in (
        gains_table(records, "map", "supervised"),
        gains_table(records, "map", "uniform"),
        calibration_table(records),
        validation_table(records),
        seconds_table(records),
        quartile_table(records),
    ):
        assert table in drawn
    cells = [
        Followed.of({"seed": c.seed, "images": c.per_class, "epochs": r["rounds"]})
        for c, r in records.items()
    ]
    assert regret_table(regrets(cells)).strip() in drawn
    ended = atcon("experiment", "table", source, "--results", done / "results")
    assert ended.out == drawn
    again = atcon(
        "experiment", "table", source, "--results", done / "results", "--against", "never"
    )
    assert "mAP: difference from never" in again.out


def test_tables_say_how_many_seeds_each_size_has(done, source, tmp_path):
    one = experiment_of(str(source))
    for name in ("n1-seed-3", "n1-seed-4", "n2-seed-4"):
        content = read_json(done / f"results/small/{name}.json")
        content.pop("format")
        write_json(tmp_path / f"small/{name}.json", content)
    drawn = tables_of(one, dict(finished(tmp_path, one)))
    assert drawn.startswith("N = 1: 2 of 2 seeds (3, 4); N = 2: 1 of 2 seeds (4). Judged on 24 ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("table", "strategie"), "did you mean 'strategies'"),
        (("show", "missing.yaml"), "missing.yaml: cannot read this experiment"),
        (("run", "strategies", "--part", "3"), "write it as 1/2"),
        (("table", "stopping", "--results", "nowhere"), "stopping has no finished cell"),
    ],
)
def test_what_a_user_gets_wrong_is_said(arguments, said):
    ended = atcon("experiment", *arguments)
    assert ended.code == 2
    assert said in ended.err


def test_a_wrong_experiment_file_is_named_with_its_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntitle: t\nconfig: digits\nper_class: []\nseed: [1]\n")
    ended = atcon("experiment", "show", path)
    assert ended.code == 2
    for key in ("per_class", "seed"):
        assert key in ended.err
    path.write_text("name: mine\ntitle: t\nconfig: digits\nper_class: [2]\n")
    assert "missing: seeds" in atcon("experiment", "show", path).err
    path.write_text("name: [")
    assert "not valid YAML" in atcon("experiment", "show", path).err


def test_show_prints_what_is_run_as_a_file_that_runs(tmp_path):
    shown = atcon("experiment", "show", "stopping").out
    (tmp_path / "again.yaml").write_text(shown)
    again = experiment_of(str(tmp_path / "again.yaml"))
    assert again.model_dump() == experiments()["stopping"].model_dump()
    assert again.command() == f"atcon experiment run {tmp_path / 'again.yaml'}"


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"uniform": {}}, "variants.uniform: an arm has this name"),
        ({"simclr": {}}, "variants.simclr: an arm has this name"),
        ({"mine": {"mask_slop": 3}}, "unknown key 'variants.mine.mask_slop' = 3; did you mean"),
        ({"mine": {"mask": "strong"}}, "variants.mine.mask = 'strong'"),
        ({"mine": {"unlabelled_root": "pool"}}, "all arms of a run have the same images"),
        ({"Mine": {}}, "variants"),
    ],
)
def test_a_variant_that_cannot_be_is_refused_at_the_door(variants, said):
    with pytest.raises(InputError) as refused:
        tiny(f"variants={json.dumps(variants)}")
    assert said in str(refused.value)


def test_a_variant_changes_the_section_of_the_method_alone():
    config = tiny('variants={"mine": {"mask_floor": 0.5}}', "consistency.mask_smooth=2")
    changed = variant_of(config, "mine")
    assert changed.consistency == config.consistency.model_copy(update={"mask_floor": 0.5})
    assert replace_cells(changed, consistency=config.consistency) == config
