import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from atcon.data import ImageSet, few_shot_split
from atcon.data.checks import CHECKS, SEVERITIES, check_data
from atcon.data.checks.look import look_at
from atcon.errors import BadImageError
from atcon.types import Box, Example

PHOTOGRAPHS = [Image.fromarray(array) for array in load_sample_images().images]


def pixels_of(image):
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def crop(number):
    """One of many different crops of 120 x 96 pixels."""
    row, column = divmod(number, 4)
    left, top = 120 * column + 10 * row, 150 + 90 * (row % 3)
    return PHOTOGRAPHS[number % 2].crop((left, top, left + 120, top + 96))


class Made:
    """A data set of two classes with three training and three test images, all of them good."""

    def __init__(self):
        self.pictures = {
            f"{p}{i}": pixels_of(crop(6 * (p == "t") + i)) for p in "pt" for i in range(6)
        }
        self.examples = {
            name: Example(name, (index % 2,), (Box(index % 2, 0, 0, 1, 1),))
            for index, name in enumerate(self.pictures)
        }
        self.broken = {}
        self.options = {"multi_label": False}

    def change(self, name, **changes):
        self.examples[name] = replace(self.examples[name], **changes)

    def read(self, example):
        if example.name in self.broken:
            raise BadImageError(self.broken[example.name])
        return self.pictures[example.name]

    @property
    def image_set(self):
        parts = {p: tuple(e for n, e in self.examples.items() if n[0] == p) for p in "pt"}
        return ImageSet(
            "made", ("cat", "dog"), pool=parts["p"], test=parts["t"], read=self.read, **self.options
        )

    def found(self, check, **options):
        """Severity and text of what a check says, and all its entries."""
        found = check_data(self.image_set, **options).named(check)
        return [(finding.severity, finding.what) for finding in found]


@pytest.fixture
def made():
    return Made()


def stored(image, quality=60, size=None):
    """The image as it comes back from a JPEG file, perhaps of another size."""
    file = io.BytesIO()
    (image.resize(size) if size else image).save(file, "JPEG", quality=quality)
    return pixels_of(Image.open(file))


def test_good_data_have_notes_only_and_every_image_is_read_once(made):
    seen, advanced = [], []
    read = made.read
    made.read = lambda example: seen.append(example.name) or read(example)
    found = check_data(made.image_set, advance=advanced.append)
    few = "2 classes with fewer than 10 test images: cat (3), dog (3). "
    assert [(f.name, f.severity) for f in found.findings] == [
        ("classes", "warning"),
        ("classes", "note"),
        ("sizes", "note"),
    ]
    assert found.findings[0].what.startswith(few)
    assert sorted(seen) == sorted(made.pictures)
    assert sum(advanced) == 12
    assert found.ok
    assert found.counts == {"train": 6, "test": 6}
    assert found.classes == {"test": {"cat": 3, "dog": 3}, "train": {"cat": 3, "dog": 3}}
    assert found.verdict.startswith("1 warning, 2 notes: ")


def test_an_image_that_cannot_be_read_harms_and_is_named_with_its_reason(made):
    made.broken["p1"] = "p1.png: truncated"
    ((severity, what),) = made.found("unreadable")
    assert severity == "harm"
    assert "1 image cannot be read: p1 (train); a run would leave them out" in what
    assert what.endswith("The first: p1.png: truncated")
    assert "a run would end there" in made.found("unreadable", ends_run=True)[0][1]
    made.options["skipped"] = (("p9", "no such file"),)
    assert [s for s, _ in made.found("unreadable")] == ["harm", "harm"]


def test_equal_pixels_in_two_parts_harm_and_within_one_are_worth_a_warning(made):
    made.pictures["t0"] = made.pictures["p0"].clone()
    ((severity, what),) = made.found("duplicates")
    assert severity == "harm"
    assert "p0 (train) = t0 (test)" in what
    assert made.found("near_duplicates") == []
    made.pictures["t0"] = made.pictures["t2"].clone()
    ((severity, what),) = made.found("duplicates")
    assert severity == "warning"
    assert "t0 (test) = t2 (test)" in what


