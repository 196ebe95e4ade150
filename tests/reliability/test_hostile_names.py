"""Promise 12: a name that tries to be more than a name is shown as text, wherever it is written.

What Chromium makes of the pages is in tests/browser/test_hostile_names.py.
"""

import csv
import json
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from hostile import FAST, FORMULAS, NAMES, steers
from page import parse
from PIL import Image
from pipeline import atcon, truncate

from atcon.cli.display import BarProgress, LineProgress, plain_table
from atcon.cli.terminal import Terminal
from atcon.errors import AtconError
from atcon.plain_text import as_text, as_written, printable, printable_json
from atcon.records import read_csv, read_json, read_table, write_csv, write_json

LABELS = (NAMES[0], NAMES[4], NAMES[13], NAMES[15], NAMES[20])
"""Classes of the run: HTML, a formula, a forged line, a turned direction, 300 characters."""
BROKEN = f"{NAMES[18]}.png"
SHORT = [name for name in NAMES if len(name) < 200 and "/" not in name]


def file_of(at: int, name: str) -> str:
    return f"{name} {at}.png"


@pytest.fixture(scope="module")
def ward(tmp_path_factory) -> Path:
    """Images whose files, classes and patients have hostile names; one is broken."""
    root = tmp_path_factory.mktemp("ward") / "data"
    root.mkdir()
    rows, draw, names = [], np.random.default_rng(0), cycle(SHORT)
    for part, count in (("train", 2), ("validation", 1), ("test", 3)):
        for number, label in enumerate(LABELS):
            for _ in range(count):
                file = file_of(len(rows), next(names))
                pixels = draw.integers(0, 99, (32, 32, 3), dtype=np.uint8) + 30 * number
                Image.fromarray(pixels.astype(np.uint8)).save(root / file)
                rows.append((file, label, part, f"{NAMES[len(rows) % len(NAMES)]} {len(rows)}"))
    file, *rest = rows.pop()
    (root / file).rename(root / BROKEN)
    truncate(root / BROKEN)
    rows.append((BROKEN, *rest))
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("file", "label", "split", "patient"), *rows])
    return root


