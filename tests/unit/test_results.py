"""The pages of results say what the committed records say."""

from pathlib import Path

from atcon.experiments.repeat import compare_seeds, table
from atcon.records import read_json

ROOT = Path(__file__).parents[2]


def test_the_table_of_voc_animals_is_that_of_its_records():
    runs = [read_json(path) for path in sorted((ROOT / "results/voc-animals").glob("seed-*.json"))]
    page = (ROOT / "docs/results/voc-animals.md").read_text(encoding="utf-8")
    assert len(runs) >= 5
    assert table(compare_seeds({run["seed"]: run for run in runs})) in page
