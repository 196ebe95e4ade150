import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from atcon.data import Reader, few_shot_split, hf, load
from atcon.errors import BadImageError, InputError

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()


def encoded(values: np.ndarray) -> dict:
    content = io.BytesIO()
    Pillow.fromarray(values).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def table(count: int, **columns) -> "datasets.Dataset":
    """Images of 6 x 4 pixels, image k of the grey value k; other columns by name."""
    features = {"image": datasets.Image()}
    for name, values in columns.items():
        kind = datasets.ClassLabel(names=["cat", "dog", "owl"])
        if isinstance(values[0], list):
            kind = datasets.List(kind)
        elif isinstance(values[0], str) or name not in ("label", "fine", "coarse"):
            kind = datasets.Value("string" if isinstance(values[0], str) else "int64")
        features[name] = kind
    images = [encoded(np.full((4, 6), at, np.uint8)) for at in range(count)]
    return datasets.Dataset.from_dict(
        {"image": images, **columns}, features=datasets.Features(features)
    )


@pytest.fixture
def save(tmp_path):
    def write(**parts) -> Path:
        path = tmp_path / "set"
        datasets.DatasetDict(parts).save_to_disk(str(path))
        return path

    return write


def by_name(image_set) -> dict:
    parts = (*image_set.pool, *(image_set.validation or ()), *image_set.test)
    return {example.name: example for example in parts}


def test_parts_labels_and_pixels_are_those_of_the_set(save):
    labels = [at % 3 for at in range(9)]
    root = save(
        train=table(9, label=labels),
        validation=table(3, label=[0, 1, 2]),
        test=table(2, label=[1, 2]),
    )
    made = hf(root)
    assert (made.name, made.classes, made.multi_label) == ("hf", ("cat", "dog", "owl"), False)
    assert [e.labels for e in made.pool] == [(label,) for label in labels]
    assert [len(part) for part in (made.pool, made.validation, made.test)] == [9, 3, 2]
    for at, example in enumerate(made.pool):
        assert made.read(example).unique().tolist() == [at]
        assert made.read(example).shape == (3, 4, 6)
    split = few_shot_split(made, per_class=2, validation_images=2, seed=0)
    assert load(Reader(made, 8), split.train).pixels.shape == (6, 3, 8, 8)


def test_without_a_test_part_validation_is_it_and_train_alone_is_divided(save, tmp_path):
    labels = [at % 3 for at in range(30)]
    made = hf(save(train=table(30, label=labels), validation=table(3, label=[0, 1, 2])))
    assert [e.name for e in made.test] == [f"validation/{at:06d}" for at in range(3)]
    assert made.validation is None
    table(30, label=labels).save_to_disk(str(tmp_path / "one"))
    one = hf(tmp_path / "one")
    assert (len(one.pool), len(one.test)) == (21, 9)
    for example in (*one.pool, *one.test):
        assert one.read(example).unique().tolist() == [int(example.name.rpartition("/")[2])]


def test_lists_of_classes_are_several_labels(save):
    made = hf(save(train=table(4, labels=[[0], [2, 1], [], [0, 2]]), test=table(1, labels=[[1]])))
    assert made.multi_label
    assert [e.labels for e in made.pool] == [(0,), (1, 2), (), (0, 2)]


def test_texts_are_classes_by_name(save):
    made = hf(save(train=table(4, label=["b", "a", "b", "c"]), test=table(1, label=["a"])))
    assert made.classes == ("a", "b", "c")
    assert [e.labels for e in made.pool] == [(1,), (0,), (1,), (2,)]


def test_classes_select_images(save):
    root = save(train=table(6, label=[0, 1, 2, 0, 1, 2]), test=table(3, label=[0, 1, 2]))
    made = hf(root, classes=["owl", "cat"])
    assert {e.name: e.labels for e in made.pool} == {
        "train/000000": (1,), "train/000002": (0,), "train/000003": (1,), "train/000005": (0,)
    }  # fmt: skip
    with pytest.raises(InputError, match="did you mean 'owl'"):
        hf(root, classes=["owls", "cat"])


def test_several_columns_of_labels_need_a_name(save):
    columns = {"fine": [0, 1, 2], "coarse": [0, 0, 1]}
    root = save(train=table(3, **columns), test=table(3, **columns))
    with pytest.raises(InputError, match=r"data\.label says which\); it has image \(Image\), fine"):
        hf(root)
    with pytest.raises(InputError, match=r"needs one column of images and one of labels"):
        hf(root, label="finer")
    assert [e.labels for e in hf(root, label="fine").pool] == [(0,), (1,), (2,)]


def test_groups_are_a_column_and_stay_whole(save):
    people = [f"p{at // 3}" for at in range(30)]
    root = save(train=table(30, label=[at % 3 for at in range(30)], who=people))
    for seed in range(20):
        made = hf(root, group="who", seed=seed)
        assert not {e.group for e in made.pool} & {e.group for e in made.test}
    assert {e.group for e in by_name(made).values()} == set(people)
    with pytest.raises(InputError, match="has no column 'whom', but image, label, who"):
        hf(root, group="whom")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [0, 1, -1]}, r"train/000002: -1 is no class of column"),
        ({"label": [0, 1, None]}, r"train/000002: None is no class of column"),
        ({"label": ["a", "b", None]}, r"data\.label: column 'label' holds neither"),
        ({"other": [1, 2, 3]}, "needs one column of images and one of labels"),
    ],
)
def test_labels_that_are_none_are_refused_by_name(save, columns, message):
    with pytest.raises(InputError, match=message):
        hf(save(train=table(3, **columns), test=table(3, **columns)))


def test_an_image_that_cannot_be_decoded_is_named_and_follows_the_policy(save):
    train = datasets.Dataset.from_dict(
        {
            "image": [
                encoded(np.zeros((4, 4), np.uint8)),
                {"bytes": b"broken", "path": None},
                None,
            ],
            "label": [0, 1, 0],
        },
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
        ),
    )
    made = hf(save(train=train, test=train))
    decoded = load(Reader(made, 4), made.pool)
    assert [name for name, _ in decoded.skipped] == ["train/000001", "train/000002"]
    assert "not an image in a known format" in decoded.skipped[0][1]
    assert "there is no image" in decoded.skipped[1][1]
    with pytest.raises(BadImageError, match="train/000001"):
        load(Reader(made, 4), made.pool, "error")


def test_what_is_no_set_is_refused(tmp_path, save):
    with pytest.raises(InputError, match=r"owner/name is not a folder; .* set data\.download=true"):
        hf("owner/name")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="datasets cannot read"):
        hf(tmp_path / "empty")
    with pytest.raises(InputError, match="has the parts eval, and no 'train'"):
        hf(save(eval=table(3, label=[0, 1, 2])))


def test_without_the_library_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("atcon.data.hugging_face.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the library datasets: pip install 'atcon\[hf\]'"):
        hf(tmp_path)
    assert "datasets" in sys.modules
