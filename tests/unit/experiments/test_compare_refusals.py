"""What cannot be compared is refused, and every difference is named."""

import shutil

import pytest
from finished_folders import CLASSES, OTHER, edit, make_finished

from atcon.errors import InputError
from atcon.experiments.compare import compare
from atcon.records import read_json


def renamed(part):
    def change(split):
        split[part][0]["name"] = "stranger"

    return change


@pytest.mark.parametrize(
    ("part", "called", "held"),
    [("train", "training", "pool"), ("validation", "validation", "held")],
)
def test_other_images_to_learn_from_are_counted_and_named(fresh, part, called, held):
    edit(fresh[1] / "split.json", renamed(part))
    a, b = fresh
    says = rf"^splits differ: {called} images of {a} and {b}: 1 only in {a} \({held}\d+\), "
    with pytest.raises(InputError, match=says + rf"1 only in {b} \(stranger\)$"):
        compare(fresh)


def test_many_names_are_cut_short(fresh):
    edit(fresh[1] / "split.json", lambda split: split.update(train=[]))
    with pytest.raises(InputError, match=r"6 only in .*a \(pool\d+, pool\d+, pool\d+, …\)$"):
        compare(fresh)


def test_other_test_images_are_counted_and_named(fresh):
    for stage in ("supervised", "combined"):
        path = fresh[1] / "predictions" / f"{stage}.csv"
        path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    says = r"test images of .*a and .*b: 2 only in .*a \(t58, t59\)$"
    with pytest.raises(InputError, match=says):
        compare(fresh, metrics=("map",))


def test_seeds_with_other_test_images_are_told_which_setting_does_that(tmp_path):
    runs = [make_finished(tmp_path / f"seed-{s}", s, images=60 - s) for s in (0, 1)]
    with pytest.raises(
        InputError, match=r"1 only in .*seed-0 .t59.; data.test_images draws others"
    ):
        compare(runs)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_other_labels_or_content_under_the_same_name_are_named(fresh, part):
    path = fresh[1] / "split.json"
    first = read_json(path)[part][0]["name"]
    kept = read_json(path)[part][0]["labels"]
    edit(path, lambda split: split[part][0].update(labels=["cat", "name", CLASSES[2]]))
    says = rf"1 with other labels \({first}\); {first} is {'; '.join(kept)} in the first and cat"
    with pytest.raises(InputError, match=says):
        compare(fresh)
    edit(path, lambda split: split[part][0].update(labels=kept, sha256="other"))
    with pytest.raises(InputError, match=rf"1 with the same name but other content .*: {first}$"):
        compare(fresh)
    edit(path, lambda split: split[part][0].update(sha256=None))
    assert compare(fresh, metrics=("map",))["comparisons"] == 3


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (("cat", "name", "cow"), "sheep; or goat only in .*a, cow only in .*b"),
        (("name", "cat", CLASSES[2]), "another order"),
    ],
)
def test_other_classes_are_named(tmp_path, classes, says):
    runs = make_finished(tmp_path / "a"), make_finished(tmp_path / "b", method=1, classes=classes)
    with pytest.raises(InputError, match=f"^classes of .*a and .*b differ: {says}$"):
        compare(runs)


def test_another_kind_of_labels_and_another_n_are_named(fresh):
    edit(fresh[1] / "summary.json", lambda summary: summary.update(multi_label=False))
    with pytest.raises(InputError, match=r"a is multi-label, .*b single-label"):
        compare(fresh)
    edit(fresh[1] / "summary.json", lambda summary: summary.update(multi_label=True))
    edit(fresh[1] / "split.json", lambda split: split.update(per_class=5))
    with pytest.raises(InputError, match=r"data.per_class is 2 in .*a, but 5 in .*b$"):
        compare(fresh)


