"""A shared copy says all that the run measured, and nothing of whom."""

import csv
import json
import shutil
import stat
from pathlib import Path

import pytest
from finished_folders import edit
from page import parse
from pipeline import atcon
from traces import traces

from atcon.data import read_image
from atcon.errors import BadImageError, InputError
from atcon.experiments.compare import compare
from atcon.records import read_csv, read_json, read_lines, write_csv
from atcon.sharing import Pseudonyms, share
from atcon.sharing.hidden import CAUSES, WITHHELD

KEY = bytes(range(32))
TABLES = ("predictions", "localisation")


@pytest.fixture(scope="module")
def shared(clinic, tmp_path_factory):
    """A copy with pictures; read it, never write into it."""
    return share(
        clinic.run, tmp_path_factory.mktemp("shared") / "copy", Pseudonyms(KEY), images=True
    )


def test_the_run_itself_holds_the_words_that_are_looked_for(clinic):
    found = {word for _, word in traces(clinic.run, clinic.words)}
    hashes = {word for word in clinic.words if len(word) == 64}
    metadata = {word for word in clinic.words if "Im" in word or "Packed" in word}
    assert found >= set(clinic.words) - hashes - metadata
    assert found & hashes


def test_no_byte_of_a_copy_holds_a_name_a_group_a_place_or_the_hash_of_a_file(clinic, shared):
    assert traces(shared, clinic.words) == set()
    assert list(shared.glob("gallery/*.npz"))
    assert "data:image" in (shared / "report.html").read_text(encoding="utf-8")


def test_a_copy_has_the_small_records_and_no_weights(shared):
    files = {path.relative_to(shared).as_posix() for path in shared.rglob("*") if path.is_file()}
    stages = {f"{kind}/{stage}.csv" for kind in TABLES for stage in ("supervised", "consistency")}
    records = {"summary.json", "split.json", "metrics.jsonl", "config.yaml", "environment.json"}
    pictures = {"gallery/index.json", "gallery/0000.npz", "gallery/0001.npz"}
    assert files == stages | records | pictures | {"report.html", "shared.json"}


def test_without_pictures_none_is_copied_or_drawn(clinic, tmp_path):
    copy = share(clinic.run, tmp_path / "copy", Pseudonyms(KEY))
    assert not (copy / "gallery").exists()
    page = parse((copy / "report.html").read_text(encoding="utf-8"))
    assert not page.all("img")
    assert "Names of images are pseudonyms" in page.one("footer").text


def test_every_number_stays(clinic, shared):
    names = Pseudonyms(KEY)
    for record in ("summary.json", "metrics.jsonl"):
        assert (shared / record).read_text() == (clinic.run / record).read_text()
    for kind in TABLES:
        for path in (clinic.run / kind).iterdir():
            expected = [{**row, "name": names.image(row["name"])} for row in read_csv(path)]
            expected.sort(key=lambda row: row["name"])
            assert read_csv(shared / kind / path.name) == expected


def test_the_split_keeps_parts_labels_and_who_belongs_together(clinic, shared):
    names = Pseudonyms(KEY)
    before, after = (read_json(run / "split.json") for run in (clinic.run, shared))
    for part in ("train", "validation", "test"):
        expected = {
            names.image(entry["name"]): (
                entry["labels"], names.group(entry["group"]),
                entry["sha256"] and names.content(entry["sha256"]),
            )
            for entry in before[part]
        }  # fmt: skip
        assert expected == {
            entry["name"]: (entry["labels"], entry["group"], entry["sha256"])
            for entry in after[part]
        }
    assert [entry["reason"] for entry in after["skipped"]] == ["cannot be decoded"] * len(
        before["skipped"]
    )
    assert before["skipped"]
    assert [entry["remark"] for entry in after["notes"]] == [WITHHELD]


def test_images_stand_in_the_order_of_their_pseudonyms(shared):
    split, index = read_json(shared / "split.json"), read_json(shared / "gallery" / "index.json")
    lists = [split["train"], split["validation"], split["test"], split["skipped"], index["entries"]]
    lists += [read_csv(path) for kind in TABLES for path in (shared / kind).iterdir()]
    assert len(lists) == 9
    for one in lists:
        names = [entry["name"] for entry in one]
        assert names == sorted(names)


def test_copies_are_compared_like_the_runs(clinic, shared):
    before, after = (compare([run])["rows"] for run in (clinic.run, shared))
    assert [row["stage"] for row in before] == [row["stage"] for row in after]
    for ours, theirs in zip(before, after, strict=True):
        for metric, measured in ours["metrics"].items():
            assert theirs["metrics"][metric]["value"] == pytest.approx(measured["value"])


def test_the_same_key_gives_the_same_pseudonyms_and_another_key_none_of_them(clinic, tmp_path):
    def names(place: str, key: bytes) -> set[str]:
        split = read_json(share(clinic.run, tmp_path / place, Pseudonyms(key)) / "split.json")
        entries = [entry for part in ("train", "validation", "test") for entry in split[part]]
        found = {entry[kind] for entry in entries for kind in ("name", "group", "sha256")}
        return found - {None}  # an image that could not be read has no hash

    first = names("a", KEY)
    assert names("b", KEY) == first
    assert not names("c", bytes(32)) & first


