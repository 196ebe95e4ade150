"""Own images with groups: where a group comes from, and that no two parts share one."""

from collections import Counter

import numpy as np
import pytest

from atcon.data import few_shot_split, folder
from atcon.errors import InputError


def groups_by_name(image_set) -> dict[str, str | None]:
    return {e.name: e.group for e in (*image_set.pool, *image_set.test)}


@pytest.fixture
def patients(tmp_path):
    """Class folders of files without content, which is not looked at before decoding."""

    def make(*names: str):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make


def ward(seed: int, patients: int = 20) -> list[str]:
    """Two to nine images of each patient, some of whom have images of both classes."""
    random = np.random.default_rng(seed)
    return [
        f"{('ill', 'well')[int(random.random() < 0.2) ^ patient % 2]}/p{patient}/{index}.png"
        for patient in range(patients)
        for index in range(random.integers(2, 10))
    ]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("folder", {"a/A/p1_1.png": "A", "a/A/deep/p2_1.png": "A", "b/B/p1_2.png": "B"}),
        (r"^(p\d+)_", {"a/A/p1_1.png": "p1", "a/A/deep/p2_1.png": "p2", "b/B/p1_2.png": "p1"}),
        (r"_(\d)\.png$", {"a/A/p1_1.png": "1", "a/A/deep/p2_1.png": "1", "b/B/p1_2.png": "2"}),
    ],
)  # fmt: skip
def test_a_group_is_the_folder_in_the_class_folder_or_a_part_of_the_file_name(
    patients, rule, expected
):
    root = patients("a/A/p1_1.png", "a/A/deep/p2_1.png", "b/B/p1_2.png")
    assert groups_by_name(folder(root, group=rule, test_fraction=0.5)) == expected


def test_a_group_is_a_column_of_the_table_or_a_part_of_its_file_names(patients):
    root = patients("p1_1.png", "p1_2.png", "p2_1.png", "p2_2.png")
    rows = ["file,label,patient", "p1_1.png,x,7", "p1_2.png,y,8", "p2_1.png,x,8", "p2_2.png,y,7"]
    (root / "l.csv").write_text("\n".join(rows))
    by_column = folder(root, csv="l.csv", group="patient", test_fraction=0.5)
    by_file = folder(root, csv="l.csv", group="(p.)_", test_fraction=0.5)
    assert groups_by_name(by_column) == {
        "p1_1.png": "7", "p1_2.png": "8", "p2_1.png": "8", "p2_2.png": "7"
    }  # fmt: skip
    assert {e.group for e in by_column.test} in ({"7"}, {"8"})
    assert {e.group for e in by_file.test} in ({"p1"}, {"p2"})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("person", r"data\.group: 'person' is no rule; use 'folder'"),
        ("patient", r"'patient' says nothing of 5 files \(a/x/p1\.png"),
        ("(p", r"data\.group: '\(p' is no regular expression"),
        ("(p)(.)", r"has 2 groups in parentheses, and needs one"),
        (r"p(\d+)", r"says nothing of 1 files \(b/x/odd\.png\); every image needs its group"),
        (r"(z?)", r"says nothing of 5 files \(a/x/p1\.png, a/x/p2\.png, a/x/p3\.png, …\)"),
    ],
)
def test_a_rule_that_leaves_a_group_open_is_refused_and_names_the_files(patients, rule, message):
    root = patients("a/x/p1.png", "a/x/p2.png", "a/x/p3.png", "b/x/p4.png", "b/x/odd.png")
    with pytest.raises(InputError, match=message):
        folder(root, group=rule)


def test_an_image_beside_the_group_folders_is_refused_by_name(patients):
    root = patients("a/x/1.png", "a/2.png", "b/y/3.png")
    with pytest.raises(InputError, match=r"says nothing of 1 files \(a/2\.png\)"):
        folder(root, group="folder")


def test_an_empty_or_missing_group_column_is_refused(patients):
    root = patients("1.png", "2.png")
    (root / "l.csv").write_text("file,label,patient\n1.png,x,p1\n2.png,y,\n")
    with pytest.raises(InputError, match=r"l\.csv, line 3: column 'patient' is empty"):
        folder(root, csv="l.csv", group="patient")
    with pytest.raises(InputError, match=r"no column 'person', but file, label, patient"):
        folder(root, csv="l.csv", group="person")


@pytest.mark.parametrize("population", range(3))
def test_no_group_is_in_two_parts_whatever_the_seed(patients, population):
    names = ward(population, patients=9)
    root = patients(*names)
    for seed in range(10):
        made = folder(root, group="folder", seed=seed)
        train, test = ({e.group for e in part} for part in (made.pool, made.test))
        assert train
        assert test
        assert not train & test
        assert len(made.pool) + len(made.test) == len(names)


def test_another_seed_tests_on_other_groups_where_they_divide_as_well(patients):
    root = patients(*(f"{label}/p{patient}/1.png" for patient in range(6) for label in "ab"))
    drawn = {
        frozenset(e.group for e in folder(root, group="folder", seed=seed).test)
        for seed in range(8)
    }
    assert len(drawn) > 1


def test_the_drawn_groups_have_their_share_of_the_images_and_of_every_class(patients):
    root = patients(*ward(1))
    for seed in range(20):
        made = folder(root, group="folder", seed=seed)
        everything = Counter(e.labels[0] for e in (*made.pool, *made.test))
        tested = Counter(e.labels[0] for e in made.test)
        for label, count in everything.items():
            assert tested[label] / count == pytest.approx(0.3, abs=0.08)
        ((name, remark),) = made.notes
        assert name == "data.group"
        assert f"of {len(set(groups_by_name(made).values()))} groups" in remark
        shares = sorted(tested[label] / everything[label] for label in everything)
        assert f"{shares[0]:.0%} to {shares[-1]:.0%} of each class" in remark


def test_a_given_split_that_parts_a_group_is_refused_by_name(patients):
    names = [f"{part}/{c}/{p}/{i}.png" for part, p in (("train", "p1"), ("test", "p2"))
             for c in "ab" for i in range(3)]  # fmt: skip
    root = patients(*names)
    few_shot_split(folder(root, group="folder"), per_class=1, validation_images=0, seed=0)
    patients("test/a/p1/9.png")
    with pytest.raises(InputError, match="group 'p1' is in the train part and in the test part"):
        few_shot_split(folder(root, group="folder"), per_class=1, validation_images=0, seed=0)


def test_a_single_group_cannot_be_divided(patients):
    root = patients("a/x/1.png", "b/x/1.png")
    with pytest.raises(InputError, match=r"data\.group: 1 groups cannot be divided"):
        folder(root, group="folder")


def test_without_a_rule_no_image_has_a_group(patients):
    made = folder(patients(*ward(0)))
    assert set(groups_by_name(made).values()) == {None}
    assert made.notes == ()
