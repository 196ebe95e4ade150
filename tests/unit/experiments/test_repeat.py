import pytest
from pipeline import TINY, atcon, content_of, sets

from atcon.errors import InputError
from atcon.experiments.progress import Progress
from atcon.experiments.repeat import repeat
from atcon.records import read_json


class Heard(Progress):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_repeat_compares_the_seeds_and_runs_none_twice(tmp_path):
    options = sets("supervised.epochs=1", "consistency.epochs=1")
    ended = atcon("repeat", "digits", "--seeds", "2", "--out", tmp_path / "runs", *options)
    assert ended.code == 0, ended.err
    record = read_json(tmp_path / "runs" / "seeds.json")
    runs = [read_json(tmp_path / "runs" / f"seed-{seed}" / "summary.json") for seed in (0, 1)]
    assert [one["seed"] for one in runs] == record["seeds"] == [0, 1]
    for metric in ("f1", "map", "iou", "consistency"):
        gains = [one["gain"][metric]["value"] for one in runs]
        compared = record["differences"]["gain"][metric]
        assert compared["value"] == pytest.approx(sum(gains) / 2, abs=2e-3)
        assert compared["low"] <= compared["value"] <= compared["high"]
        assert record["values"]["supervised"][metric] == [
            one["stages"]["supervised"]["test"][metric] for one in runs
        ]
    assert ended.out == (tmp_path / "runs" / "seeds.md").read_text()
    before = content_of(tmp_path / "runs")
    heard = Heard()
    overrides = [*TINY, "supervised.epochs=1", "consistency.epochs=1"]
    repeat("digits", range(2), tmp_path / "runs", overrides, progress=heard)
    assert heard.said == ["seed 0: finished already", "seed 1: finished already"]
    assert content_of(tmp_path / "runs") == before
    with pytest.raises(InputError, match=r"seed-0.config\.yaml differs"):
        repeat("digits", range(2), tmp_path / "runs", [*overrides, "consistency.lr=1e-6"])
    assert content_of(tmp_path / "runs") == before
