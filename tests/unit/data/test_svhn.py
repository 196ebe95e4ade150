"""SVHN in its own files: labels, boxes as fractions, whole street images, and damage by name."""

import csv
import hashlib
import struct
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from file_server import serving
from scipy.io import savemat

from atcon.data import ImageSet, Reader, few_shot_split, load, svhn
from atcon.errors import BadImageError, InputError

HEADS = ("index", "source_image", "x1", "y1", "x2", "y2")


def pixels_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3, count), dtype=np.uint8)


def write_mat(root: Path, part: str, labels: list[int], **changed: object) -> np.ndarray:
    """Write `part_32x32.mat` as SVHN does; give its pixels."""
    pixels = pixels_of(len(labels), seed=len(part))
    content = {"X": pixels, "y": np.array(labels, dtype=np.uint8)[:, None], **changed}
    held = {key: value for key, value in content.items() if value is not None}
    savemat(root / f"{part}_32x32.mat", held, do_compression=True)
    return pixels


def write_rows(path: Path, rows: list[tuple], heads: tuple[str, ...] = HEADS) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([heads, *rows])


def write_streets(root: Path, streets: list[object], name: str = "boxes.csv") -> None:
    """A row per digit: a street image and the same box for all."""
    write_rows(root / name, [(i, street, 8, 0, 24, 32) for i, street in enumerate(streets)])


