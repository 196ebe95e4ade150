from collections import Counter

import pytest
import torch
from PIL import Image

from atcon.data import Reader, folder, load
from atcon.errors import BadImageError, InputError
from atcon.types import Box


def by_name(image_set) -> dict[str, tuple[str, ...]]:
    parts = (*image_set.pool, *(image_set.validation or ()), *image_set.test)
    return {e.name: tuple(image_set.classes[label] for label in e.labels) for e in parts}


@pytest.fixture
def write_csv(tmp_path):
    def write(name: str, *lines: str):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return name

    return write


@pytest.fixture
def four(save, tmp_path):
    """Hold a.png to d.png of 20 x 10 pixels."""
    for name in "abcd":
        save(f"{name}.png", size=(20, 10))
    return tmp_path


def test_each_sub_folder_is_a_class(save, tmp_path):
    for index in range(10):
        save(f"cat/{index}.png")
        save(f"dog/deeper/{index}.JPG")
    save("dog/.hidden.png")
    save("dog/.thumbnails/x.png")
    save(".git/x.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    made = folder(tmp_path)
    assert made.classes == ("cat", "dog")
    assert not made.multi_label
    assert by_name(made) == {f"cat/{i}.png": ("cat",) for i in range(10)} | {
        f"dog/deeper/{i}.JPG": ("dog",) for i in range(10)
    }
    assert len(made.test) == 6
    assert load(Reader(made, 4), made.pool).pixels.shape == (14, 3, 4, 4)


def test_classes_select_and_order_the_folders(save, tmp_path):
    for name in ("ant", "bee", "cow"):
        for index in range(4):
            save(f"{name}/{index}.png")
    made = folder(tmp_path, classes=["cow", "ant"])
    assert made.classes == ("cow", "ant")
    assert set(by_name(made).values()) == {("cow",), ("ant",)}
    with pytest.raises(InputError, match=r"label 'ants' .*did you mean 'ant'"):
        folder(tmp_path, classes=["ants", "cow"])


def test_train_and_test_folders_are_the_split(save, tmp_path):
    for part in ("train", "val", "test"):
        for name in ("cat", "dog"):
            save(f"{part}/{name}/1.png")
    made = folder(tmp_path)
    assert [e.name for e in made.pool] == ["train/cat/1.png", "train/dog/1.png"]
    assert [e.name for e in made.validation] == ["val/cat/1.png", "val/dog/1.png"]
    assert [e.name for e in made.test] == ["test/cat/1.png", "test/dog/1.png"]


def test_train_can_be_the_name_of_a_class(save, tmp_path):
    for index in range(4):
        save(f"train/{index}.png")
        save(f"bus/{index}.png")
    assert folder(tmp_path).classes == ("bus", "train")


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.3, 0.5])
def test_the_drawn_test_part_has_its_size_and_every_class_its_share(save, tmp_path, fraction):
    for name, count in {"a": 40, "b": 20, "c": 10}.items():
        for index in range(count):
            save(f"{name}/{index}.png", size=(1, 1))
    made = folder(tmp_path, test_fraction=fraction)
    assert abs(len(made.test) - 70 * fraction) < 1
    counts = Counter(by_name(made)[e.name][0] for e in made.test)
    for name, count in {"a": 40, "b": 20, "c": 10}.items():
        assert abs(counts[name] - count * fraction) < 1
    assert len(made.pool) + len(made.test) == 70


def test_the_seed_draws_the_test_part_and_the_order_of_rows_does_not(four, write_csv):
    lines = [f"{name}.png,{label}" for name, label in zip("abcd", "xxyy", strict=True)]
    first = folder(four, csv=write_csv("1.csv", "file,label", *lines), test_fraction=0.5)
    other = folder(four, csv=write_csv("2.csv", "file,label", *lines[::-1]), test_fraction=0.5)
    assert {e.name for e in first.test} == {e.name for e in other.test}
    draws = {
        tuple(sorted(e.name for e in folder(four, csv="1.csv", seed=s, test_fraction=0.5).test))
        for s in range(20)
    }
    assert draws == {(p, q) for p in ("a.png", "b.png") for q in ("c.png", "d.png")}


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 3])
def test_a_test_fraction_out_of_range_is_refused(four, write_csv, fraction):
    write_csv("l.csv", "file,label", "a.png,x", "b.png,y")
    with pytest.raises(InputError, match=r"data\.test_fraction"):
        folder(four, csv="l.csv", test_fraction=fraction)


