"""Promise 9: what is broken in data is passed over by name, or ends the run, and is counted.

Recordings with frames missing or damaged are in tests/unit/experiments/test_clip_failures.py, and
clips that are damaged, missing or exchanged in tests/unit/cli/test_data_forms.py.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline import COLOURS, atcon, truncate

from atcon.data import coco, folder, read_image, voc, xml_folder
from atcon.data.loading import Reader, load
from atcon.errors import InputError
from atcon.records import read_json, write_csv

SIDE = 48
TOO_LARGE = 9_460  # a side; its square is beyond the limit on pixels


def picture(label: str, seed: int) -> Image.Image:
    """A square of the label's colour on noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    pixels[12:36, 12:36] = COLOURS[label]
    return Image.fromarray(pixels)


def cut(path: Path) -> None:
    picture("red", 90).save(path)
    truncate(path)


def flipped(path: Path) -> None:
    picture("red", 91).save(path)
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)


BROKEN: dict[str, Callable[[Path], object]] = {
    "truncated.jpg": cut,
    "truncated.png": cut,
    "damaged.png": flipped,
    "empty.jpg": lambda path: path.write_bytes(b""),
    "text called.jpg": lambda path: path.write_text("not an image"),
    "page called.png": lambda path: path.write_text("<html><script>1</script></html>"),
    "archive called.png": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(200)),
    "bomb.png": lambda path: Image.new("1", (TOO_LARGE, TOO_LARGE)).save(path),
    "floating.tif": lambda path: Image.fromarray(np.zeros((SIDE, SIDE), np.float32)).save(path),
    "stack.tif": lambda path: picture("red", 92).save(
        path, save_all=True, append_images=[picture("red", 93)]
    ),
    "a folder.jpg": lambda path: path.mkdir(),
    "missing.jpg": lambda _: None,
    "x" * 300 + ".jpg": lambda _: None,
}
"""What cannot be used; the last three are no files."""

ROTATED = Image.Exif()
ROTATED[0x0112] = 6

ODD: dict[str, Callable[[Path], object]] = {
    "cmyk.jpg": lambda path: picture("red", 80).convert("CMYK").save(path),
    "palette.png": lambda path: picture("red", 81).quantize().save(path),
    "grey.png": lambda path: picture("red", 82).convert("L").save(path),
    "grey 16.png": lambda path: Image.fromarray(
        np.asarray(picture("red", 83).convert("L")).astype(np.uint16) * 257
    ).save(path),
    "transparent.png": lambda path: picture("red", 84).convert("RGBA").save(path),
    "png called.jpg": lambda path: picture("red", 85).save(path, format="PNG"),
    "rotated.jpg": lambda path: picture("red", 86).save(path, exif=ROTATED),
    "animated.gif": lambda path: picture("red", 87).save(
        path, save_all=True, append_images=[picture("red", 88)]
    ),
}
"""What can be used, though not every program does."""


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory) -> Path:
    """Good images, odd ones and broken ones, with tables of labels, parts and boxes.

    The odd and the broken ones are test images, all of which a run opens. Of the boxes one is of
    a broken image, one reaches outside and one lies outside.
    """
    root = tmp_path_factory.mktemp("spoiled") / "data"
    root.mkdir()
    rows = [
        (f"{part} {label} {at}.png", label, part)
        for part, count in (("train", 3), ("validation", 2), ("test", 2))
        for label in COLOURS
        for at in range(count)
    ]
    for at, (name, label, _) in enumerate(rows):
        picture(label, at).save(root / name)
    for name, make in (*ODD.items(), *BROKEN.items()):
        make(root / name)
        rows.append((name, "red", "test"))
    write_csv(root / "labels.csv", ("file", "label", "split"), rows)
    boxes = [(name, "red", 12, 12, 36, 36) for name in ODD]
    boxes += [
        ("test red 0.png", "red", 12, 12, 99, 36),
        ("test red 1.png", "red", 60, 12, 99, 36),
        ("empty.jpg", "red", 12, 12, 36, 36),
    ]
    write_csv(root / "boxes.csv", ("file", "label", "left", "top", "right", "bottom"), boxes)
    return root


REPAIRED = {"test red 0.png", "test red 1.png", "empty.jpg"}