def test_equal_pixels_that_the_drawn_split_divides_harm(made):
    def draw(problem=None):
        return few_shot_split(
            made.image_set, per_class=1, validation_images=2, seed=0, problem=problem
        )

    train, chosen = draw().train[0].name, draw().validation[0].name
    made.pictures[chosen] = made.pictures[train].clone()
    assert made.found("duplicates")[0][0] == "warning"
    ((severity, what),) = made.found("duplicates", draw=draw)
    assert severity == "harm"
    assert f"{train} (train)" in what
    assert f"{chosen} (validation)" in what


@pytest.mark.parametrize("name", ["t0", "p2"])
def test_a_picture_stored_anew_is_a_copy(made, name):
    made.pictures[name] = stored(crop(0), size=(70, 70))
    ((severity, what),) = made.found("near_duplicates")
    assert severity == ("harm" if name == "t0" else "warning")
    assert "1 pair of copies" in what
    assert "p0 (train)" in what
    assert name in what
    assert made.found("duplicates") == []


def test_a_brighter_picture_is_alike_and_a_person_has_to_look(made):
    made.pictures["t0"] = (made.pictures["p0"].float() * 0.8).round().to(torch.uint8)
    ((severity, what),) = made.found("near_duplicates")
    assert severity == "warning"
    assert "1 pair of images that are much alike in several parts: p0 (train) = t0 (test)" in what


def test_images_of_one_group_may_be_alike(made):
    made.pictures["p2"] = stored(crop(0))
    assert made.found("near_duplicates")[0][0] == "warning"
    for name in ("p0", "p2"):
        made.change(name, group="patient 7")
    assert made.found("near_duplicates") == []


def test_images_without_contrast_are_not_compared(made):
    for name, level in (("p0", 90), ("t0", 92)):
        noise = torch.randint(0, 3, (3, 96, 120), generator=torch.Generator().manual_seed(level))
        made.pictures[name] = (level + noise).to(torch.uint8)
    assert made.found("near_duplicates") == []


def test_equal_pixels_with_different_labels_harm_with_both(made):
    made.pictures["p1"] = made.pictures["p0"].clone()
    ((severity, what),) = made.found("conflicts")
    assert severity == "harm"
    assert "p0 (cat) = p1 (dog)" in what
    made.change("p1", labels=(0,))
    assert made.found("conflicts") == []


def test_a_group_in_two_parts_harms_and_missing_groups_are_counted(made):
    for name in ("p0", "p1", "t0"):
        made.change(name, group="patient 7")
    for name in ("p2", "p3"):
        made.change(name, group="patient 8")
    (divided, without) = made.found("groups")
    assert divided[0] == "harm"
    assert "1 group of 2 in several parts: patient 7 (test and train)" in divided[1]
    assert without[0] == "warning"
    assert "7 images without a group" in without[1]


def test_a_split_that_cannot_be_drawn_harms_in_the_words_of_the_run(made):
    def draw(problem):
        return few_shot_split(
            made.image_set, per_class=4, validation_images=1, seed=0, problem=problem
        )

    ((severity, what),) = made.found("split", draw=draw)
    assert severity == "harm"
    assert "a run could not draw its images: data.per_class: class" in what


def test_unreadable_images_are_not_drawn_and_not_counted(made):
    made.broken.update({"p0": "broken", "p2": "broken"})

    def draw(problem):
        return few_shot_split(
            made.image_set, per_class=2, validation_images=0, seed=0, problem=problem
        )

    ((_, what),) = made.found("split", draw=draw)
    assert "class 'cat' of made has 1 images" in what
    made.broken["p4"] = "broken"
    severities = made.found("classes")
    assert severities[0] == ("harm", "1 class without an image in the train part: cat")