def test_a_csv_gives_several_labels_or_none(four, write_csv):
    write_csv(
        "l.csv", "file, labels, remark", "a.png,x;y,", "./b.png, y ; x ; y ,", "c.png,,", "d.png,z,"
    )
    made = folder(four, csv="l.csv")
    assert made.multi_label
    assert made.classes == ("x", "y", "z")
    assert by_name(made) == {
        "a.png": ("x", "y"),
        "b.png": ("x", "y"),
        "c.png": (),
        "d.png": ("z",),
    }


def test_a_csv_with_one_label_per_image_is_single_label(four, write_csv):
    write_csv("l.csv", "\ufefffile,label", "a.png,x", '"b.png","y, too"', "c.png,x", "d.png,x")
    made = folder(four, csv="l.csv")
    assert not made.multi_label
    assert made.classes == ("x", "y, too")


def test_a_csv_can_give_the_split(four, write_csv):
    write_csv("l.csv", "file,label,split", "a.png,x,train", "b.png,y,Val", "c.png,x,test")
    made = folder(four, csv="l.csv")
    names = [[e.name for e in part] for part in (made.pool, made.validation, made.test)]
    assert names == [["a.png"], ["b.png"], ["c.png"]]


def test_the_class_list_of_a_csv_is_binding(four, write_csv):
    write_csv("l.csv", "file,label", "a.png,y", "b.png,x", "c.png,x", "d.png,y")
    assert folder(four, csv="l.csv", classes=["y", "x"]).classes == ("y", "x")
    with pytest.raises(InputError, match=r"l\.csv, line 2: label 'y' is not in the class list"):
        folder(four, csv="l.csv", classes=["x", "z"])


BAD_TABLES = {
    "column file is missing": ("name,label", "a.png,x"),
    "either 'label'": ("file,class", "a.png,x"),
    "found 0 rows": ("file,label",),
    "found an empty file": (),
    "line 3: a.png occurs a second time": ("file,label", "a.png,x", "./a.png,y"),
    "line 2: column 'label' takes exactly one": ("file,label", "a.png,x;y", "b.png,y"),
    "line 3: column 'label' takes exactly one": ("file,label", "a.png,x", "b.png,"),
    r"line 2: file '\.\./a\.png' is not below": ("file,label", "../a.png,x", "b.png,y"),
    r"line 2: file '/etc/x\.png' is not below": ("file,label", "/etc/x.png,x", "b.png,y"),
    "line 2: file '' is not below": ("file,label", ",x", "b.png,y"),
    "line 2: split 'trian'": ("file,label,split", "a.png,x,trian", "b.png,y,test"),
    "no images in the test part": ("file,label,split", "a.png,x,train", "b.png,y,train"),
    "at least two classes": ("file,label", "a.png,x", "b.png,x"),
    "line 2: 2 cells": ("file,label", "a.png,x,too", "b.png,y"),
    "line 3: 2 cells": ("file,label", "a.png,x", "b.png"),
}


@pytest.mark.parametrize("message", BAD_TABLES)
def test_a_bad_table_names_file_line_and_cause(four, write_csv, message):
    (four / "l.csv").write_text("\n".join(BAD_TABLES[message]))
    with pytest.raises(InputError, match=message):
        folder(four, csv="l.csv")


def test_a_table_that_is_no_text_is_refused(four):
    (four / "l.csv").write_bytes(b"file,label\n\xff\xfe\x00")
    with pytest.raises(InputError, match=r"l\.csv: not a readable UTF-8"):
        folder(four, csv="l.csv")


def test_a_row_without_a_file_is_skipped_by_name_or_ends_the_run(four, write_csv):
    rows = [f"{name}.png,{label}" for name, label in zip("abcd", "xyxy", strict=True)]
    write_csv("l.csv", "file,label", *rows, "e.png,x")
    made = folder(four, csv="l.csv", test_fraction=0.5)
    ((name, reason),) = made.skipped
    assert name == "e.png"
    assert "e.png: no such file" in reason
    with pytest.raises(BadImageError, match=r"e\.png: no such file"):
        folder(four, csv="l.csv", on_bad_image="error")


