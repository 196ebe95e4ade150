"""Promise 11: no archive and no table leads a reader or a writer to another place.

What an archive may hold is in tests/unit/data/test_archive.py.
"""

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pipeline import atcon, content_of
from recordings import make_recordings

from atcon.data import voc
from atcon.errors import InputError
from atcon.records import write_csv

OUTSIDE = {
    "up": "../secret.png",
    "up and down": "a/../../secret.png",
    "absolute": "{outside}/secret.png",
    "root itself": ".",
    "through itself": "a/..",
    "nothing": " ",
}
"""Paths that leave the root, or are it."""
ODD = {
    "300 characters": "x" * 300 + ".png",
    "4,000 folders": "a/" * 4000 + "b.png",
    "home": "~/secret.png",
    "drive": "C:\\secret.png",
    "address": "file:///secret.png",
    "expanded": "$HOME/secret.png",
    "stopped": "secret.png\0.txt",
    "device": "dev/zero",
}
"""Paths that stay in the root if nobody expands them: there they name nothing."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of three images of each class, beside which lies one that nobody may read."""
    (tmp_path / "data").mkdir()
    for label in ("red", "blue"):
        for at in range(3):
            Image.new("RGB", (16, 16), label).save(tmp_path / "data" / f"{label}{at}.png")
    Image.new("RGB", (16, 16), "green").save(tmp_path / "secret.png")
    return tmp_path / "data"


def good(root: Path) -> list[tuple[str, str]]:
    return [(path.name, path.name[:-5]) for path in sorted(root.glob("*.png"))]


def as_labels(root: Path, path: str) -> list[object]:
    write_csv(root / "labels.csv", ("file", "label"), [*good(root), (path, "red")])
    return ["data", "check", root, "--csv", "labels.csv"]


def as_boxes(root: Path, path: str) -> list[object]:
    write_csv(root / "labels.csv", ("file", "label"), good(root))
    head = ("file", "label", "left", "top", "right", "bottom")
    write_csv(root / "boxes.csv", head, [(path, "red", 1, 1, 9, 9)])
    return ["data", "check", root, "--csv", "labels.csv", "--boxes", "boxes.csv"]


def as_coco(root: Path, path: str) -> list[object]:
    files = [*(file for file, _ in good(root)), path]
    labels = [*(label for _, label in good(root)), "red"]
    content = {
        "images": [{"id": at, "file_name": file} for at, file in enumerate(files)],
        "categories": [{"id": at, "name": name} for at, name in enumerate(("red", "blue"))],
        "annotations": [
            {"image_id": at, "category_id": ("red", "blue").index(label)}
            for at, label in enumerate(labels)
        ],
    }
    (root / "labels.json").write_text(json.dumps(content))
    return ["data", "check", root, "--set", "data.name=coco", "--set",
            "data.annotations=labels.json"]  # fmt: skip


def as_events(root: Path, path: str) -> list[object]:
    table = make_recordings(root, patients=2)
    lines = table.read_text(encoding="utf-8").splitlines()
    write_csv(
        root / "one.csv", ("video", "patient", "start", "end", "label"), [(path, "p", 0, 4, "a")]
    )
    table.write_text("\n".join([*lines, (root / "one.csv").read_text().splitlines()[1]]) + "\n")
    return ["clips", table, "--out", root / "clips", "--seconds", 1, "--quiet"]


def as_clips(root: Path, path: str) -> list[object]:
    about = {"format": 1, "complete": True, "settings": {"seconds": 1, "rate": 4, "size": 8}}
    (root / "clips.json").write_text(json.dumps(about))
    head = ("file", "label", "patient", "split", "video", "start", "end", "sha256")
    write_csv(root / "clips.csv", head, [(path, "a", "p", "train", "v.mp4", 0, 1, "")])
    return ["describe", root]


MANIFESTS: dict[str, Callable[[Path, str], list[object]]] = {
    "labels": as_labels,
    "boxes": as_boxes,
    "coco": as_coco,
    "events": as_events,
    "clips": as_clips,
}