def config(path: Path, root: Path, policy: str) -> Path:
    content = {
        "data": {
            "name": "folder", "root": str(root), "csv": "labels.csv", "boxes": "boxes.csv",
            "per_class": 2, "validation_images": 6, "image_size": SIDE, "augmentation": "none",
            "on_bad_image": policy,
        },
        "model": {"name": "digits_resnet"},
        "supervised": {"epochs": 1}, "consistency": {"epochs": 1},
        "controls": {"uniform": False}, "evaluation": {"gallery": 2, "resamples": 100},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def test_a_check_names_and_counts_exactly_what_was_broken(spoiled, tmp_path):
    own = config(tmp_path / "own.yaml", spoiled, "skip")
    ended = atcon("data", "check", own, "--json", tmp_path / "check.json", "--quiet")
    assert ended.code == 1, ended
    findings = read_json(tmp_path / "check.json")["findings"]
    entries = [e for finding in findings for e in finding["entries"] if isinstance(e, dict)]
    unreadable = [e["name"].removesuffix(" (test)") for e in entries if "reason" in e]
    repaired = [e["name"] for e in entries if "remark" in e]
    assert sorted(unreadable) == sorted(BROKEN)
    assert sorted(repaired) == sorted(REPAIRED)


def test_a_run_counts_exactly_what_was_broken_and_exchanges_nothing(spoiled, tmp_path):
    own = config(tmp_path / "own.yaml", spoiled, "skip")
    ended = atcon("run", own, "--out", tmp_path / "run")
    assert ended.code == 0, ended
    summary, split = (read_json(tmp_path / "run" / f"{name}.json") for name in ("summary", "split"))
    skipped = {entry["name"]: entry["reason"] for entry in split["skipped"]}
    assert len(split["skipped"]) == summary["counts"]["skipped"] == len(BROKEN)
    assert skipped.keys() == BROKEN.keys()
    assert {note["name"] for note in split["notes"]} == REPAIRED
    for name, reason in skipped.items():
        assert name in reason
        assert f"skipped {name}: {reason}" in ended.err
    used = [entry for part in ("train", "validation", "test") for entry in split[part]]
    tested = {entry["name"] for entry in split["test"] if entry["sha256"] is not None}
    assert tested == ODD.keys() | {f"test {label} {at}.png" for label in COLOURS for at in range(2)}
    assert summary["counts"]["test"] == len(tested)
    for entry in used:
        if entry["name"] not in BROKEN:
            content = (spoiled / entry["name"]).read_bytes()
            assert entry["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_run_ends_at_the_first_broken_one_where_the_policy_says_error(spoiled, tmp_path):
    own = config(tmp_path / "own.yaml", spoiled, "error")
    ended = atcon("run", own, "--out", tmp_path / "run", "--quiet")
    assert ended.code == 2, ended
    assert any(name in ended.err for name in BROKEN)
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("policy", ["skip", "error"])
@pytest.mark.parametrize("name", BROKEN)
def test_each_kind_alone_follows_the_policy(name, policy, spoiled, tmp_path):
    rows = [(f"train {label} {at}.png", label) for label in COLOURS for at in range(3)]
    write_csv(tmp_path / "own.csv", ("file", "label"), [*rows, (name, "red")])

    def skipped() -> list[str]:
        images = folder(spoiled, csv=tmp_path / "own.csv", on_bad_image=policy)
        found = load(Reader(images, 16), (*images.pool, *images.test), policy)
        assert len(found.examples) == len(rows)
        return [name for name, _ in (*images.skipped, *found.skipped)]

    if policy == "skip":
        assert skipped() == [name]
        return
    with pytest.raises(InputError) as refused:
        skipped()
    assert name in str(refused.value)


OBJECT = (
    "<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
    "<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
)
ENTITIES = '<!DOCTYPE a [<!ENTITY a "xxxxxxxxxx">{}]>'.format(
    "".join(f'<!ENTITY a{n} "{"&a%s;" % (n - 1 or "") * 10}">' for n in range(1, 12))
)
OUTSIDE_FILE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
MALFORMED = {
    "cut": "<annotation><object>",
    "no XML": "a note",
    "empty": "",
    "entities": f"{ENTITIES}<annotation><object><name>&a11;</name></object></annotation>",
    "another file": f"{OUTSIDE_FILE}<annotation><object><name>&a;</name></object></annotation>",
    "no size": "<annotation><object><name>red</name></object></annotation>",
    "no number": "<annotation><size><width>1e999</width><height>x</height></size></annotation>",
    "no box": "<annotation><size><width>20</width><height>10</height></size><object>"
    "<name>dog</name></object></annotation>",
    "another encoding": "<?xml version='1.0' encoding='utf-16'?><annotation/>",
}
"""Annotations that cannot be used."""


def annotation(name: str, size: tuple[int, int], box: tuple[int, ...]) -> str:
    left, top, right, bottom = box
    edges = OBJECT.format(name=name, left=left + 1, top=top + 1, right=right, bottom=bottom)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{sides}{edges}</annotation>"


def annotated(root: Path, form: str) -> tuple[Path, Path]:
    """The folders of images and annotations of a form."""
    if form == "xml":
        root.mkdir()
        return root, root
    base = root / "VOC2012"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / part).mkdir(parents=True)
    return base / "JPEGImages", base / "Annotations"


@pytest.mark.parametrize("form", ["xml", "voc"])
def test_malformed_annotations_and_boxes_outside_are_counted_by_name(form, tmp_path):
    images, texts = annotated(tmp_path / "data", form)
    inside, outside = (2, 2, 12, 8), (30, 2, 40, 8)
    good = {f"{label}{at}": (label, inside) for label in ("dog", "cat") for at in range(4)}
    good |= {"clipped": ("dog", (2, 2, 40, 8))} | {"outside": ("dog", outside)}
    for name in (*good, *MALFORMED):
        Image.new("RGB", (20, 10), (len(name), 90, 90)).save(images / f"{name}.jpg")
    for name, (label, box) in good.items():
        (texts / f"{name}.xml").write_text(annotation(label, (20, 10), box))
    for name, text in MALFORMED.items():
        (texts / f"{name}.xml").write_text(text)
    spelled = {name: name.replace(" ", "_") for name in (*good, *MALFORMED)}
    for name, new in spelled.items():  # a list of VOC ends a name at a blank
        (images / f"{name}.jpg").rename(images / f"{new}.jpg")
        (texts / f"{name}.xml").rename(texts / f"{new}.xml")
    if form == "voc":
        lists = images.parent / "ImageSets" / "Main"
        test = [name for name in good if name.endswith("3")]
        train = [new for name, new in spelled.items() if name not in test]
        (lists / "train.txt").write_text("\n".join(train))
        (lists / "val.txt").write_text("\n".join(test))
        found = voc(tmp_path / "data", classes=["cat", "dog"])
    else:
        found = xml_folder(tmp_path / "data")
    ending = ".jpg" if form == "xml" else ""
    assert [name for name, _ in found.skipped] == sorted(
        (f"{spelled[name]}{ending}" for name in MALFORMED),
        key=[name for name, _ in found.skipped].index,
    )
    assert sorted(name for name, _ in found.notes) == [f"clipped{ending}", f"outside{ending}"]
    assert len(found.pool) + len(found.test) == len(good)
    reasons = {Path(name).stem: reason for name, reason in found.skipped}
    for name in ("entities", "another_file"):
        assert "a document type or entity is not allowed" in reasons[name]


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""How a camera stores an upright picture, by the orientation that it notes."""
PLACE = (6, 4, 18, 12)
WIDE = (40, 20)


def turned(path: Path, orientation: int, fill: tuple[int, int, int]) -> None:
    upright = np.zeros((WIDE[1], WIDE[0], 3), np.uint8)
    left, top, right, bottom = PLACE
    upright[top:bottom, left:right] = fill
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TURNS[orientation](upright))
    Image.fromarray(stored).save(path, format="PNG", exif=exif)


def by_csv(root: Path, names: dict[str, str]) -> object:
    write_csv(root / "labels.csv", ("file", "label"), names.items())
    head = ("file", "label", "left", "top", "right", "bottom")
    write_csv(root / "boxes.csv", head, [(*item, *PLACE) for item in names.items()])
    return folder(root, csv="labels.csv", boxes="boxes.csv", on_bad_image="error")


def by_coco(root: Path, names: dict[str, str]) -> object:
    left, top, right, bottom = PLACE
    box = [left, top, right - left, bottom - top]
    content = {
        "images": [
            {"id": at, "file_name": name, "width": WIDE[0], "height": WIDE[1]}
            for at, name in enumerate(names)
        ],
        "categories": [{"id": label, "name": label} for label in ("cat", "dog")],
        "annotations": [
            {"image_id": at, "category_id": label, "bbox": box}
            for at, label in enumerate(names.values())
        ],
    }
    (root / "labels.json").write_text(json.dumps(content))
    return coco(root, annotations="labels.json", on_bad_image="error")


def by_xml(root: Path, names: dict[str, str]) -> object:
    for name, label in names.items():
        (root / name).with_suffix(".xml").write_text(annotation(label, WIDE, PLACE))
    return xml_folder(root, on_bad_image="error")


def by_voc(root: Path, names: dict[str, str]) -> object:
    images, texts = annotated(root / "voc", "voc")
    for name, label in names.items():
        shutil.copy(root / name, images)
        (texts / name).with_suffix(".xml").write_text(annotation(label, WIDE, PLACE))
    stems = [Path(name).stem for name in names]
    lists = images.parent / "ImageSets" / "Main"
    (lists / "train.txt").write_text("\n".join(stems[::2]))
    (lists / "val.txt").write_text("\n".join(stems[1::2]))
    return voc(root / "voc", classes=["cat", "dog"], on_bad_image="error")


@pytest.mark.parametrize("form", [by_csv, by_coco, by_xml, by_voc])
def test_boxes_follow_the_rotation_that_the_camera_noted(form, tmp_path):
    names = {}
    for orientation in TURNS:
        for label in ("cat", "dog"):
            names[f"{label}{orientation}.jpg"] = label
            turned(tmp_path / f"{label}{orientation}.jpg", orientation, (9, 99, 199))
    found = form(tmp_path, names)
    examples = (*found.pool, *found.test)
    assert len(examples) == len(names)
    for example in examples:
        (box,) = example.boxes
        pixels = read_image(example.path)
        _, height, width = pixels.shape
        left, right = (round(edge * width) for edge in (box.left, box.right))
        top, bottom = (round(edge * height) for edge in (box.top, box.bottom))
        assert (left, top, right, bottom) == PLACE
        inside = torch.zeros(height, width, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        assert torch.equal(pixels[2] == 199, inside), example.name
