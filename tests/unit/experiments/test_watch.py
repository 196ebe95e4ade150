"""Watching new images with a finished tiny run, by the command as a user calls it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pipeline import atcon, content_of, save_disc, truncate

from atcon.data import digits
from atcon.errors import InputError
from atcon.experiments.watch import watch
from atcon.records import read_csv, read_json, write_csv

FORMULA = "=1+1.png"


@pytest.fixture(scope="module")
def scenes(finished_run, tmp_path_factory) -> Path:
    """The test images of the run as files, without loss, in a folder per class."""
    root = tmp_path_factory.mktemp("scenes")
    image_set = digits()
    tested = {entry["name"] for entry in read_json(finished_run / "split.json")["test"]}
    for example in image_set.test:
        if example.name in tested:
            place = root / image_set.classes[example.labels[0]]
            place.mkdir(exist_ok=True)
            pixels = image_set.read(example).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(place / f"{example.name.replace('/', '_')}.png")
    return root


@pytest.fixture
def flat(tmp_path) -> Path:
    """Twelve images without labels, one called like a formula and one that is broken."""
    root, random = tmp_path / "new", np.random.default_rng(0)
    names = [FORMULA, "esc\x1b[2J.png", *(f"{at:02d}.png" for at in range(10))]
    for name in names:
        save_disc(root / name, ("red",), random)
    truncate(root / "03.png")
    return root


def test_scores_are_those_of_the_evaluation_and_errors_follow_the_labels(finished_run, scenes):
    watched = watch(finished_run, scenes)
    seen = read_csv(finished_run / "localisation" / "consistency.csv")
    rows = {row["name"].partition("/")[2].removesuffix(".png"): row for row in watched.rows}
    assert len(rows) == len(seen)
    for expected in seen:
        row = rows[expected["name"].replace("/", "_")]
        assert row["consistency"] == pytest.approx(float(expected["correlation"]), abs=1e-4)
        assert row["predicted"] == expected["class"]
    record = watched.record
    assert record["counts"]["labelled"] == len(seen)
    wrong = [not row["correct"] for row in watched.rows]
    assert record["errors"]["errors"] == sum(wrong)
    assert list(record["consistency"]) == ["validation", "train", "new"]
    assert record["consistency"]["validation"]["count"] == 20
    ranked = sorted(row["consistency"] for row in watched.rows)
    assert [row["consistency"] for row in record["least"]] == ranked[:10]


@pytest.mark.slow
def test_the_size_of_a_batch_does_not_move_a_score(finished_run, scenes):
    one, many = (
        watch(finished_run, scenes, overrides=[f"evaluation.batch_size={size}"]).rows
        for size in (1, 7)
    )
    np.testing.assert_allclose(
        [row["consistency"] for row in one], [row["consistency"] for row in many], atol=1e-5
    )


def test_a_flat_folder_is_watched_and_a_broken_image_is_named(finished_run, flat, tmp_path):
    before = content_of(finished_run)
    out = tmp_path / "out"
    ended = atcon("monitor", finished_run, flat, "--out", out, "--least", 3)
    assert ended.code in (0, 1), ended.err
    assert "skipped 03.png" in ended.err
    assert "\x1b" not in ended.out + ended.err
    assert content_of(finished_run) == before
    assert set(content_of(out)) == {"monitor.json", "samples.csv"}
    record = read_json(out / "monitor.json")
    assert record["counts"] == {"new": 11, "skipped": 1, "labelled": 0, "foreign": {}}
    assert record["skipped"][0]["name"] == "03.png"
    assert record["errors"] is None
    assert record["verdict"]["outcome"] in ("too_few", "agrees_less", "agrees_more", "other_spread")
    assert ended.code == (record["verdict"]["outcome"] == "agrees_less")
    names = [row["name"] for row in read_csv(out / "samples.csv")]
    assert FORMULA in names
    assert f"\n'{FORMULA}," in (out / "samples.csv").read_text()
    assert "esc�[2J.png" in names
    again = atcon("monitor", finished_run, flat, "--out", out)
    assert again.code == 2
    assert "exists already" in again.err


def test_a_table_gives_labels_groups_and_classes_that_the_run_does_not_have(
    finished_run, flat, tmp_path
):
    rows = [[f"{at:02d}.png", label, f"p{at % 4}"] for at, label in enumerate(["5", "6", "", "7"])]
    rows += [[f"{at:02d}.png", "elephant", f"p{at % 4}"] for at in range(4, 10)]
    write_csv(flat / "labels.csv", ["file", "label", "patient"], rows)
    options = ("--csv", "labels.csv", "--group", "patient", "--json")
    ended = atcon("monitor", finished_run, flat, *options)
    record = json.loads(ended.out)
    assert record["counts"] == {
        "new": 9, "skipped": 1, "labelled": 2, "foreign": {"elephant": 6},
    }  # fmt: skip
    assert record["consistency"]["new"]["groups"] == 4
    assert record["verdict"]["outcome"] == "too_few"
    assert any("elephant (6)" in note for note in record["notes"])
    assert watch(finished_run, flat / "labels.csv").record["counts"] == record["counts"]


def test_one_image_is_too_few(finished_run, flat, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(flat / "01.png", tmp_path / "one")
    record = watch(finished_run, tmp_path / "one").record
    assert record["verdict"]["outcome"] == "too_few"
    assert record["shift"]["validation"]["interval"] is None


def test_names_become_pseudonyms(finished_run, flat, tmp_path):
    out, key = tmp_path / "out", tmp_path / "key"
    options = ("--out", out, "--pseudonyms", key, "--quiet")
    assert atcon("monitor", finished_run, flat, *options).code in (0, 1)
    written = "".join(path.read_text(encoding="utf-8") for path in out.iterdir())
    for name in ("03.png", "09.png", "1+1", str(flat), str(finished_run)):
        assert name not in written
    with (out / "samples.csv").open(encoding="utf-8") as table:
        assert all(row["name"].startswith("image-") for row in csv.DictReader(table))


def test_a_configuration_names_data_of_any_form_and_its_parts(finished_run, own_images, tmp_path):
    path = tmp_path / "new.yaml"
    path.write_text(f"data: {{name: folder, root: {own_images}}}\nmodel: {{name: digits_resnet}}\n")
    whole, part = (watch(finished_run, path, part=name).record for name in ("all", "test"))
    assert whole["counts"]["new"] == 27 > part["counts"]["new"] > 0
    assert whole["counts"]["foreign"] == {"blue": 9, "green": 9, "red": 9}
    assert whole["errors"] is None


def test_a_run_without_validation_images_is_compared_with_test_images(finished_run, flat, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    split = json.loads((run / "split.json").read_text())
    (run / "split.json").write_text(json.dumps({**split, "validation": []}))
    config = (run / "config.yaml").read_text().split("\n")
    start = config.index("consistency:")
    end = next(at for at in range(start + 1, len(config)) if not config[at].startswith(" "))
    (run / "config.yaml").write_text("\n".join(config[:start] + config[end:]))
    record = watch(run, flat).record
    assert list(record["consistency"]) == ["test", "train", "new"]
    assert record["verdict"]["against"] == "test"
    assert any("no section consistency" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stage": "before"}, "no stage 'before'"),
        ({"part": "test"}, "only the data of a configuration"),
        ({"part": "tset"}, "did you mean 'test'"),
        ({"overrides": ["seed=1"]}, "--set seed=1"),
        ({"group": "patient("}, "no regular expression"),
        ({"csv": "none.csv"}, "no file none.csv"),
    ],
)
def test_what_is_wrong_is_an_input_error(finished_run, flat, options, says):
    with pytest.raises(InputError, match=says):
        watch(finished_run, flat, **options)


def test_a_folder_without_images_and_one_that_is_not_there_are_refused(finished_run, tmp_path):
    with pytest.raises(InputError, match="no image"):
        watch(finished_run, tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        watch(finished_run, tmp_path / "none")


def test_random_state_is_as_it_was(finished_run, flat):
    before = torch.random.get_rng_state()
    watch(finished_run, flat)
    assert torch.equal(before, torch.random.get_rng_state())