@pytest.fixture
def only_test(tmp_path: Path) -> ImageSet:
    """90 digits, three of every street image, in a test file alone."""
    write_mat(tmp_path, "test", [1 + i % 10 for i in range(90)])
    write_streets(tmp_path, [i // 3 for i in range(90)])
    return svhn(tmp_path)


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """Files of 12 training and 4 test digits, without tables."""
    write_mat(tmp_path, "train", [10, *range(1, 10), 3, 3])
    write_mat(tmp_path, "test", [10, 1, 9, 2])
    return tmp_path


def test_label_10_is_the_digit_zero_and_the_others_are_themselves(both) -> None:
    made = svhn(both)
    assert made.classes == tuple("0123456789")
    assert not made.multi_label
    assert [e.labels for e in made.pool[:4]] == [(0,), (1,), (2,), (3,)]
    assert [e.labels for e in made.test] == [(0,), (1,), (9,), (2,)]


def test_the_pixels_of_a_digit_are_those_of_its_column_of_the_file(tmp_path) -> None:
    train = write_mat(tmp_path, "train", [1, 2, 3])
    test = write_mat(tmp_path, "test", [4, 5])
    made = svhn(tmp_path)
    for examples, written in ((made.pool, train), (made.test, test)):
        for index, example in enumerate(examples):
            read = made.read(example)
            assert (read.dtype, read.shape) == (torch.uint8, (3, 32, 32))
            assert np.array_equal(read.permute(1, 2, 0).numpy(), written[..., index])


def test_a_digit_is_hashed_by_its_pixels(both) -> None:
    made = svhn(both)
    decoded = load(Reader(made, 32), made.test)
    content = made.read(made.test[1]).numpy().tobytes()
    assert decoded.hashes["test-000001"] == hashlib.sha256(content).hexdigest()
    assert len(set(decoded.hashes.values())) == 4
    assert decoded.labels.argmax(1).tolist() == [0, 1, 9, 2]


def test_extra_digits_join_the_pool_only_if_they_are_asked_for(both) -> None:
    write_mat(both, "extra", [7, 7])
    assert len(svhn(both).pool) == 12
    more = svhn(both, extra=True)
    assert [e.name for e in more.pool[-2:]] == ["extra-000000", "extra-000001"]
    assert len(more.test) == 4


def test_the_folder_may_be_the_parent_of_svhn(tmp_path) -> None:
    (tmp_path / "svhn").mkdir()
    write_mat(tmp_path / "svhn", "train", [1, 2])
    write_mat(tmp_path / "svhn", "test", [1])
    assert svhn(tmp_path).root == tmp_path / "svhn"


def test_unknown_street_images_are_no_groups_and_the_notes_say_so(both) -> None:
    made = svhn(both)
    assert {e.group for e in (*made.pool, *made.test)} == {None}
    ((file, remark),) = made.notes
    assert file == "train_32x32.mat"
    assert "train_boxes.csv does not say which street images 12 digits are from" in remark


def test_street_images_of_two_files_with_the_same_number_are_two_groups(both) -> None:
    write_streets(both, [1] * 6 + [2] * 6, "train_boxes.csv")
    write_streets(both, [1, 1, 2, 2])
    made = svhn(both)
    assert not made.notes
    assert Counter(e.group for e in made.pool) == {"train-1": 6, "train-2": 6}
    assert {e.group for e in made.test} == {"test-1", "test-2"}
    few_shot_split(made, per_class=1, validation_images=0, seed=0)  # finds no group in two parts


def test_boxes_are_fractions_of_the_32_pixels(both) -> None:
    rows = [
        (0, 5, 8, 0, 24, 32),
        (1, 5, 0, 0, 32, 16),
        (2, 6, -3, 1, 16, 40),
        (3, "", "", "", "", ""),
    ]
    write_rows(both / "boxes.csv", rows)
    made = svhn(both)
    assert made.test[0].boxes == ((0, 0.25, 0.0, 0.75, 1.0),)
    assert made.test[1].boxes == ((1, 0.0, 0.0, 1.0, 0.5),)
    assert made.test[2].boxes == ((9, 0.0, 0.03125, 0.5, 1.0),)
    assert (made.test[3].boxes, made.test[3].group) == ((), None)
    clipped = dict(made.notes)["test-000002"]
    assert "boxes.csv, line 4" in clipped
    assert "it was clipped" in clipped
    with pytest.raises(InputError, match="reaches outside the image"):
        svhn(both, on_bad_image="error")


def test_a_test_file_alone_is_divided_by_street_image_in_the_stated_shares(only_test) -> None:
    parts = (only_test.pool, only_test.validation, only_test.test)
    groups = [{e.group for e in part} for part in parts]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert sum(map(len, parts)) == len({e.name for part in parts for e in part}) == 90
    assert [len(part) for part in parts] == pytest.approx([36, 18, 36], abs=3)
    for part in parts:
        assert len({e.labels for e in part}) == 10


def test_the_parts_of_a_test_file_never_change_and_splits_stay_in_them(
    only_test,
) -> None:
    again = svhn(only_test.root)
    assert again.test == only_test.test
    for seed in (0, 1):
        split = few_shot_split(again, per_class=2, validation_images=9, seed=seed)
        assert set(split.train) <= set(again.pool)
        assert set(split.validation) <= set(again.validation)
        assert split.test == again.test
        assert Counter(e.labels[0] for e in split.train) == dict.fromkeys(range(10), 2)


def test_a_digit_of_no_known_street_image_is_left_out_of_a_divided_file(tmp_path) -> None:
    write_mat(tmp_path, "test", [1 + i % 10 for i in range(40)])
    write_streets(tmp_path, ["" if i == 7 else i // 2 for i in range(40)])
    made = svhn(tmp_path)
    ((name, reason),) = made.skipped
    assert name == "test-000007"
    assert "no street image is given" in reason
    assert name not in {e.name for e in (*made.pool, *made.validation, *made.test)}
    with pytest.raises(BadImageError, match=r"boxes\.csv: no street image"):
        svhn(tmp_path, on_bad_image="error")


def test_a_test_file_alone_without_its_table_is_refused(tmp_path) -> None:
    write_mat(tmp_path, "test", [1, 2, 3])
    with pytest.raises(InputError, match=r"holds no train_32x32\.mat") as caught:
        svhn(tmp_path)
    assert "boxes.csv beside it" in str(caught.value)
    write_streets(tmp_path, [1, 1, 2])
    with pytest.raises(InputError, match=r"boxes\.csv: 2 groups cannot be divided among 3 parts"):
        svhn(tmp_path)


@pytest.mark.parametrize("part", ["train", "test", "extra"])
def test_a_missing_file_is_named_with_what_can_be_done(both, part) -> None:
    (both / f"{part}_32x32.mat").unlink(missing_ok=True)
    with pytest.raises(InputError, match=rf"data\.root: .* no {part}_32x32\.mat") as caught:
        svhn(both, extra=True)
    assert "data.download=true" in str(caught.value)


def test_only_missing_files_are_downloaded_and_checked(both, monkeypatch) -> None:
    """From a server of this machine that has the training file."""
    content = (both / "train_32x32.mat").read_bytes()
    module = sys.modules["atcon.data.svhn"]  # the name is also that of its function
    with serving(content) as server:
        monkeypatch.setattr(module, "URL", server.url + "?{file}")
        monkeypatch.setitem(module.PUBLISHED, "train", (server.sha256, len(content)))
        assert len(svhn(both, download=True).pool) == 12
        assert server.asked == []
        (both / "train_32x32.mat").unlink()
        assert len(svhn(both, download=True).pool) == 12
        assert [path for path, *_ in server.asked] == ["/file.bin?train_32x32.mat"]
        with pytest.raises(InputError, match=r"extra_32x32\.mat could not be downloaded"):
            svhn(both, extra=True, download=True)
    assert not (both / "extra_32x32.mat").exists()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(0, 1, 0, 0, 9, 9), (0, 1, 0, 0, 9, 9)], "line 3: index '0'"),
        ([(4, 1, 0, 0, 9, 9)], "index '4' is no digit of test_32x32.mat, which has 4"),
        ([("-1", 1, 0, 0, 9, 9)], "index '-1'"),
        ([(0, 1, "left", 0, 9, 9)], "line 2: the box is not four numbers"),
        ([(0, 1, "", 0, 9, 9)], "line 2: the box is not four numbers"),
    ],
)
def test_a_wrong_row_of_the_table_is_named(both, rows, words) -> None:
    write_rows(both / "boxes.csv", rows)
    with pytest.raises(InputError) as caught:
        svhn(both)
    assert words in str(caught.value)