@pytest.fixture(scope="module")
def seen(ward, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A run on them and everything else that shows names: the folder, and what was printed."""
    place = tmp_path_factory.mktemp("seen")
    data = {
        "name": "folder", "root": str(ward), "csv": "labels.csv", "group": "patient",
        "per_class": 1, "validation_images": 5, "image_size": 32, "augmentation": "none",
    }  # fmt: skip
    (place / "own.yaml").write_text(
        json.dumps({"name": "own", "data": data, "model": {"name": "digits_resnet"}})
    )
    fast = [word for one in FAST if not one.startswith("data.") for word in ("--set", one)]
    run, shared = place / "run", place / "shared"
    commands = {
        "run": ("run", place / "own.yaml", *fast, "--out", run),
        "data check": ("data", "check", place / "own.yaml", "--json", place / "check.json"),
        "evaluate": ("evaluate", run, "--out", place / "evaluated"),
        "evaluate as JSON": ("evaluate", run, "--json", "--quiet"),
        "attend": ("attend", run, *sorted(ward.glob("*.png"))[:2], "--out", place / "attended"),
        "monitor": ("monitor", run, ward, "--csv", "labels.csv", "--group", "patient", "--out",
                    place / "watched"),
        "compare": ("compare", run, "--csv", place / "compared.csv"),
        "report": ("report", run),
        "share": ("share", run, "--out", shared, "--key", place / "key", "--table",
                  place / "names.csv"),
    }  # fmt: skip
    printed = {}
    for name, command in commands.items():
        ended = atcon(*command)
        assert ended.code in (0, 1), (name, ended)
        printed[name] = ended.out + ended.err
    return place, printed


def test_no_command_sends_the_terminal_a_mark_that_it_could_obey(seen):
    for command, text in seen[1].items():
        assert not steers(text), command


def test_no_name_makes_a_line_of_its_own(seen):
    for command, text in seen[1].items():
        assert not [line for line in text.splitlines() if line.startswith("harm     forged")], (
            command
        )
    assert any("forged" in text for text in seen[1].values())


def test_markup_in_a_name_is_shown_and_not_followed(seen):
    for command in ("run", "monitor"):
        assert f"skipped {BROKEN}" in seen[1][command]


def tables(place: Path) -> Iterator[tuple[Path, list[list[str]]]]:
    for path in sorted(place.rglob("*.csv")):
        with path.open(newline="", encoding="utf-8") as handle:
            yield path, list(csv.reader(handle))


def test_no_cell_of_a_table_begins_a_formula(seen):
    paths = []
    for path, rows in tables(seen[0]):
        paths.append(path.relative_to(seen[0]).parts[0])
        for cell in (cell for row in rows for cell in row if cell.startswith(FORMULAS)):
            float(cell)  # a number is none
    assert {"run", "evaluated", "watched", "compared.csv", "names.csv", "shared"} <= set(paths)


def test_names_are_read_back_as_they_were(seen, ward):
    place, _ = seen
    split = read_json(place / "run" / "split.json")
    head, *rows = read_table(place / "run" / "predictions" / "supervised.csv")
    assert sorted(head[3:]) == sorted(split["classes"]) == sorted(LABELS)
    files = {path.name for path in ward.glob("*.png")}
    assert {row[0] for row in rows} <= files
    told = {row["name"]: row["labels"] for row in read_csv(place / "watched" / "samples.csv")}
    assert told.keys() <= set(map(printable, files))  # a watch names what it can print
    assert set(told.values()) == set(LABELS)
    with (place / "names.csv").open(newline="", encoding="utf-8") as handle:
        given = {as_written(row["stands_for"]) for row in csv.DictReader(handle)}
    assert files & given


def test_json_on_a_terminal_is_the_record(seen):
    shown = json.loads(seen[1]["evaluate as JSON"])
    assert sorted(shown["classes"]) == sorted(LABELS)
    record = {"names": list(NAMES), "half": "\udce4"}
    assert json.loads(printable_json(record)) == record
    assert not steers(printable_json(record))


def test_the_page_holds_names_as_text_and_one_script(seen):
    page = parse((seen[0] / "run" / "report.html").read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert not [e for e in page.inside for key in e.attributes if key.startswith("on")]
    words = [option.text for option in page.one("select", id="class").all("option")]
    assert set(LABELS[:-1]) <= set(words)  # the longest is cut short


@pytest.mark.parametrize("command", ["clips", "describe"])
def test_tables_of_events_show_hostile_labels_and_patients_as_text(command, tmp_path):
    rows = [
        ("none.mp4", f"{NAMES[-1 - at]} {at}", at * 10, at * 10 + 8, name)
        for at, name in enumerate(NAMES)
    ]
    with (tmp_path / "events.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("video", "patient", "start", "end", "label"), *rows])
    options = {"clips": ("--out", tmp_path / "out"), "describe": ("--csv", tmp_path / "t.csv")}
    ended = atcon(command, tmp_path / "events.csv", *options[command])
    assert ended.code == {"clips": 2, "describe": 0}[command], ended
    assert not steers(ended.out + ended.err)
    if command == "describe":
        labels = {row["label"] for row in read_csv(tmp_path / "t.csv")}
        assert {name.strip() for name in NAMES} <= labels


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_cell_is_text_for_a_spreadsheet_and_read_back(name, tmp_path):
    for value in (name, f"'{name}", f"''{name}"):
        assert as_written(as_text(value)) == value
        cell = as_text(value)
        assert not cell.startswith(FORMULAS) or float(cell)
    write_csv(tmp_path / "t.csv", ("name", name), [(name, 1), (f"'{name}", -1)])
    assert read_table(tmp_path / "t.csv") == [["name", name], [name, "1"], [f"'{name}", "-1"]]
    write_json(tmp_path / "r.json", {name: name})
    assert read_json(tmp_path / "r.json")[name] == name


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_whatever_is_printed_is_one_line_of_marks_that_print(name, capsys, monkeypatch):
    LineProgress().note(f"skipped {name}")
    bars = BarProgress()
    bars.console = Terminal(stderr=True, force_terminal=True, color_system=None, width=400)
    bars.note(f"skipped {name}")
    Terminal(width=500).print(plain_table(name, (name, "n"), [(name, 1)]))
    monkeypatch.setattr("atcon.cli.app.app", lambda: fails(name))
    ended = atcon()
    written = capsys.readouterr()
    assert not steers(written.out + written.err + ended.err)
    assert len(written.err.splitlines()) == 2
    first, *rest = ended.err.splitlines()
    assert first.startswith("atcon: wrong: ")
    assert all(line.startswith("  ") for line in rest)


def fails(name: str) -> None:
    raise AtconError(f"wrong: {name}")


def test_a_name_that_is_no_text_is_passed_over_and_written_escaped(ward, tmp_path):
    root = tmp_path / "images"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for at in range(4):
            Image.new("RGB", (9, 9), (at, 9, 9)).save(root / label / f"{at}.png")
    odd = bytes(root / "a") + b"/\xe4rzte.png"
    shutil.copy(bytes(root / "a" / "0.png"), odd)
    ended = atcon("data", "check", root, "--json", tmp_path / "check.json", "--quiet")
    assert ended.code == 1, ended
    assert not steers(ended.out)
    assert "its name is not UTF-8" in " ".join(ended.out.split())
    findings = read_json(tmp_path / "check.json")["findings"]
    (entry,) = [e for f in findings for e in f["entries"] if isinstance(e, dict) and "reason" in e]
    assert entry["name"] == "a/\udce4rzte.png (train)"
