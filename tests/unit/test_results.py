"""The pages of results say what the committed records say."""

import importlib.util
from pathlib import Path

import pytest

from atcon.experiments.grid import finished
from atcon.experiments.grid_tables import tables_of
from atcon.experiments.repeat import compare_seeds, table
from atcon.experiments.shipped import experiment_of
from atcon.records import read_json

ROOT = Path(__file__).parents[2]


def test_the_table_of_voc_animals_is_that_of_its_records():
    runs = [read_json(path) for path in sorted((ROOT / "results/voc-animals").glob("seed-*.json"))]
    page = (ROOT / "docs/results/voc-animals.md").read_text(encoding="utf-8")
    assert len(runs) >= 5
    assert table(compare_seeds({run["seed"]: run for run in runs})) in page


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("default-ablation", "default-ablation"),
        ("unlabelled-ablation", "default-ablation"),
        ("stochastic-masks", "default-ablation"),
        ("stochastic-confirmation", "default-ablation"),
        ("stopping", "stopping"),
        ("stopping-too-far", "stopping"),
        ("strategies", "strategies"),
        ("no-harm", "strategies"),
        ("svhn", "svhn"),
        ("svhn-imagenet", "svhn"),
        ("lung-ultrasound", "lung-ultrasound"),
        ("table1", "table1"),
        ("table2", "table2"),
        ("table3", "table3"),
        ("laso", "laso"),
        ("table4", "table4"),
        ("supplement-figure1", "supplement-figure1"),
        ("figure1", "figures"),
        ("figure2", "figures"),
    ],
)
def test_the_tables_of_an_experiment_are_those_of_its_records(name, page):
    experiment = experiment_of(name, small=True)
    drawn = tables_of(experiment, dict(finished(ROOT / "results", experiment)))
    assert drawn.strip() in (ROOT / f"docs/results/{page}.md").read_text(encoding="utf-8")


def test_the_tables_of_step_cost_are_those_of_its_records():
    spec = importlib.util.spec_from_file_location("step_cost", ROOT / "benchmarks/step_cost.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    page = (ROOT / "docs/results/step-cost.md").read_text(encoding="utf-8")
    records = sorted((ROOT / "results/step-cost").glob("*.json"))
    assert len(records) >= 3
    for path in records:
        assert benchmark.shown(read_json(path)) in page, path.name
