import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from pipeline import atcon, folder_config, truncate

from atcon.records import read_json


def words(text):
    return " ".join(text.split())


@pytest.fixture
def images(own_images: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of the folder of images, which a test may spoil."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATCON_DATA", raising=False)
    return Path(shutil.copytree(own_images, tmp_path / "images"))


def test_a_good_folder_ends_with_0_and_a_record(images):
    ended = atcon("data", "check", images, "--json", "found/check.json")
    assert ended.code == 0, ended
    assert "nothing that would harm" in words(ended.out) or "read the warnings" in words(ended.out)
    record = read_json(Path("found/check.json"))
    files = list(images.rglob("*.jpg"))
    assert sum(record["counts"].values()) == len(files)
    assert record["root"] == str(images)
    assert record["severity"] != "harm"
    assert {"name", "severity", "what", "fix", "entries"} == set(record["findings"][0])


def test_harm_ends_with_1_the_worst_first_with_names_cut_and_full_lists_in_the_record(images):
    for path in sorted((images / "red").iterdir())[:5]:
        truncate(path)
    ended = atcon("data", "check", images, "--json", "check.json", "--quiet")
    assert ended.code == 1
    assert ended.err == ""
    levels = [w for w in ended.out.split() if w in {"harm", "warning", "note"}]
    assert levels[0] == "harm"
    assert levels == sorted(levels, key=["harm", "warning", "note"].index)
    assert "5 images cannot be read: red/0" in words(ended.out)
    assert "and 2 more" in words(ended.out)
    (unreadable,) = [
        finding
        for finding in json.loads(Path("check.json").read_text())["findings"]
        if finding["name"] == "unreadable"
    ]
    assert len(unreadable["entries"]) == 5
    assert all("truncated" in entry["reason"] for entry in unreadable["entries"])


def test_a_copy_in_the_test_part_ends_with_1(images):
    rows = [
        (path.relative_to(images).as_posix(), path.parent.name, ("train", "test")[number % 2])
        for number, path in enumerate(sorted(images.rglob("*.jpg")))
    ]
    first = rows[0]
    shutil.copy(images / first[0], images / "again.jpg")
    lines = ["file,label,split", *(",".join(row) for row in rows), f"again.jpg,{first[1]},test"]
    (images / "labels.csv").write_text("\n".join(lines))
    ended = atcon("data", "check", images, "--csv", "labels.csv")
    assert ended.code == 1
    assert f"{first[0]} (train) = again.jpg (test)" in words(ended.out)


def test_a_configuration_is_checked_as_a_run_would_see_it(images):
    config = folder_config(Path("own.yaml"), images)
    good = atcon("data", "check", config)
    assert good.code == 0, good
    ended = atcon("data", "check", config, "--set", "data.per_class=600")
    assert ended.code == 1
    assert "a run could not draw its images: data.per_class" in words(ended.out)
    folder = atcon("data", "check", images, "--set", "data.per_class=600")
    assert folder.code == 1


def test_a_patient_in_two_parts_ends_with_1(images):
    rows = [
        f"{path.relative_to(images)},{path.parent.name},{('train', 'test')[n % 2]},P{n // 3}"
        for n, path in enumerate(sorted(images.rglob("*.jpg")))
    ]
    (images / "labels.csv").write_text("\n".join(["file,label,split,patient", *rows]))
    ended = atcon("data", "check", images, "--csv", "labels.csv", "--group", "patient")
    assert ended.code == 1
    assert "9 groups of 9 in several parts: P0 (test and train)" in words(ended.out)


def test_unlabelled_images_are_compared_with_the_test_images(images):
    config = folder_config(Path("own.yaml"), images)
    ended = atcon("data", "check", config, "--set", f"consistency.unlabelled_root={images}")
    assert ended.code == 1
    assert "(unlabelled)" in words(ended.out)


def test_a_voc_folder_is_recognised(tmp_path):
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (base / folder).mkdir(parents=True)
    for number in range(6):
        kind, part = ("dog", "cat")[number % 2], ("train", "val")[number // 3]
        box = "<xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>10</ymax>"
        (base / "Annotations" / f"{number}.xml").write_text(
            "<annotation><size><width>20</width><height>10</height></size>"
            f"<object><name>{kind}</name><bndbox>{box}</bndbox></object></annotation>"
        )
        Image.new("RGB", (20, 10), (40 * number, 90, 9)).save(base / f"JPEGImages/{number}.jpg")
        with (base / "ImageSets" / "Main" / f"{part}.txt").open("a") as lines:
            lines.write(f"{number}\n")
    ended = atcon("data", "check", tmp_path, "--set", "data.classes=[dog, cat]")
    assert ended.code == 1
    said = words(ended.out)
    assert "3 train, 3 test images" in said
    assert "6 boxes or other annotations outside their image" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere",), "no configuration 'nowhere'"),
        ((".",), "no class folders"),
        (("images", "--csv", "none.csv"), "data.csv: no file none.csv"),
        (("images", "--set", "data.per_clas=4"), "did you mean 'data.per_class'?"),
        (("images", "--json", "."), "is a folder"),
        ((), "Missing argument"),
    ],
)
def test_wrong_use_ends_with_2_and_says_what_is_wrong(images, arguments, says):
    Path("elsewhere").mkdir()
    if arguments == (".",):
        arguments = ("elsewhere",)
    ended = atcon("data", "check", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert says in words(ended.err)
    assert "Traceback" not in ended.err
