"""Shared supervised stages: used again, a run ends as if it had trained its own, bit for bit."""

import pytest
from pipeline import content_of, tiny, without_seconds

from atcon.experiments.progress import Progress
from atcon.experiments.run import run
from atcon.records import read_json, read_lines
from atcon.training import TrainingState

SMALL = (
    "supervised.epochs=1",
    "consistency.epochs=1",
    "evaluation.gallery=0",
    "controls.uniform=false",
    "data.test_images=12",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run that fills the store, one that uses it, and the same without a store."""
    root = tmp_path_factory.mktemp("shared")
    store, other = root / "store", "consistency.lr=3e-5"
    run(tiny(*SMALL), root / "one/first", shared=store)
    run(tiny(*SMALL, other), root / "two/second", shared=store)
    run(tiny(*SMALL, other), root / "alone")
    return root


def test_a_run_with_a_shared_stage_equals_the_run_without_bit_for_bit(folders):
    shared, alone = folders / "two/second", folders / "alone"
    records = ("summary.json", "metrics.jsonl", "checkpoints/supervised.json",
               "checkpoints/consistency.json", "environment.json")  # fmt: skip
    same, expected = content_of(shared), content_of(alone)
    assert same.keys() == expected.keys()
    assert {k: v for k, v in same.items() if k not in records} == {
        k: v for k, v in expected.items() if k not in records
    }
    ours, theirs = (without_seconds(read_json(one / "summary.json")) for one in (shared, alone))
    assert ours["stages"]["supervised"].pop("reused_from") == "one/first"
    assert theirs["stages"]["supervised"].pop("reused_from") is None
    assert ours == theirs
    lines = [
        [without_seconds(line) for line in read_lines(one / "metrics.jsonl")]
        for one in (shared, alone)
    ]
    assert lines[0] == lines[1]


def test_the_seconds_are_those_of_the_run_that_trained_it(folders):
    first, second = (
        read_json(folders / one / "summary.json")["seconds"]["supervised"]
        for one in ("one/first", "two/second")
    )
    assert first == second
    (entry,) = (path.parent for path in (folders / "store").glob("*/supervised.json"))
    assert {user.name for user in (entry / "users").iterdir()} == {"one", "two"}


class TrainedError(Exception):
    """A stage was about to be trained."""


@pytest.fixture
def untrained(monkeypatch):
    """Nothing is trained: whoever begins to is stopped."""

    def refuse(*_given, **_more):
        raise TrainedError

    monkeypatch.setattr(TrainingState, "__init__", refuse)


@pytest.mark.parametrize("change", ["seed=1", "supervised.lr=2e-3", "data.per_class=1"])
def test_a_stage_of_other_settings_is_another_one(folders, tmp_path, untrained, change):
    with pytest.raises(TrainedError):
        run(tiny(*SMALL, change), tmp_path / "run", shared=folders / "store")


def test_a_damaged_stage_is_said_and_trained_again(folders, tmp_path, untrained):
    notes = []

    class Told(Progress):
        note = notes.append

    (record,) = (folders / "store").glob("*/supervised.json")
    weights = record.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(TrainedError):
        run(tiny(*SMALL), tmp_path / "run", shared=folders / "store", progress=Told())
    assert f"{record.parent}: damaged, so the stage is trained again" in notes