def test_unbalanced_classes_are_worth_a_warning(made):
    for number in range(40):
        name = f"p{number}"
        made.pictures[name] = torch.randint(
            0, 256, (3, 9, 9), generator=torch.Generator().manual_seed(number), dtype=torch.uint8
        )
        made.examples[name] = Example(name, (int(number > 2),))
    severity, what = made.found("classes")[-1]
    assert severity == "warning"
    assert "dog 37, cat 3. dog has 12 times the images of cat" in what


def test_an_image_without_a_label_harms_where_one_is_needed(made):
    made.change("p0", labels=(), boxes=())
    assert made.found("unlabelled") == [("harm", "1 image without any label: p0 (train)")]
    made.options["multi_label"] = True
    assert made.found("unlabelled") == [("note", "1 image without any label: p0 (train)")]


def test_boxes_and_labels_must_belong_together(made):
    made.change("p0", boxes=(Box(0, 0.2, 0.1, 1.2, 0.9),))
    made.change("p1", boxes=(Box(1, 0.5, 0.5, 0.5, 0.9),))
    made.change("p2", boxes=(Box(0, 0, 0, 1, 1), Box(1, 0, 0, 1, 1)))
    made.change("p3", boxes=())
    outside, stray, bare = made.found("boxes")
    assert outside[0] == stray[0] == "harm"
    assert "2 images with boxes without area or outside of the image: p0 (train), p1" in outside[1]
    assert "1 image with boxes of classes that they are not labelled as: p2 (train)" in stray[1]
    assert bare[0] == "warning"
    assert "1 image with labels without a box: p3 (train)" in bare[1]
    for name in made.examples:
        made.change(name, boxes=())
    assert made.found("boxes") == []


def test_repaired_boxes_are_a_warning_until_they_are_many_or_end_a_run(made):
    for number in range(100):
        made.examples[f"q{number}"] = Example(f"q{number}", (0,))
    made.options["notes"] = (("p0", "p0.xml: box 1, 1, 30, 10 reaches outside"),)
    assert made.found("repaired")[0][0] == "harm"  # one of twelve
    boxes = (Box(0, 0, 0, 1, 1),)
    for number in range(30):
        name = f"p{number}"
        made.pictures.setdefault(name, made.pictures["p0"])
        made.examples.setdefault(name, Example(name, (0,), boxes))
    ((severity, what),) = made.found("repaired")
    assert severity == "warning"
    assert "p0.xml: box 1, 1, 30, 10 reaches outside" in what
    assert made.found("repaired", ends_run=True)[0][0] == "harm"


def test_a_remark_on_the_whole_data_set_is_a_note(made):
    made.options["notes"] = (("data.group", "the test part is 3 of 9 groups"),)
    assert made.found("repaired") == [("note", "data.group: the test part is 3 of 9 groups")]


def test_suspicious_sizes_are_named(made):
    made.pictures["p0"] = torch.zeros(3, 1, 1, dtype=torch.uint8)
    made.pictures["p1"] = made.pictures["p1"][:, :12]
    tiny, long, constant, sizes = made.found("sizes")
    assert "1 image with fewer than 8 pixels a side: p0 (train) 1 x 1" in tiny[1]
    assert "1 image more than 5 times as long as wide: p1 (train) 120 x 12" in long[1]
    assert "1 image of one colour, without content: p0 (train)" in constant[1]
    assert [severity for severity, _ in (tiny, long, constant)] == ["warning"] * 3
    assert sizes[0] == "note"
    assert sizes[1].startswith("3 sizes, from 1 x 1 to 120 x 96 pixels, median of the shorter side")
    assert sizes[1].endswith("96; 10 images have 120 x 96")


