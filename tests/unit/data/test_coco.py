import json
from pathlib import Path

import pytest

from atcon.data import Reader, coco, few_shot_split, load
from atcon.errors import BadImageError, InputError
from atcon.types import Box


def record(count: int = 8) -> dict:
    """Images of 20 x 10 pixels: cats on the even ones, dogs on the odd ones, with boxes."""
    return {
        "info": {"year": 2024},
        "images": [
            {"id": 100 + at, "file_name": f"{at}.png", "width": 20, "height": 10, "who": at // 2}
            for at in range(count)
        ],
        "annotations": [
            {
                "id": at, "image_id": 100 + at, "category_id": 7 + 10 * (at % 2),
                "bbox": [5, 2, 10, 4], "iscrowd": 0, "segmentation": [[1.0] * 8],
            }
            for at in range(count)
        ],
        "categories": [{"id": 17, "name": "dog"}, {"id": 7, "name": "cat"}],
    }  # fmt: skip


@pytest.fixture
def write(save, tmp_path):
    """Write the images and the JSON of a record; text is written as it is."""

    def write_files(content, name: str = "a.json", images: str = "") -> Path:
        if isinstance(content, dict):
            for entry in content.get("images", ()):
                save(f"{images}{entry['file_name']}", size=(20, 10))
            content = json.dumps(content)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return tmp_path

    return write_files


def by_name(image_set) -> dict:
    parts = (*image_set.pool, *(image_set.validation or ()), *image_set.test)
    return {example.name: example for example in parts}


def test_categories_are_labels_and_boxes_become_fractions(write):
    content = record()
    content["annotations"].append(
        {"image_id": 100, "category_id": 17, "bbox": [0, 0, 20, 10], "area": 200}
    )
    made = coco(write(content), annotations="a.json")
    assert made.classes == ("dog", "cat")
    assert made.multi_label
    assert by_name(made)["0.png"].labels == (0, 1)
    assert by_name(made)["0.png"].boxes == (Box(1, 0.25, 0.2, 0.75, 0.6), Box(0, 0, 0, 1, 1))
    assert by_name(made)["1.png"].labels == (0,)
    assert load(Reader(made, 8), made.pool).pixels.shape == (len(made.pool), 3, 8, 8)


def test_crowds_and_annotations_without_a_box_give_labels_alone(write):
    content = record()
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][0]["segmentation"] = {"counts": "abc", "size": [10, 20]}
    del content["annotations"][1]["bbox"]
    made = coco(write(content), annotations="a.json")
    assert (by_name(made)["0.png"].labels, by_name(made)["0.png"].boxes) == ((1,), ())
    assert (by_name(made)["1.png"].labels, by_name(made)["1.png"].boxes) == ((0,), ())


def test_an_image_without_annotations_has_no_label_unless_classes_are_selected(write):
    content = record()
    content["annotations"] = content["annotations"][:-1]
    root = write(content)
    assert by_name(coco(root, annotations="a.json"))["7.png"].labels == ()
    content["annotations"].append({"image_id": 101, "category_id": 7, "bbox": [1, 1, 2, 2]})
    content["categories"].append({"id": 3, "name": "cow"})
    content["annotations"].append({"image_id": 103, "category_id": 3})
    write(content)
    selected = by_name(coco(root, annotations="a.json", classes=["cow", "cat"]))
    assert set(selected) == {"0.png", "1.png", "2.png", "3.png", "4.png", "6.png"}
    assert selected["1.png"].labels == (1,)
    assert selected["3.png"].labels == (0,)
    with pytest.raises(InputError, match=r"label 'caw' is not in the class list; did you mean"):
        coco(root, annotations="a.json", classes=["caw", "cat"])


def test_a_category_without_images_is_noted_and_is_no_class(write):
    content = record()
    content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
    made = coco(write(content), annotations="a.json")
    assert made.classes == ("dog", "cat")
    assert made.notes == (("data.classes", "no image shows 'animals'; not a class of this run"),)


def test_files_for_train_and_test_are_the_split(write):
    root = write(record(), "annotations/instances_train2017.json", images="train2017/")
    write(record(4), "valid/_annotations.coco.json", images="valid/")
    write(record(2), "last.json", images="last/")
    last = record(2)
    for entry in last["images"]:
        entry["file_name"] = f"last/{entry['file_name']}"
    (root / "last.json").write_text(json.dumps(last))
    made = coco(
        root,
        annotations={
            "train": "annotations/instances_train2017.json",
            "val": "valid/_annotations.coco.json",
            "test": "last.json",
        },
    )
    assert [e.name for e in made.pool] == [f"train2017/{at}.png" for at in range(8)]
    assert [e.name for e in made.validation] == [f"valid/{at}.png" for at in range(4)]
    assert [e.name for e in made.test] == ["last/0.png", "last/1.png"]
    with pytest.raises(InputError, match="'eval' is none of 'train', 'validation', 'test'"):
        coco(root, annotations={"train": "last.json", "eval": "last.json"})
    with pytest.raises(InputError, match=r"last/0\.png occurs a second time"):
        coco(root, annotations={"train": "last.json", "test": "last.json"})


