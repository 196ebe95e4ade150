import json
import math

import pytest

from atcon import records
from atcon.errors import InputError


def test_a_record_is_read_back_as_written(tmp_path):
    content = {"name": "Zürich <b>", "values": [1.5, None], "nested": {"a": True}}
    records.write_json(tmp_path / "deep" / "r.json", content)
    assert records.read_json(tmp_path / "deep" / "r.json") == {"format": records.FORMAT, **content}


def test_a_failed_write_leaves_the_earlier_file_and_no_other(tmp_path):
    path = tmp_path / "r.json"
    records.write_json(path, {"value": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        records.write_json(path, {"value": math.nan})
    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def fail_halfway(path):
    with records.whole_file(path) as part:
        part.write_text("half")
        raise RuntimeError("halfway")


def test_a_reader_never_sees_a_part_of_a_file(tmp_path):
    path = tmp_path / "table.csv"
    records.write_csv(path, ["a"], [["old"]])

    def rows():
        yield ["new"]
        assert records.read_csv(path) == [{"a": "old"}]
        yield ["newer"]

    records.write_csv(path, ["a"], rows())
    assert records.read_csv(path) == [{"a": "new"}, {"a": "newer"}]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 0}', '{"format": 2}', "\xff"])
def test_a_damaged_or_foreign_record_is_named(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"r\.json"):
        records.read_json(path)


def test_a_missing_record_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match="run folder"):
        records.read_json(tmp_path / "summary.json")


def test_lines_survive_a_crash_in_the_last_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert records.read_lines(path) == []
    for epoch in (1, 2):
        records.append_line(path, {"epoch": epoch})
    with path.open("a") as handle:
        handle.write('{"epoch": 3, "lo')
    assert [line["epoch"] for line in records.read_lines(path)] == [1, 2]
    path.write_text('{"epoch": 1}\n{"bro\n{"epoch": 3}\n')
    with pytest.raises(InputError, match="line 2"):
        records.read_lines(path)


def test_appending_after_a_crash_keeps_the_new_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records.append_line(path, {"epoch": 1})
    with path.open("a") as handle:
        handle.write('{"epoch": 2, "lo')
    records.write_lines(path, records.read_lines(path))
    records.append_line(path, {"epoch": 2})
    assert [line["epoch"] for line in records.read_lines(path)] == [1, 2]


def test_text_that_json_would_escape_stays_readable(tmp_path):
    records.write_json(tmp_path / "r.json", {"name": "Zürich"})
    assert "Zürich" in (tmp_path / "r.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["name"] == "Zürich"


def test_what_a_killed_write_leaves_is_swept_and_nothing_else(tmp_path):
    records.write_json(tmp_path / "checkpoints" / "stage.json", {"epoch": 1})
    mine = tmp_path / "notes.part"
    mine.write_text("mine")
    leftover = tmp_path / "checkpoints" / ".last.pt.x1.part"
    leftover.write_text("half")
    assert records.is_leftover(leftover)
    assert not records.is_leftover(mine)
    records.sweep(tmp_path)
    assert not leftover.exists()
    assert mine.read_text() == "mine"
    assert records.read_json(tmp_path / "checkpoints" / "stage.json")["epoch"] == 1