def test_a_name_is_replaced_wherever_it_occurs_as_a_value_or_a_key(clinic, tmp_path):
    run = Path(shutil.copytree(clinic.run, tmp_path / "run"))
    group = read_json(run / "split.json")["test"][0]["group"]
    edit(run / "summary.json", lambda one: one.update(per_group={group: {"f1": 50.0}, "of": group}))
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"stage": "x", "epoch": 1, "worst": group}) + "\n")
    for path in (run / "predictions").iterdir():
        head, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        write_csv(path, [*head, "patient"], [[*row, group] for row in rows])
    copy, names = share(run, tmp_path / "copy", Pseudonyms(KEY)), Pseudonyms(KEY)
    assert traces(copy, clinic.words) == set()
    shown = names.group(group)
    summary = read_json(copy / "summary.json")
    assert summary["per_group"] == {shown: {"f1": 50.0}, "of": shown}
    assert read_lines(copy / "metrics.jsonl")[-1]["worst"] == shown
    assert "patient" not in read_csv(copy / "predictions" / "supervised.csv")[0]


def test_how_many_clips_of_what_length_there_are_is_told_without_names(clinic, tmp_path):
    run = Path(shutil.copytree(clinic.run, tmp_path / "run"))
    row = {"windows": 3, "mean": 4.0, "median": 4.0, "std": 0.0, "total": 12.0, "patients": 2}
    tables = {part: {"classes": {"red": row}, "all": row} for part in ("all", "train")}
    edit(run / "summary.json", lambda one: one.update(described=tables))
    copy = share(run, tmp_path / "copy", Pseudonyms(KEY))
    assert read_json(copy / "summary.json")["described"] == tables
    assert 'id="lengths"' in (copy / "report.html").read_text(encoding="utf-8")
    assert traces(copy, clinic.words) == set()


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"BM" + b"\0" * 60, None])
def test_the_reason_of_an_unreadable_image_is_one_that_a_copy_may_tell(tmp_path, content):
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadImageError) as caught:
        read_image(path)
    assert any(cause in str(caught.value) for cause in CAUSES)


def test_a_copy_is_refused_where_it_would_overwrite_repeat_or_guess(clinic, shared, tmp_path):
    names = Pseudonyms(KEY)
    with pytest.raises(InputError, match="copy exists already: choose another --out"):
        share(clinic.run, shared, names)
    with pytest.raises(InputError, match="its names are pseudonyms already"):
        share(shared, tmp_path / "again", names)
    run = Path(shutil.copytree(clinic.run, tmp_path / "run"))
    edit(run / "split.json", lambda split: split["test"][0].pop("name"))
    with pytest.raises(InputError, match=r"split\.json: not the record of a finished run"):
        share(run, tmp_path / "out" / "copy", names)
    (run / "summary.json").unlink()
    with pytest.raises(InputError, match=r"summary\.json: no such record"):
        share(run, tmp_path / "out" / "copy", names)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_makes_a_key_once_and_never_shows_it(clinic, key, tmp_path):
    first = atcon("share", clinic.run, "--out", tmp_path / "one", "--key", key)
    assert (first.code, first.out) == (0, f"{tmp_path / 'one'}\n")
    assert f"made a new key: {key}." in first.err
    table = tmp_path / "names.csv"
    arguments = ("--out", tmp_path / "two", "--key", key, "--table", table, "--images")
    second = atcon("share", clinic.run, *arguments)
    assert (second.code, second.err) == (0, "")
    secret = key.read_text().strip()
    assert not traces(tmp_path / "one", [secret]) | traces(tmp_path / "two", [secret])
    assert secret not in first.out + first.err + second.out
    assert (tmp_path / "one" / "split.json").read_bytes() == (
        tmp_path / "two" / "split.json"
    ).read_bytes()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (key, table)] == [0o600, 0o600]
    stands_for = {row["pseudonym"]: row["stands_for"] for row in read_csv(table)}
    before, after = (read_json(run / "split.json") for run in (clinic.run, tmp_path / "two"))
    back = {(stands_for[one["name"]], stands_for[one["group"]]) for one in after["test"]}
    assert back == {(one["name"], one["group"]) for one in before["test"]}


def test_a_key_or_a_table_inside_what_is_handed_on_is_refused(clinic, key, tmp_path):
    out = tmp_path / "copy"
    for wrong in (clinic.run / "x.key", out / "x.key"):
        ended = atcon("share", clinic.run, "--out", out, "--key", wrong)
        assert ended.code == 2
        assert "choose a place outside" in ended.err
        assert not wrong.exists()
    ended = atcon("share", clinic.run, "--out", out, "--key", key, "--table", out / "x.csv")
    assert (ended.code, key.exists(), out.exists()) == (2, False, False)
    ended = atcon("share", tmp_path / "nowhere", "--out", out, "--key", key)
    assert (ended.code, "Traceback" in ended.err) == (2, False)


def test_a_report_with_pseudonyms_has_those_of_the_copy_and_no_name(clinic, shared, key, tmp_path):
    key.parent.mkdir()
    key.write_text(KEY.hex())
    key.chmod(0o600)
    target = tmp_path / "page" / "report.html"
    ended = atcon("report", clinic.run, "--pseudonyms", key, "--out", target)
    assert (ended.code, ended.out, ended.err) == (0, f"{target}\n", "")
    assert target.read_bytes() == (shared / "report.html").read_bytes()
    assert traces(target.parent, clinic.words) == set()
    ended = atcon("report", clinic.run, "--pseudonyms", key, "--no-images", "--out", target)
    assert ended.code == 0
    assert not parse(target.read_text(encoding="utf-8")).all("img")
