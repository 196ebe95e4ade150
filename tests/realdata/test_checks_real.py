"""The check of data on the reduced VOC 2012, which is clean."""

import os
from pathlib import Path

import pytest

from atcon.data import voc
from atcon.data.checks import check_data

pytestmark = pytest.mark.realdata
BESIDE = Path(__file__).parents[3] / "shared" / "data"
ROOT = Path(os.environ.get("ATCON_DATA", BESIDE)) / "voc2012-animals"
ANIMALS = ("dog", "cat", "person", "horse", "sheep", "cow")


def test_the_reduced_voc_has_no_duplicate_and_nothing_that_harms():
    found = check_data(voc(ROOT, classes=ANIMALS))
    assert found.counts == {"train": 1608, "test": 1000}
    assert [finding.name for finding in found.findings] == ["classes", "sizes"]
    assert {finding.severity for finding in found.findings} == {"note"}
