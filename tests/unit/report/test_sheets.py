import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_folder import edit_json

from atcon.errors import InputError
from atcon.report import write_sheets
from atcon.report.maps import kinds_of, paint, read_arrays
from atcon.report.sheets import COLUMNS, GAP, HEADER, HEADING, LINE, MARGIN, SIDE, TITLE

TOP = MARGIN + HEADER + HEADING + TITLE
ROW = HEADING + LINE


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A gallery with two entries, as `atcon attend` writes it: no labels, no boxes."""
    gallery = Path(shutil.copytree(finished / "gallery", tmp_path / "gallery"))
    entries = json.loads((gallery / "index.json").read_text())["entries"][:2]
    for entry in entries:
        entry.update(labels=[], boxes=[])
        for stage in entry["stages"].values():
            stage.update(explained=stage["top"], correct=None, iou=None)
    edit_json(gallery / "index.json", entries=entries)
    return gallery


def edit_first(folder: Path, **changes: object) -> None:
    entries = json.loads((folder / "index.json").read_text())["entries"]
    entries[0].update(changes)
    edit_json(folder / "index.json", entries=entries)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)


def panel(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = TOP + row * ROW, MARGIN + column * (SIDE + GAP)
    return sheet[top : top + SIDE, left : left + SIDE]


def test_one_sheet_lies_beside_each_array_file_in_the_order_of_the_index(folder):
    sheets = write_sheets(folder)
    assert sheets == [folder / "000.png", folder / "001.png"]
    assert {path.suffix for path in folder.iterdir()} == {".png", ".npz", ".json"}


def test_each_panel_shows_its_picture(folder):
    first, _ = write_sheets(folder)
    sheet = pixels_of(first)
    arrays = read_arrays(folder / "000.npz")
    entry = json.loads((folder / "index.json").read_text())["entries"][0]
    height, width = arrays["image"].shape[:2]
    scale = SIDE / max(height, width)
    size = round(scale * width), round(scale * height)
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    for row, (stage, record) in enumerate(entry["stages"].items()):
        expected = [arrays["image"]]
        for kind in kinds_of({}):
            bounds = tuple(record["ranges"][kind.name])
            pixels, _ = paint(kind, arrays["image"], arrays[f"{stage}_{kind.name}"], bounds)
            expected.append(pixels)
        for column, pixels in enumerate(expected):
            drawn = panel(sheet, row, column)[top : top + size[1], left : left + size[0]]
            scaled = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
            assert (drawn == np.asarray(scaled, int)).all(), (stage, column)


def test_a_sheet_has_a_row_per_stage(folder):
    both = pixels_of(write_sheets(folder)[0])
    entry = json.loads((folder / "index.json").read_text())["entries"][0]
    edit_first(folder, stages={"supervised": entry["stages"]["supervised"]})
    one = pixels_of(write_sheets(folder)[0])
    assert len(both) - len(one) == ROW
    assert (one[:ROW] == both[:ROW]).all()


def test_many_maps_take_more_lines_each_with_its_title(folder):
    names = [f"map{number}" for number in range(2 * COLUMNS)]
    index = json.loads((folder / "index.json").read_text())
    arrays, entry = read_arrays(folder / "000.npz"), index["entries"][0]
    record = {**entry["stages"]["supervised"], "ranges": {name: [-1.0, 1.0] for name in names}}
    half = np.full((4, 4), 0, np.uint8)
    more = {f"supervised_{name}": half + 17 * at for at, name in enumerate(names)}
    np.savez(folder / "000.npz", image=arrays["image"], **more)
    about = {name: {"title": name, "signed": True, "fine": True} for name in names}
    entries = [{**entry, "stages": {"supervised": record}}]
    edit_json(folder / "index.json", maps=names, about=about, entries=entries)
    sheet = pixels_of(write_sheets(folder)[0])
    assert sheet.shape[0] == MARGIN + HEADER + HEADING + 3 * LINE + MARGIN // 2
    columns = (sheet.shape[1] - 2 * MARGIN + GAP) // (SIDE + GAP)
    assert columns <= COLUMNS
    for at, kind in enumerate(kinds_of({"maps": names, "about": about}), start=1):
        line, column = divmod(at, columns)
        top, left = TOP + line * LINE, MARGIN + column * (SIDE + GAP)
        pixels, _ = paint(kind, arrays["image"], half + 17 * (at - 1), (-1.0, 1.0))
        assert (sheet[top + SIDE // 2, left + SIDE // 2] == pixels[2, 2]).all(), kind
        assert (sheet[top - TITLE : top, left : left + SIDE] != 255).any()


def test_the_heading_says_class_probability_and_consistency(folder):
    before = pixels_of(write_sheets(folder)[0])
    record = json.loads((folder / "index.json").read_text())["entries"][0]["stages"]
    top = record["supervised"]["top"]
    for change in (
        {"correlation": -0.99},
        {"explained": next(name for name in record["supervised"]["probabilities"] if name != top)},
        {"probabilities": {top: 0.001}},
    ):
        edit_first(folder, stages={**record, "supervised": {**record["supervised"], **change}})
        after = pixels_of(write_sheets(folder)[0])
        rows = np.flatnonzero((before != after).any(axis=(1, 2)))
        assert rows.min() >= MARGIN + HEADER
        assert rows.max() < MARGIN + HEADER + HEADING


def test_a_name_never_leaves_its_sheet(folder):
    edit_first(folder, name="/somewhere/" + "long\nname $x^2$ " * 40 + "写真.jpg")
    sheet = pixels_of(write_sheets(folder)[0])
    assert (sheet[: MARGIN + HEADER, -MARGIN:] == 255).all()
    assert (sheet[: MARGIN + HEADER, -2 * MARGIN : -MARGIN] != 255).any()


def test_a_constant_map_is_drawn(folder):
    arrays = read_arrays(folder / "000.npz")
    np.savez(folder / "000.npz", **{**arrays, "supervised_grad_cam": np.zeros((4, 4), np.uint8)})
    record = json.loads((folder / "index.json").read_text())["entries"][0]["stages"]
    record["supervised"]["ranges"]["grad_cam"] = [0.0, 0.0]
    edit_first(folder, stages=record)
    assert write_sheets(folder)[0].exists()


def test_a_folder_without_index_or_arrays_is_an_input_error(folder, tmp_path):
    with pytest.raises(InputError, match=r"index\.json"):
        write_sheets(tmp_path)
    edit_first(folder, stages={})
    with pytest.raises(InputError, match=r"000\.npz: the index gives no stage"):
        write_sheets(folder)
    (folder / "000.npz").unlink()
    edit_first(folder, stages={"supervised": {"top": "cat"}})
    with pytest.raises(InputError, match=r"000\.npz: missing"):
        write_sheets(folder)
    assert not list(folder.glob("*.png"))