def spelled(path: str, root: Path) -> str:
    return path.format(outside=root.parent) if "{" in path else path


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_path_that_leaves_the_root_is_refused_by_name_and_nothing_is_written(
    manifest, path, root
):
    said = spelled(OUTSIDE[path], root)
    command = MANIFESTS[manifest](root, said)
    before = content_of(root.parent)
    ended = atcon(*command)
    assert ended.code == 2, ended
    named = "'file_name' is ' '" if (manifest, path) == ("coco", "nothing") else "is not below"
    assert named in ended.err
    assert repr(said.strip()) in ended.err or path == "nothing"
    assert content_of(root.parent) == before


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("manifest", ["labels", "boxes", "coco", "clips"])
def test_a_path_that_only_looks_like_another_place_names_nothing_in_the_root(manifest, path, root):
    command = MANIFESTS[manifest](root, ODD[path])
    before = content_of(root.parent)
    ended = atcon(*command)
    assert ended.code in (0, 1, 2), ended
    assert "Traceback" not in ended.err
    assert "secret" not in "".join(content_of(root)), "the root holds no such file"
    if ended.code == 2:  # a list of clips says which one is missing, and describes it all the same
        assert "not a readable UTF-8 CSV" in ended.err
    elif manifest in {"labels", "coco"}:
        assert "1 image cannot be used" in " ".join(ended.out.split())
        assert "no such file" in " ".join(ended.out.split())
    assert content_of(root.parent) == before


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/b", "a b.png extra"])
def test_a_list_of_voc_names_images_and_no_paths(name, tmp_path):
    base = tmp_path / "VOC2012"
    (base / "ImageSets" / "Main").mkdir(parents=True)
    (base / "JPEGImages").mkdir()
    for part in ("train", "val"):
        (base / "ImageSets" / "Main" / f"{part}.txt").write_text(f"{name}\n")
    with pytest.raises(InputError, match=r"is not an image name|none of its 1 images is usable"):
        voc(tmp_path)


def test_two_names_that_differ_in_case_only_are_two_images_or_one_that_is_missing(root):
    """A table has no say in it: the file system has, and no image is taken for another one."""
    (root / "RED0.png").write_bytes((root / "blue0.png").read_bytes())
    two = len({path.stat().st_ino for path in (root / "RED0.png", root / "red0.png")})
    rows = [*good(root), ("Red0.png", "red")]
    write_csv(root / "labels.csv", ("file", "label"), dict(rows).items())
    ended = atcon("data", "check", root, "--csv", "labels.csv", "--json", root.parent / "c.json")
    found = json.loads((root.parent / "c.json").read_text())
    skipped = [e["name"] for f in found["findings"] for e in f["entries"] if "reason" in e]
    assert ended.code in (0, 1)
    assert skipped == (["Red0.png"] if two == 2 else [])


NAMES = ("../out", "/out", "a/b", "..", ".hidden", "a\\b", "two\nlines", "")


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_the_name_of_a_configuration_is_no_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(
        json.dumps({"name": name, "data": {"name": "digits"}, "model": {"name": "digits_resnet"}})
    )
    Path("grid.yaml").write_text(
        json.dumps({"name": name, "title": "t", "config": "digits", "per_class": [2], "seeds": [0]})
    )
    before = content_of(tmp_path)
    for command in (("run", "own.yaml"), ("experiment", "run", "./grid.yaml")):
        ended = atcon(*command)
        assert ended.code == 2, ended
        assert "Input should be the name of a folder" in ended.err
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("member", ["../out", "/out", "JPEGImages/../../../../out"])
def test_an_archive_of_data_writes_nothing_beside_its_folder(member, tmp_path, monkeypatch):
    """The one archive that is unpacked: that of VOC, here a hostile one in its place."""
    archive = tmp_path / "root" / "hostile.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as made:
        for name in ("VOCdevkit/VOC2012/JPEGImages/a.jpg", member):
            info = tarfile.TarInfo(name)
            info.size = 3
            made.addfile(info, io.BytesIO(b"out"))
    monkeypatch.setattr(sys.modules["atcon.data.voc"], "fetch", lambda *_: archive)
    before = content_of(tmp_path)
    with pytest.raises(InputError, match="is refused"):
        voc(tmp_path / "root", download=True)
    assert content_of(tmp_path) == before
