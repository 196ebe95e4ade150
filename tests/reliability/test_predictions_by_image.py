"""Promise 19: an image's prediction is its own, data and runs stay as they were, configs come back.

In float32 a batch of another size rounds apart: probabilities within 1e-6, consistency within 1e-5.
"""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pipeline import COLOURS, content_of, folder_config, save_disc, tiny

from atcon.attention import find_layer
from atcon.errors import InputError
from atcon.experiments.attend import attend
from atcon.experiments.config import (
    check_config,
    dump_config,
    load_config,
    shipped,
    shipped_text,
    variant_of,
)
from atcon.experiments.finished import evaluate
from atcon.experiments.judge import judge
from atcon.experiments.progress import Progress
from atcon.experiments.run import run
from atcon.experiments.setup import fabric_of
from atcon.experiments.sources import image_set_of, network_of
from atcon.records import read_csv, read_json
from atcon.report import write_report

SIZE = 64
ALL = 8
ROUNDING = {"probabilities": 1e-6, "correlation": 1e-5, "contrast": 1e-5}


@pytest.fixture(scope="module")
def answers():
    """Judge images of the embedded digits by a network as it is before training, by name."""
    config = tiny()
    image_set = image_set_of(config.data)
    network = network_of(config, len(image_set.classes))
    layer = find_layer(network.module, torch.zeros(1, 3, SIZE, SIZE))

    def of(rows, batch):
        verdicts = judge(
            tiny(f"evaluation.batch_size={batch}"),
            image_set,
            [image_set.test[row] for row in rows],
            {"one": network},
            size=SIZE,
            layer=layer,
            fabric=fabric_of(config),
            progress=Progress(),
        )
        judged = verdicts.stages["one"]
        columns = [getattr(judged, name) for name in ROUNDING]
        names = [example.name for example in verdicts.examples]
        return dict(zip(names, zip(*columns, strict=True), strict=True))

    return of


@pytest.mark.parametrize(
    ("rows", "batch"),
    [(range(ALL), 1), (range(ALL), 3), (range(ALL - 1, -1, -1), ALL), ([7, 2, 5], ALL), ([4], 1)],
    ids=["one by one", "threes", "backwards", "a subset", "alone"],
)
def test_neither_order_subset_nor_batch_changes_the_answers_about_an_image(answers, rows, batch):
    expected, found = answers(range(ALL), ALL), answers(rows, batch)
    assert len(found) == len(rows)
    for name, values in found.items():
        for value, whole, within in zip(values, expected[name], ROUNDING.values(), strict=True):
            np.testing.assert_allclose(value, whole, rtol=0, atol=within)
    assert len({tuple(values[0]) for values in expected.values()}) == ALL, "all images alike"


def with_parts(root: Path, counts: dict[tuple[str, str], int]) -> Path:
    """Write so many images of each part and class."""
    random = np.random.default_rng(0)
    for (part, name), count in counts.items():
        (root / part / name).mkdir(parents=True)
        for index in range(count):
            save_disc(root / part / name / f"{part}{index:02d}.png", (name,), random)
    return root


TRAIN = {("train", name): 4 for name in COLOURS}


def small(path: Path, root: Path, *overrides: str):
    """The configuration of one training image per class."""
    given = ["data.per_class=1", "data.validation_images=3", "evaluation.gallery=1", *overrides]
    return load_config(str(folder_config(path, root)), given)


@pytest.fixture(scope="module")
def ones(tmp_path_factory):
    """A run on one training image per class and one test image in all, and what it read before."""
    base = tmp_path_factory.mktemp("ones")
    root = with_parts(base / "images", {**TRAIN, ("test", "red"): 1})
    before = content_of(root)
    run(small(base / "own.yaml", root), base / "run")
    return base, before


def test_one_training_image_a_class_and_one_test_image_make_a_run_and_its_page(ones):
    base, _ = ones
    summary = read_json(base / "run" / "summary.json")
    assert (summary["counts"]["train"], summary["counts"]["test"]) == (3, 1)
    for stage in summary["stages"].values():
        assert {name: one["count"] for name, one in stage["per_class"].items()} == {
            "blue": 0,
            "green": 0,
            "red": 1,
        }
        assert [stage["per_class"][name]["ap"] for name in ("blue", "green")] == [None, None]
        assert stage["per_class"]["red"]["ap"] == stage["test"]["map"] == 100
    copied = base / "for the page"
    shutil.copytree(base / "run", copied)
    assert write_report(copied).exists()


