import hashlib
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from offline import offline
from pipeline import content_of

from atcon.data import VOC_CLASSES, Reader, few_shot_split, load, voc
from atcon.data.voc import ARCHIVE
from atcon.downloads import Source
from atcon.errors import BadImageError, InputError
from atcon.types import Box

BOMB = """<?xml version="1.0"?>
<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY c "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><object><name>&c;</name></object></annotation>"""
WHOLE = (1, 1, 20, 10)


def index_of(image_set, name: str):
    return next(e for e in (*image_set.pool, *image_set.test) if e.name == name)


def test_there_are_twenty_classes_in_order():
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(set(VOC_CLASSES))


@pytest.mark.parametrize("place", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_any_of_the_three_folders_can_be_given(voc_folder, place):
    made = voc(voc_folder.root / place)
    assert [e.name for e in made.pool] == ["a", "b"]
    assert [e.name for e in made.test] == ["c"]
    assert made.classes == VOC_CLASSES
    assert made.multi_label
    assert load(Reader(made, 8), made.pool).pixels.shape == (2, 3, 8, 8)


def test_labels_are_those_of_the_objects_and_boxes_count_from_one(voc_folder):
    example = index_of(voc(voc_folder.root, classes=["dog", "cat"]), "b")
    assert example.labels == (0, 1)
    assert example.boxes == (Box(1, 0.0, 0.0, 1.0, 1.0), Box(0, 0.5, 0.5, 1.0, 1.0))


def test_difficult_objects_give_neither_label_nor_box(voc_folder):
    voc_folder.add("train", "d", ("dog", WHOLE, 1), ("cat", WHOLE))
    voc_folder.add("train", "e", ("dog", WHOLE, 1))
    made = voc(voc_folder.root)
    assert index_of(made, "d").labels == (VOC_CLASSES.index("cat"),)
    assert len(index_of(made, "d").boxes) == 1
    assert "e" not in [e.name for e in made.pool]
    assert made.skipped == ()


def test_a_subset_of_classes_leaves_out_images_without_them(voc_folder):
    voc_folder.add("val", "d", ("dog", WHOLE), ("person", WHOLE))
    made = voc(voc_folder.root, classes=["person", "dog"])
    assert [e.name for e in made.test] == ["d"]
    assert made.test[0].labels == (0, 1)
    assert index_of(made, "b").labels == (1,)
    assert len(index_of(made, "b").boxes) == 1


def test_second_columns_and_repetitions_in_a_list_are_harmless(voc_folder):
    path = voc_folder.base / "ImageSets/Main/train.txt"
    path.write_text("a  1\r\nb -1\r\na  1\r\n\r\n")
    assert [e.name for e in voc(voc_folder.root).pool] == ["a", "b"]


def test_a_missing_root_says_what_is_expected_where_and_how_to_get_it(tmp_path):
    with pytest.raises(InputError) as caught:
        voc(tmp_path / "nothing")
    for part in (f"{tmp_path}/nothing/VOCdevkit/VOC2012", "JPEGImages", "data.download=true"):
        assert part in str(caught.value)


@pytest.mark.parametrize("missing", ["JPEGImages", "ImageSets/Main/val.txt"])
def test_incomplete_data_name_what_is_missing(voc_folder, missing):
    path = voc_folder.base / missing
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(InputError, match=f"{missing}: no such"):
        voc(voc_folder.root)


def test_a_class_that_voc_has_not_names_the_nearest(voc_folder):
    with pytest.raises(InputError, match=r"data\.classes: label 'dogs' .*did you mean 'dog'"):
        voc(voc_folder.root, classes=["dogs", "cat"])


def test_a_label_that_voc_has_not_names_file_label_and_nearest(voc_folder):
    voc_folder.add("train", "d", ("hrose", WHOLE))
    with pytest.raises(InputError, match=r"d\.xml: label 'hrose' .*did you mean 'horse'"):
        voc(voc_folder.root, classes=["dog", "cat"])


@pytest.mark.parametrize("classes", [["dog"], ["dog", "cat", "dog"]])
def test_a_class_list_needs_two_different_names(voc_folder, classes):
    with pytest.raises(InputError, match=r"data\.classes"):
        voc(voc_folder.root, classes=classes)


BROKEN = {
    "malformed XML": "<annotation><object>",
    "document type": BOMB,
    "'wide', not a number": "<annotation><size><width>wide</width></size></annotation>",
    "None, not a number": "<annotation></annotation>",
    "'nan', not a number": "<annotation><size><width>nan</width></size></annotation>",
    "not positive": "<annotation><size><width>0</width><height>0</height></size></annotation>",
}


@pytest.mark.parametrize("cause", BROKEN)
def test_a_bad_annotation_is_skipped_by_name_or_ends_the_run(voc_folder, cause):
    voc_folder.add("train", "d", xml=BROKEN[cause])
    made = voc(voc_folder.root)
    assert [e.name for e in made.pool] == ["a", "b"]
    ((name, reason),) = made.skipped
    assert name == "d"
    assert "d.xml" in reason
    assert cause in reason
    with pytest.raises(BadImageError, match=cause):
        voc(voc_folder.root, on_bad_image="error")


@pytest.mark.parametrize("encoding", ["utf-16", "cp037"])
def test_an_entity_cannot_hide_behind_an_encoding(voc_folder, encoding):
    voc_folder.add("train", "d")
    (voc_folder.base / "Annotations/d.xml").write_bytes(BOMB.encode(encoding))
    ((name, reason),) = voc(voc_folder.root).skipped
    assert name == "d"
    assert "d.xml" in reason


@pytest.mark.parametrize("lost", ["Annotations/a.xml", "JPEGImages/a.jpg"])
def test_a_missing_file_is_skipped_by_name_or_ends_the_run(voc_folder, lost):
    (voc_folder.base / lost).unlink()
    ((name, reason),) = voc(voc_folder.root).skipped
    assert name == "a"
    assert lost in reason
    with pytest.raises(BadImageError, match=lost):
        voc(voc_folder.root, on_bad_image="error")


def test_nothing_usable_is_an_error_that_shows_a_cause(voc_folder):
    (voc_folder.base / "Annotations/c.xml").unlink()
    with pytest.raises(InputError, match=r"val\.txt: none of its 1 images is usable: .*c\.xml"):
        voc(voc_folder.root)


@pytest.mark.parametrize(
    ("corners", "kept"),
    [
        ((0, 1, 20, 10), Box(0, 0.0, 0.0, 1.0, 1.0)),
        ((11, 6, 25, 30), Box(0, 0.5, 0.5, 1.0, 1.0)),
        ((11.0, 6.0, 15.5, 7.5), Box(0, 0.5, 0.5, 0.775, 0.75)),
        ((22, 1, 30, 10), None),
        ((-5, 1, 0, 10), None),
        ((11, 6, 10, 10), None),
        ((15, 8, 3, 2), None),
    ],
)
def test_a_box_outside_its_image_is_repaired_with_a_note_and_the_label_stays(
    voc_folder, corners, kept
):
    voc_folder.add("train", "d", ("dog", corners))
    made = voc(voc_folder.root, classes=["dog", "cat"])
    example = index_of(made, "d")
    assert example.labels == (0,)
    assert example.boxes == (() if kept is None else (kept,))
    inside = corners[0] == 11.0 and kept is not None and corners[2] <= 20
    assert [name for name, _ in made.notes] == ([] if inside else ["d"])
    if not inside:
        with pytest.raises(InputError, match=r"d\.xml: box"):
            voc(voc_folder.root, on_bad_image="error")


def test_an_image_in_both_lists_is_refused(voc_folder):
    voc_folder.add("val", "a", ("dog", WHOLE))
    with pytest.raises(InputError, match=r"a is in train\.txt and in val\.txt"):
        voc(voc_folder.root)


def test_a_name_cannot_leave_the_folder(voc_folder):
    (voc_folder.base / "ImageSets/Main/val.txt").write_text("../../secret\n")
    with pytest.raises(InputError, match=r"'\.\./\.\./secret' is not an image name"):
        voc(voc_folder.root)


def packed(folder: Path, path: Path) -> Source:
    """The archive of a VOC folder as it is published, at the place where a download puts it."""
    with tarfile.open(path, "w") as archive:
        archive.add(folder, "VOCdevkit")
    content = path.read_bytes()
    return replace(ARCHIVE, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


@pytest.fixture
def archive(voc_folder, tmp_path, monkeypatch) -> Path:
    """A folder to download to, where the whole archive lies already."""
    target = tmp_path / "target"
    target.mkdir()
    path = target / "VOCtrainval_11-May-2012.tar"
    module = sys.modules["atcon.data.voc"]  # the name is also that of its function
    monkeypatch.setattr(module, "ARCHIVE", packed(voc_folder.base.parent, path))
    return path


def test_an_archive_is_unpacked_where_the_data_are_not_there(voc_folder, archive):
    assert len(voc(voc_folder.root, download=True).pool) == 2
    made = voc(archive.parent, download=True)
    assert [e.name for e in made.pool] == ["a", "b"]
    assert content_of(archive.parent / "VOCdevkit") == content_of(voc_folder.base.parent)
    archive.write_bytes(b"")  # nobody looks at it once the data are there
    assert len(voc(archive.parent, download=True).pool) == 2


def test_without_leave_nothing_is_unpacked(archive):
    with pytest.raises(InputError, match=r"data\.download=true"):
        voc(archive.parent)
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_half_an_archive_is_never_unpacked(archive):
    archive.write_bytes(archive.read_bytes()[:-20_000])
    with pytest.raises(InputError, match="not VOC 2012 as published"):
        voc(archive.parent, download=True)
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_a_folder_that_is_not_voc_is_left_alone_and_nothing_is_downloaded(archive):
    (archive.parent / "VOCdevkit" / "VOC2012").mkdir(parents=True)
    archive.unlink()
    with offline() as attempts, pytest.raises(InputError, match="Move it away"):
        voc(archive.parent, download=True)
    assert attempts == []


def test_the_archive_is_asked_for_at_its_publisher(tmp_path, monkeypatch):
    monkeypatch.setattr("atcon.downloads.download.time.sleep", lambda _: None)
    with offline() as attempts, pytest.raises(InputError, match="VOC 2012 could not be downloaded"):
        voc(tmp_path / "target", download=True)
    assert "thor.robots.ox.ac.uk" in attempts[0]
    assert not (tmp_path / "target" / "VOCdevkit").exists()


def test_an_empty_class_is_named_when_a_split_is_drawn(voc_folder):
    voc_folder.add("val", "d", ("sofa", WHOLE))
    made = voc(voc_folder.root, classes=["dog", "sofa"])
    with pytest.raises(InputError, match="class 'sofa' of voc has no image"):
        few_shot_split(made, per_class=1, validation_images=1, seed=0)