def test_a_table_without_a_column_is_named(both) -> None:
    write_rows(both / "boxes.csv", [(0, 1)], ("index", "source"))
    with pytest.raises(InputError, match="source_image, x1, x2, y1, y2 is missing"):
        svhn(both)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"X": None}, "holds no X, but y"),
        ({"X": pixels_of(4)[:31]}, "X has the shape [31, 32, 3, 4]"),
        ({"X": pixels_of(4)[..., 0]}, "X has the shape [32, 32, 3]"),
        ({"X": pixels_of(4).astype(np.float64)}, "X is float64"),
        ({"X": pixels_of(3)}, "X has 3 digits, but y has the shape [4, 1]"),
        ({"y": np.array([[1], [0], [2], [11]])}, "2 of 4 labels are not from 1 to 10"),
        ({"y": np.array([[1], [2.5], [np.nan], [3]])}, "the first is 2.5 of digit 1"),
        (
            {"y": np.array([["one"], ["two"], ["ten"], ["six"]], dtype=object)},
            "not 4 whole numbers",
        ),
        ({"y": np.array([[1j], [1], [1], [1]])}, "not 4 whole numbers"),
    ],
)
def test_a_file_of_something_else_is_named_with_what_it_holds(both, changed, words) -> None:
    write_mat(both, "test", [1, 2, 3, 4], **changed)
    with pytest.raises(InputError) as caught:
        svhn(both)
    assert str(both / "test_32x32.mat") in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_named(both, share) -> None:
    path = both / "train_32x32.mat"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"train_32x32\.mat: .*incomplete"):
        svhn(both)


def outcome(root: Path) -> str:
    """What is said of a damaged file; nothing where the damage does not show."""
    try:
        svhn(root)
    except InputError as error:
        return str(error)
    return ""


def test_no_damage_of_single_bytes_is_a_traceback(both) -> None:
    path = both / "test_32x32.mat"
    write_mat(both, "test", [1, 2])
    content, random = path.read_bytes(), np.random.default_rng(0)
    for place in (*range(124, 200, 3), *random.integers(200, len(content), 40)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        said = outcome(both)
        assert said == "" or str(path) in said


def test_an_hdf5_file_of_newer_matlab_is_named(both) -> None:
    path = both / "test_32x32.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H2s", 0x0200, b"IM"))
    with pytest.raises(InputError, match=r"test_32x32\.mat: .*fetch SVHN's own file"):
        svhn(both)


def test_a_header_that_promises_a_billion_digits_is_refused_before_anything_is_read(both) -> None:
    path = both / "test_32x32.mat"
    flags = struct.pack("<IIII", 6, 8, 9, 0)  # uint8
    sizes = struct.pack("<II4I", 5, 16, 32, 32, 3, 10**9)
    array = flags + sizes + struct.pack("<II", 1 << 16 | 1, ord("X"))
    packed = zlib.compress(struct.pack("<II", 14, 3 * 10**9) + array)
    element = struct.pack("<II", 15, len(packed)) + packed
    labels = {"y": np.ones((4, 1), dtype=np.uint8)}
    savemat(path, labels)
    path.write_bytes(path.read_bytes() + element)
    with pytest.raises(InputError, match="1000000000 digits exceed the limit of 1000000"):
        svhn(both)


def test_where_the_published_parts_are_asked_for_the_test_file_alone_is_refused(only_test) -> None:
    with pytest.raises(InputError, match=r"holds no train_32x32\.mat") as caught:
        svhn(only_test.root, published_parts=True)
    assert "alone is enough" not in str(caught.value)