def test_neither_data_nor_run_is_changed_by_what_uses_them(ones, tmp_path):
    base, before = ones
    run_before = content_of(base / "run")
    evaluate(base / "run", out=tmp_path / "again")
    attend(base / "run", [base / "images/train/red/train01.png"], tmp_path / "maps")
    assert content_of(base / "images") == before
    assert content_of(base / "run") == run_before


def test_an_image_has_its_prediction_whichever_others_are_tested_with_it(ones, tmp_path):
    base, _ = ones
    many = with_parts(
        tmp_path / "many", {**TRAIN, ("test", "red"): 2, ("test", "blue"): 3, ("test", "green"): 2}
    )
    few = tmp_path / "few"
    shutil.copytree(many, few)
    shutil.rmtree(few / "test" / "green")  # a class without test images
    (few / "test" / "blue" / "test00.png").unlink()
    tables = []
    for root in (many, few):
        out = tmp_path / f"{root.name} judged"
        evaluate(base / "run", [f"data.root={root}"], out=out)
        rows = read_csv(out / "predictions" / "consistency.csv")
        tables.append({row["name"]: [float(row[name]) for name in COLOURS] for row in rows})
    assert [len(table) for table in tables] == [7, 4]
    for name, chances in tables[1].items():
        assert chances == pytest.approx(tables[0][name], abs=2e-6)  # they are written rounded


EMPTY = {
    "one class": {("train", "red"): 4, ("test", "red"): 2},
    "no test image": {**TRAIN, ("test", "red"): 0},
    "no training image of a class": {**TRAIN, ("train", "blue"): 0, ("test", "red"): 1},
    "nothing": {},
}
SAID = {
    "one class": "at least two classes",
    "no test image": "no images in the test part",
    "no training image of a class": "blue",
    "nothing": "class folders",
}


@pytest.mark.parametrize("case", EMPTY)
def test_data_that_cannot_be_trained_or_tested_on_are_refused_before_a_folder_is_made(
    case, tmp_path
):
    (tmp_path / "images").mkdir()
    root = with_parts(tmp_path / "images", EMPTY[case])
    with pytest.raises(InputError, match=SAID[case]):
        run(small(tmp_path / "own.yaml", root), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_files_to_attend_to_are_refused(ones, tmp_path):
    base, _ = ones
    with pytest.raises(InputError, match="no files are given"):
        attend(base / "run", [], tmp_path / "maps")


NOT_TEXT = ("1e5", "0x1f", "null", "yes", "2026-01-01", "~", "a: b", "- c", "# d", "é")
"""Names that YAML takes for something else where they stand without quotes."""


@pytest.mark.parametrize("examples", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_a_configuration_comes_back_from_its_text_whatever_its_values(tmp_path, examples):
    path = tmp_path / "config.yaml"

    @given(
        st.sampled_from(sorted(shipped())),
        st.integers(0, 10**6),
        st.floats(1e-12, 1.0, allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12),
        st.sampled_from(NOT_TEXT),
    )
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    def comes_back(name, seed, rate, text, called):
        content = load_config(name, [f"seed={seed}", f"consistency.lr={rate!r}"]).model_dump()
        content["name"] = called
        content["data"].update(root=text, classes=[text, "other"])
        config = check_config(content, name)
        path.write_text(dump_config(config), encoding="utf-8")
        again = load_config(str(path))
        assert again == config
        assert dump_config(again) == dump_config(config)

    comes_back()


@pytest.mark.parametrize("name", shipped())
def test_checking_a_configuration_and_making_its_variants_change_nothing(name):
    content = {**yaml.safe_load(shipped_text(name)), "name": name}
    content["variants"] = {"faster": {"lr": 1e-4}}
    before = copy.deepcopy(content)
    config = check_config(content, name)
    assert content == before
    text = dump_config(config)
    assert config.variants == before["variants"]
    assert variant_of(config, "faster").consistency.lr == 1e-4
    assert dump_config(config) == text
