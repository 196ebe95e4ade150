from pathlib import Path

import pytest

from atcon.data import Reader, load, xml_folder
from atcon.errors import BadImageError, InputError
from atcon.types import Box


def text(*objects, size=(20, 10)) -> str:
    """Give an annotation; an object is (name, (xmin, ymin, xmax, ymax)) and perhaps difficult."""
    items = "".join(
        f"<object><name>{name}</name><difficult>{(*more, 0)[0]}</difficult><bndbox>"
        f"<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>"
        f"</bndbox></object>"
        for name, box, *more in objects
    )
    width, height = size
    return (
        f"<annotation><filename>wrong.jpg</filename><size><width>{width}</width>"
        f"<height>{height}</height></size>{items}</annotation>"
    )


@pytest.fixture
def add(save, tmp_path):
    """Save an image of 20 x 10 pixels and its XML file, beside it unless `xml` says where."""

    def add_image(name: str, *objects, xml: str | None = None, content: str | None = None) -> Path:
        save(name, size=(20, 10))
        path = tmp_path / (xml or Path(name).with_suffix(".xml"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content or text(*objects), encoding="utf-8")
        return tmp_path

    return add_image


WHOLE = (1, 1, 20, 10)


@pytest.fixture
def nuts(add):
    """Hold eight images of nuts and bolts."""
    for at in range(8):
        root = add(f"{at}.png", ("nut" if at % 2 else "bolt", WHOLE))
    return root


def by_name(image_set) -> dict:
    parts = (*image_set.pool, *(image_set.validation or ()), *image_set.test)
    return {example.name: example for example in parts}


def test_any_names_are_classes_and_boxes_count_from_one(nuts, add):
    add("8.png", ("nut", (11, 6, 20, 10)), ("hex key", (0, 0, 10, 5)))
    made = xml_folder(nuts)
    assert made.classes == ("bolt", "hex key", "nut")
    assert made.multi_label
    assert by_name(made)["8.png"].labels == (1, 2)
    assert by_name(made)["8.png"].boxes == (Box(2, 0.5, 0.5, 1.0, 1.0), Box(1, 0.0, 0.0, 0.5, 0.5))
    assert made.notes == ()
    assert load(Reader(made, 8), made.pool).pixels.shape == (len(made.pool), 3, 8, 8)


def test_the_image_of_a_file_has_its_name_wherever_it_lies(add, tmp_path):
    for at in range(4):
        add(f"JPEGImages/{at}.jpg", ("nut", WHOLE), xml=f"Annotations/{at}.xml")
        add(f"other/{at}b.png", ("bolt", WHOLE))
    assert set(by_name(xml_folder(tmp_path))) == {
        *(f"JPEGImages/{at}.jpg" for at in range(4)),
        *(f"other/{at}b.png" for at in range(4)),
    }


def test_an_image_beside_the_file_goes_before_others_of_its_name(add, tmp_path):
    for part in ("train", "test", "valid"):
        for at in range(4):
            add(f"{part}/{at}.png", ("nut" if at % 2 else "bolt", WHOLE))
    made = xml_folder(tmp_path)
    for part, examples in (("train", made.pool), ("valid", made.validation), ("test", made.test)):
        assert [e.name for e in examples] == [f"{part}/{at}.png" for at in range(4)]


def test_the_lists_of_a_voc_folder_are_the_split(nuts):
    lists = nuts / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1 1\n2\n")
    (lists / "test.txt").write_text("3\n4\n")
    (lists / "val.txt").write_text("5\n")
    made = xml_folder(nuts)
    assert [e.name for e in made.pool] == ["0.png", "1.png", "2.png"]
    assert [e.name for e in made.test] == ["3.png", "4.png"]
    assert [e.name for e in made.validation] == ["5.png"]
    assert [name for name, _ in made.notes] == ["6.png", "7.png"]
    (lists / "test.txt").write_text("3\n0\n")
    with pytest.raises(InputError, match="0 is in the test list, too"):
        xml_folder(nuts)


def test_difficult_objects_count_for_nothing_and_no_objects_are_no_labels(nuts, add):
    add("8.png", ("nut", WHOLE, 1), ("bolt", WHOLE))
    add("9.png", ("nut", WHOLE, 1))
    add("empty.png")
    made = by_name(xml_folder(nuts))
    assert made["8.png"].labels == (0,)
    assert "9.png" not in made
    assert made["empty.png"].labels == ()
    ((name, remark),) = xml_folder(nuts).notes
    assert name == "9.png"
    assert "all of its objects are marked difficult" in remark
    assert "empty.png" not in by_name(xml_folder(nuts, classes=["nut", "bolt"]))


BOMB = '<!DOCTYPE b [<!ENTITY a "aaaa">]><annotation><object><name>&a;</name></object></annotation>'
BROKEN = {
    "cut": ("<annotation><obj", "malformed XML"),
    "bomb": (BOMB, "a document type or entity is not allowed"),
    "other root": ("<html/>", "its root is <html>, not <annotation>"),
    "no name": (text(("", WHOLE)), "object 1: it has no <name>"),
    "no number": (text(("nut", (1, "x", 3, 4))), r"object 1: <bndbox/ymin> is 'x', not a number"),
    "endless": (text(("nut", (1, 1, 1e9, 4))), "not a number of pixels"),
    "no size": ("<annotation/>", "<size/width> is None, not a number"),
    "size of zero": (text(("nut", WHOLE), size=(0, 0)), "<size> is not positive"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_malformed_file_is_named_and_follows_the_policy(nuts, add, case):
    content, message = BROKEN[case]
    add("bad.png", content=content)
    made = xml_folder(nuts)
    ((name, reason),) = made.skipped
    assert name == "bad.png"
    assert "bad.xml" in reason
    assert set(by_name(made)) == {f"{at}.png" for at in range(8)}
    with pytest.raises(BadImageError, match=message):
        xml_folder(nuts, on_bad_image="error")


def test_images_and_files_without_a_partner_are_named(nuts, add, save):
    save("lonely.png")
    (nuts / "orphan.xml").write_text(text(("nut", WHOLE)))
    add("x/same.png", ("nut", WHOLE), xml="same.xml")
    save("y/same.png")
    add("0.jpg", ("nut", WHOLE), xml="z/0.xml")
    reasons = dict(xml_folder(nuts).skipped)
    assert "no image is named like it" in reasons["orphan.xml"]
    assert "2 images are named like it (x/same.png, y/same.png)" in reasons["same.xml"]
    assert "no XML file is named like it" in reasons["lonely.png"]
    with pytest.raises(BadImageError, match="named like it"):
        xml_folder(nuts, on_bad_image="error")


def test_boxes_outside_and_sizes_that_differ_follow_the_policy(nuts, add):
    add("8.png", ("nut", (11, 6, 30, 10)))
    add("9.png", content=text(("nut", (1, 1, 10, 20)), size=(10, 20)))
    made = xml_folder(nuts)
    notes = dict(made.notes)
    assert "8.xml, object 1: box 10, 5, 30, 10 (edges in pixels) reaches outside" in notes["8.png"]
    assert by_name(made)["8.png"].boxes == (Box(1, 0.5, 0.5, 1.0, 1.0),)
    assert "annotated as 10 x 20, but 9.png is 20 x 10" in notes["9.png"]
    assert by_name(made)["9.png"].boxes == ()


def test_groups_are_the_folders_or_a_part_of_the_file_names(add, tmp_path):
    for at in range(12):
        add(f"p{at // 2}/{at // 3}_{at}.png", ("nut" if at % 2 else "bolt", WHOLE))
    for rule in ("folder", r"^(\d+)_"):
        made = xml_folder(tmp_path, group=rule)
        assert not {e.group for e in made.pool} & {e.group for e in made.test}
    assert by_name(xml_folder(tmp_path, group="folder"))["p5/3_11.png"].group == "p5"
    assert by_name(xml_folder(tmp_path, group=r"^(\d+)_"))["p5/3_11.png"].group == "3"


def test_a_folder_without_xml_files_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no XML file below"):
        xml_folder(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        xml_folder(tmp_path / "none")
