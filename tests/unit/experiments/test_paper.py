import json
import os
from pathlib import Path

import pytest

from atcon.experiments.paper import Paper, Printed, paper_facts
from atcon.experiments.shipped import experiments

SHARED = Path(os.environ.get("ATCON_DATA", "../shared/data")).parent / "paper/tables.json"
TABLE2 = Paper(
    values={"f1": "table2_pascal.f1.{row}.{n}"},
    stars={"f1": "table2_pascal.significant.f1.{row}"},
    rows={"supervised": "{network}", "consistency": "{network}+attention"},
    network="resnet50",
)


def test_numbers_are_found_by_metric_stage_and_size_with_their_stars():
    assert TABLE2.printed("f1", "consistency", 4) == Printed(51.6, star=True)
    assert TABLE2.printed("f1", "consistency", 16) == Printed(68.2, star=False)
    assert TABLE2.printed("f1", "supervised", 135, "resnet50") == Printed(77.6)


def test_where_the_paper_is_silent_there_is_nothing():
    assert TABLE2.printed("f1", "uniform", 4) is None  # no such row
    assert TABLE2.printed("iou", "supervised", 4) is None  # no such metric
    assert TABLE2.printed("f1", "supervised", 3) is None  # no such size
    assert TABLE2.printed("f1", "supervised", 4, "mobilenet_v2") is None  # no such network


def test_intervals_come_with_their_value_and_fractions_become_percent():
    video = Paper(values={"f1": "table1_video.{n}.{row}.mean"}, rows={"simclr": "simclr"})
    assert video.printed("f1", "simclr", 16) == Printed(23.1, 18.8, 27.7)
    digits = Paper(
        values={"f1": "supplement_table1_svhn.{row}.{n}"}, rows={"supervised": "resnet"}, scale=100
    )
    assert digits.printed("f1", "supervised", 2).value == pytest.approx(13.7)


def test_a_table_about_one_size_says_nothing_of_others():
    one = Paper(values={"f1": "section6_strategies.{row}.f1"}, rows={"combined": "combined"}, at=4)
    assert one.printed("f1", "combined", 4) == Printed(48.9)
    assert one.printed("f1", "combined", 8) is None


@pytest.mark.parametrize("small", [False, True])
def test_every_experiment_that_names_a_table_finds_its_numbers(small):
    for name, one in experiments(small=small).items():
        if one.paper is None or (small and name == "table1"):  # other sizes: no numbers
            continue
        found = [
            one.paper.printed(metric, stage, count, network)
            for metric in one.paper.values
            for stage in one.paper.rows
            for count in one.per_class
            for network in one.networks or ("",)
        ]
        assert sum(number is not None for number in found) >= 3, name


@pytest.mark.skipif(not SHARED.exists(), reason="the extracted tables are not at hand")
def test_the_facts_are_those_that_were_extracted_from_the_paper():
    assert paper_facts() == json.loads(SHARED.read_text(encoding="utf-8"))