def test_groups_are_a_key_of_the_images_or_a_part_of_the_file_name(write):
    content = record(16)
    root = write(content)
    made = coco(root, annotations="a.json", group="who")
    assert {e.name: e.group for e in by_name(made).values()} == {
        f"{at}.png": str(at // 2) for at in range(16)
    }
    assert not {e.group for e in made.pool} & {e.group for e in made.test}
    assert few_shot_split(made, per_class=2, validation_images=2, seed=0)
    by_file = coco(root, annotations="a.json", group=r"(\d)\.png")
    assert by_name(by_file)["12.png"].group == "2"
    del content["images"][3]["who"]
    write(content)
    with pytest.raises(InputError, match=r"a\.json, images\[3\]: 'who' is None"):
        coco(root, annotations="a.json", group="who")
    with pytest.raises(InputError, match=r"data\.group: 'whom' is no rule"):
        coco(root, annotations="a.json", group="whom")


def changed(change) -> dict:
    content = record()
    change(content)
    return content


BROKEN = {
    "not JSON": ('{"images": [', r"not a readable JSON file \(Expecting value: line 1"),
    "too deep": ("[" * 200_000, r"not a readable JSON file \(nested too deeply\)"),
    "a list": ("[]", "not COCO's annotations"),
    "no images": (changed(lambda r: r.pop("images")), "'images' is None, not a list"),
    "text for annotations": (
        changed(lambda r: r.update(annotations="none")), "'annotations' is 'none', not a list"
    ),
    "an entry that is none": (
        changed(lambda r: r["annotations"].append(5)), r"annotations\[8\]: 5 is no entry"
    ),
    "an unknown image": (
        changed(lambda r: r["annotations"][2].update(image_id=5)),
        r"annotations\[2\]: image_id 5 is the id of no image",
    ),
    "an unknown category": (
        changed(lambda r: r["annotations"][2].update(category_id=5)),
        r"annotations\[2\]: category_id 5 is no category",
    ),
    "an id twice": (
        changed(lambda r: r["images"][2].update(id=101)),
        r"images\[2\]: id 101 is that of .*images\[1\], too",
    ),
    "a list as id": (
        changed(lambda r: r["images"][2].update(id=[1])), r"images\[2\]: 'id' is \[1\], not a num"
    ),
    "three edges": (
        changed(lambda r: r["annotations"][2].update(bbox=[1, 2, 3])),
        r"annotations\[2\]: 'bbox' is \[1, 2, 3\], not \[x, y, width, height\]",
    ),
    "no number": (
        changed(lambda r: r["annotations"][2].update(bbox=[1, 2, float("nan"), 4])),
        r"annotations\[2\]: 'bbox' is \[1, 2, nan, 4\]",
    ),
    "half a crowd": (
        changed(lambda r: r["annotations"][2].update(iscrowd=0.5)), "'iscrowd' is 0.5, neither"
    ),
    "no file name": (
        changed(lambda r: r["images"][2].update(file_name=" ")), r"images\[2\]: 'file_name' is ' '"
    ),
    "a negative size": (
        changed(lambda r: r["images"][2].update(width=-3)), r"images\[2\]: 'width' is -3, not a n"
    ),
    "a category twice": (
        changed(lambda r: r["categories"][0].update(name="cat")), "at least two classes"
    ),
    "one category": (changed(lambda r: r["categories"].pop()), "category_id 7 is no category"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_malformed_file_is_refused_and_its_entry_named(write, case):
    content, message = BROKEN[case]
    root = write(record())
    (root / "b.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        coco(root, annotations="b.json")
    assert case == "a category twice" or str(root / "b.json") in str(caught.value)


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "."])
def test_a_file_outside_of_the_root_is_refused(write, tmp_path, name):
    root = write(record())
    content = record()
    content["images"][0]["file_name"] = name
    (root / "b.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"images\[0\]: file .* is not below"):
        coco(root, annotations="b.json")


def test_missing_images_and_boxes_outside_follow_the_policy(write):
    content = record()
    content["annotations"][0]["bbox"] = [10, 5, 30, 5]
    content["annotations"][1]["bbox"] = [1, 1, 0, 5]
    root = write(content)
    (root / "2.png").unlink()
    made = coco(root, annotations="a.json")
    assert [name for name, _ in made.skipped] == ["2.png"]
    clipped, empty = (dict(made.notes)[f"{at}.png"] for at in (0, 1))
    assert "a.json, annotations[0]: box 10, 5, 40, 10 (edges in pixels) reaches outside" in clipped
    assert "annotations[1]" in empty
    assert "left out" in empty
    assert by_name(made)["0.png"].boxes == (Box(1, 0.5, 0.5, 1.0, 1.0),)
    with pytest.raises(BadImageError, match=r"2\.png: no such file"):
        coco(root, annotations="a.json", on_bad_image="error")


def test_boxes_of_another_size_of_the_image_are_left_out_with_a_note(write, save):
    root = write(record())
    save("0.png", size=(10, 20))
    made = coco(root, annotations="a.json")
    assert by_name(made)["0.png"].labels == (1,)
    assert by_name(made)["0.png"].boxes == ()
    assert "annotated as 20 x 10, but 0.png is 10 x 20" in dict(made.notes)["0.png"]
    with pytest.raises(InputError, match="its boxes were left out"):
        coco(root, annotations="a.json", on_bad_image="error")