def test_a_seed_that_a_method_lacks_is_named(seeds):
    a, b = seeds
    with pytest.raises(InputError, match=r"b lacks seed 0, 3 \(a: 0, 1, 2, 3; b: 1, 2\); run the"):
        compare([a, b / "seed-1", b / "seed-2"])
    with pytest.raises(InputError, match=r"seed-1 lacks seed 2 and .*seed-2 lacks seed 1"):
        compare([a / "seed-1", b / "seed-2"])


def test_another_level_or_number_of_resamples_is_noted(tmp_path):
    runs = (
        make_finished(tmp_path / "a"),
        make_finished(tmp_path / "b", method=1, lifts=OTHER, resamples=100),
    )
    assert compare(runs)["resamples"] == 200
    assert "evaluation.resamples differ" in compare(runs)["notes"][-1]


def test_what_is_no_finished_run_is_named(seeds, tmp_path):
    run = make_finished(tmp_path / "a")
    for path, says in (
        (tmp_path / "none", "none does not exist"),
        (run / "config.yaml", "config.yaml is a file"),
        (run / "predictions", "predictions is not an atcon run folder"),
    ):
        with pytest.raises(InputError, match=says):
            compare([run, path])
    with pytest.raises(InputError, match=r"seed-1 is given twice .also as "):
        compare([seeds[0], seeds[0] / ".." / "a" / "seed-1"])
    (run / "summary.json").unlink()
    with pytest.raises(InputError, match=r"a is an unfinished run .*--resume --out .*a,"):
        compare([run])
    shutil.copytree(seeds[0], tmp_path / "s")
    (tmp_path / "s" / "seed-2" / "summary.json").unlink()
    with pytest.raises(InputError, match="seed-2 is an unfinished run"):
        compare([tmp_path / "s"])


def test_unknown_names_give_the_nearest_and_one_row_is_no_comparison(pair):
    for options, says in (
        ({"metrics": ("mapp",)}, "no metric 'mapp': did you mean 'map'"),
        ({"stages": ("combine",)}, "no stage 'combine': did you mean 'combined'"),
        ({"against": "b:uniform"}, "no row 'b:uniform': did you mean 'a:uniform'"),
    ):
        with pytest.raises(InputError, match=says):
            compare(pair, **options)
    with pytest.raises(InputError, match=r"nothing to compare with a:supervised: .*uniform\)"):
        compare(pair[:1], stages=("supervised",))


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("summary.json", '"seed"', '"sed"', "not the record of a finished run .KeyError"),
        ("summary.json", '"stages"', '"stage"', "not the record of a finished run"),
        ("split.json", '"labels"', '"label"', "not the record of a finished run"),
        ("split.json", "{", "", "split.json: not a readable JSON record"),
        ("config.yaml", "name", "[", "config.yaml: not valid YAML"),
        ("predictions/combined.csv", "predicted", "said", "combined.csv: its columns are"),
        ("predictions/combined.csv", "\nt3,", "\nt3,0,", "row 5: 7 cells, but 6 columns"),
        ("predictions/combined.csv", "\nt3,", "\nt4,", "the test image t4 is in it twice"),
        ("predictions/combined.csv", "\nt3,", "\nu3,", "u3 is no test image of"),
        ("predictions/combined.csv", ",0.", ",x0.", "image t0: could not convert"),
        ("predictions/combined.csv", ",0.", ",inf", "image t0: .*"),
        ("localisation/combined.csv", "\nt3,", "\nt4,", "its images are not those of predictions"),
        ("localisation/combined.csv", "iou", "ious", "combined.csv: its columns are"),
    ],
)
def test_a_damaged_record_is_named(fresh, file, old, new, says):
    path = fresh[1] / file
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())
    with pytest.raises(InputError, match=says):
        compare(fresh)


def test_a_missing_table_is_named(fresh):
    (fresh[1] / "localisation" / "combined.csv").unlink()
    assert compare(fresh, metrics=("map",))["comparisons"] == 3
    with pytest.raises(InputError, match=r"localisation.combined\.csv: no such table"):
        compare(fresh)