def with_files(made, tmp_path, mode_of):
    for number in range(24):
        name = f"{'pt'[number % 2]}{number}"
        path = tmp_path / f"{name}.png"
        label = number // 2 % 2
        crop(number % 12).resize((40 + number, 40)).convert(mode_of(label)).save(path)
        made.pictures[name] = pixels_of(Image.open(path))
        made.examples[name] = Example(name, (label,), (), str(path))


def test_a_pixel_format_that_only_one_class_has_gives_it_away(made, tmp_path):
    made.examples.clear()
    with_files(made, tmp_path, lambda label: ("L", "RGB")[label])
    ((severity, what),) = made.found("modes")
    assert severity == "note"
    assert "L 12, RGB 12" in what or "RGB 12, L 12" in what
    said = [what for _, what in made.found("shortcuts")]
    assert len(said) == 2
    assert "the pixel format L gives the class away: nearly all images of cat have it" in said[0]


def test_one_format_for_all_is_not_worth_a_word(made, tmp_path):
    made.examples.clear()
    with_files(made, tmp_path, lambda _: "RGB")
    assert made.found("modes") == made.found("shortcuts") == []


def test_a_size_that_only_one_class_has_gives_it_away(made):
    made.examples.clear()
    for number in range(24):
        name = f"{'pt'[number % 2]}{number}"
        label = number // 2 % 2
        made.pictures[name] = pixels_of(crop(number % 12).resize((50 + 10 * label, 40)))
        made.examples[name] = Example(name, (label,))
    assert [what.split(" gives")[0] for _, what in made.found("shortcuts")] == [
        "the size 50 x 40",
        "the size 60 x 40",
    ]


def test_unlabelled_images_may_be_training_images_but_not_test_images(made):
    other = Made()
    other.examples = {"u0": Example("u0", ()), "u1": Example("u1", ())}
    other.pictures = {"u0": made.pictures["p0"], "u1": made.pictures["t1"]}
    extra = replace(other.image_set, pool=tuple(other.examples.values()))
    apart, together = check_data(made.image_set, unlabelled=extra).named("duplicates")
    assert (apart.severity, together.severity) == ("harm", "warning")
    assert apart.entries == (["t1 (test)", "u1 (unlabelled)"],)
    assert together.entries == (["p0 (train)", "u0 (unlabelled)"],)


def test_clips_are_checked_as_images_are(made):
    for name, picture in made.pictures.items():
        moved = [picture.roll(step, dims=-1) for step in range(4)]
        made.pictures[name] = torch.stack(moved, dim=1)
    made.pictures["t0"] = made.pictures["p0"].clone()
    made.pictures["t1"] = (made.pictures["p1"] // 2 * 2).clone()
    assert "p0 (train) = t0 (test)" in made.found("duplicates")[0][1]
    assert "p1 (train) = t1 (test)" in made.found("near_duplicates")[0][1]
    assert "all images have 120 x 96 pixels" in made.found("sizes")[0][1]


def test_the_shape_is_part_of_what_makes_pixels_equal(made):
    made.pictures["p0"] = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8).repeat(3, 1, 1)
    made.pictures["t0"] = made.pictures["p0"].reshape(3, 4, 16)
    assert made.found("duplicates") == []
    one, other = (look_at(made.image_set, made.examples[name]) for name in ("p0", "t0"))
    assert one.digest != other.digest


def test_findings_come_worst_first_with_names_of_the_table_and_full_lists(made):
    for number in range(5):
        made.pictures[f"t{number}"] = made.pictures[f"p{number}"].clone()
    made.broken["p5"] = "broken"
    found = check_data(made.image_set)
    order = [SEVERITIES.index(finding.severity) for finding in found.findings]
    assert order == sorted(order, reverse=True)
    assert {finding.name for finding in found.findings} <= set(CHECKS)
    (duplicates,) = found.named("duplicates")
    assert "and 2 more" in duplicates.what
    assert len(duplicates.entries) == 5
    assert not found.ok
    record = found.to_record()
    assert record["severity"] == "harm"
    assert len(record["findings"]) == len(found.findings)