def test_an_empty_class_is_named(save, tmp_path):
    save("cat/1.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match="no image of class 'dog'"):
        folder(tmp_path)


def test_a_missing_or_empty_root_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"data\.root: .*nothing is not a folder"):
        folder(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no class folders; expected .*CLASS/IMAGE"):
        folder(tmp_path)
    with pytest.raises(InputError, match=r"data\.csv: no file l\.csv"):
        folder(tmp_path, csv="l.csv")


LABELS = ("file,labels,split", "a.png,x,train", "b.png,x;y,train", "c.png,y,test")
BOXES = "file,label,left,top,right,bottom"


def boxes_of(four, write_csv, *rows, **options):
    write_csv("l.csv", *LABELS)
    write_csv("b.csv", BOXES, *rows)
    made = folder(four, csv="l.csv", boxes="b.csv", **options)
    return {e.name: e.boxes for e in (*made.pool, *made.test)}, made.notes


def test_boxes_become_fractions_and_change_nothing_else(four, write_csv):
    boxes, notes = boxes_of(four, write_csv, "b.png,y,5,2.5,20,10", "b.png,x,0,0,1,1")
    assert boxes["b.png"] == (Box(1, 0.25, 0.25, 1.0, 1.0), Box(0, 0.0, 0.0, 0.05, 0.1))
    assert boxes["a.png"] == boxes["c.png"] == ()
    assert notes == ()
    plain = folder(four, csv="l.csv")
    assert [(e.name, e.labels) for e in plain.pool] == [("a.png", (0,)), ("b.png", (0, 1))]


def test_boxes_refer_to_the_upright_image(four, write_csv):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(four / "a.png", exif=exif)
    boxes, _ = boxes_of(four, write_csv, "a.png,x,0,0,5,5")
    assert boxes["a.png"] == (Box(0, 0.0, 0.0, 0.5, 0.25),)


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ("a.png,x,-5,0,10,10", (Box(0, 0.0, 0.0, 0.5, 1.0),)),
        ("a.png,x,30,0,40,10", ()),
        ("a.png,x,5,5,5,5", ()),
        ("a.png,x,nan,0,5,5", ()),
        ("z.png,x,0,0,5,5", ()),
    ],
)
def test_a_box_outside_is_repaired_with_a_note_or_ends_the_run(four, write_csv, row, kept):
    boxes, notes = boxes_of(four, write_csv, row)
    assert boxes["a.png"] == kept
    ((name, remark),) = notes
    assert name == row[:5]
    assert "b.csv, line 2" in remark
    with pytest.raises(InputError, match=r"b\.csv, line 2"):
        boxes_of(four, write_csv, row, on_bad_image="error")


def test_a_box_of_an_unreadable_image_is_left_out_with_a_note(four, write_csv):
    (four / "a.png").write_text("no image")
    boxes, notes = boxes_of(four, write_csv, "a.png,x,0,0,5,5")
    assert boxes["a.png"] == ()
    assert "a.png" in notes[0][1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,xx,0,0,5,5", "label 'xx' is not in the class list"),
        ("a.png,y,0,0,5,5", r"a box of 'y', which a\.png is not labelled as"),
        ("a.png,x,0,0,5,wide", "the box is not four numbers"),
        ("../a.png,x,0,0,5,5", "is not below"),
    ],
)
def test_a_contradictory_box_names_its_line(four, write_csv, row, message):
    with pytest.raises(InputError, match=rf"b\.csv, line 2: .*{message}"):
        boxes_of(four, write_csv, row)


def test_reading_gives_the_files_own_pixels(save, tmp_path):
    for name, colour in {"cat": (255, 0, 0), "dog": (0, 0, 255)}.items():
        for index in range(2):
            save(f"{name}/{index}.png", colour)
    made = folder(tmp_path, test_fraction=0.5)
    assert torch.equal(made.read(made.pool[0])[:, 0, 0], torch.tensor([255, 0, 0]).byte())
