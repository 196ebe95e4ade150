"""Figures as files: the same charts as on the page, ready for a paper."""

import re
import shutil
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from experiment_page import mark, page_with
from page import Element
from PIL import Image
from run_folder import make_run

from atcon.errors import InputError
from atcon.report import write_experiment_figures, write_run_figures
from atcon.report.charts import Axes, Line, line_chart
from atcon.report.figure_files import DPI, MARGIN, chart_sheet
from atcon.report.figures import Figure
from atcon.report.formats import plain
from atcon.report.gallery_sheets import IMAGES, gallery_sheets
from atcon.report.heat_map import DEEPEST, Cell, Heat, heat_map
from atcon.report.inputs import dig, dig_list, read_run

CHARTS = (
    "gains",
    "supervised-training-loss",
    "supervised-training-validation-map",
    "consistency-fine-tuning-consistency-loss",
    "consistency-fine-tuning-validation-map",
    "consistency-fine-tuning-correlation",
    "consistency-fine-tuning-mask-contrast",
    "change-of-consistency",
)
TITLE_ONLY = 22
"""Height above a chart with a title of one line, in its units."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A run with one image more than a sheet of the gallery shows; never written into."""
    return make_run(tmp_path_factory.mktemp("runs") / "run", entries=IMAGES + 1)


@pytest.fixture
def short(drawn: Path, tmp_path: Path) -> Path:
    """A copy of it without training curves."""
    copy = Path(shutil.copytree(drawn, tmp_path / "run"))
    (copy / "metrics.jsonl").unlink()
    return copy


@pytest.fixture(scope="module")
def written(drawn: Path, tmp_path_factory) -> list[Path]:
    return write_run_figures(drawn, tmp_path_factory.mktemp("out") / "figures")


def pixels_of(figure: Figure) -> np.ndarray:
    """The figure at one pixel for a unit of its chart, RGB."""
    buffer = BytesIO()
    chart_sheet(figure).savefig(buffer, dpi=72 / 0.7, format="png")
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int)


def blended(colour: str, opacity: float) -> list[float]:
    return [opacity * int(colour[at : at + 2], 16) + (1 - opacity) * 255 for at in (1, 3, 5)]


def test_every_chart_of_the_page_and_the_gallery_are_there_as_pdf_and_png(
    written: list[Path], page: Element
):
    names = *CHARTS, "gallery-1", "gallery-2"
    expected = [f"{name}.{form}" for name in names for form in ("pdf", "png")]
    assert [path.name for path in written] == expected
    assert all(path.stat().st_size > 1000 for path in written)
    drawn = [svg for svg in page.all("svg") if svg.attributes.get("role") == "img"]
    assert len(CHARTS) == len(drawn) + len(page.all("div", class_="forest"))


def test_a_pdf_of_a_chart_holds_lines_and_letters_of_embedded_truetype_and_no_picture(written):
    for path in written:
        if path.suffix == ".pdf":
            content = path.read_bytes()
            assert b"/FontFile2" in content
            assert b"/Type3" not in content
            assert (b"/Subtype /Image" in content) == path.name.startswith("gallery")


def test_a_png_has_300_dots_per_inch_the_width_of_a_column_and_a_white_ground(written):
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
                ground = image.convert("RGB").getpixel((0, image.height - 1))
            assert ground == (255, 255, 255)
            width = image.width / DPI * 25.4
            assert width == pytest.approx(178 if path.name.startswith("gallery") else 90, abs=1)


def test_equal_records_give_equal_bytes_without_a_date_whatever_the_users_own_settings(
    written, short, tmp_path
):
    mine = {"lines.linewidth": 9, "font.size": 30, "pdf.fonttype": 3, "figure.facecolor": "red"}
    with mpl.rc_context(mine):
        again = write_run_figures(short, tmp_path / "again")
    before = {path.name: path.read_bytes() for path in written}
    assert len(again) == 8
    for path in again:
        assert path.read_bytes() == before[path.name], path.name
        assert not re.search(rb"CreationDate|ModDate|tIME|date:", before[path.name])


def test_no_name_of_an_image_is_written_on_a_gallery(drawn):
    run = read_run(drawn)
    names = [str(dig(entry, "name")) for entry in dig_list(run.gallery, "entries")]
    said = " ".join(
        text.get_text() for sheet in gallery_sheets(run) for text in sheet.axes[0].texts
    )
    assert "Truth: " in said
    assert "Predicted: " in said
    assert not [name for name in names if name[:20] in said]


def test_a_folder_that_exists_is_refused_and_left_as_it_is(drawn, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    for write in (
        lambda: write_run_figures(drawn, tmp_path),
        lambda: write_experiment_figures(page_with(), tmp_path),
    ):
        with pytest.raises(InputError, match="exists already: choose another --figures"):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_gallery_is_named_and_leaves_nothing_behind(short, tmp_path):
    (short / "gallery" / "000.npz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"000\.npz"):
        write_run_figures(short, tmp_path / "figures")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_charts_of_an_experiment_are_named_after_their_titles(tmp_path):
    cell = {"value": 0.5, "low": 0.4, "high": 0.6, "paper": 0.65}
    page = page_with(
        followed=[[50.0, 51.0], [60.0, 61.0]],
        losses={"rows": ["a"], "columns": ["b"], "cells": [[cell]]},
        agreement={"consistency": [[0.2, 0.1], [0.4, 0.0]]},
    )
    written = write_experiment_figures(page, tmp_path / "figures")
    assert [path.stem for path in written[::2]] == [
        "map-difference-from-supervised",
        "map-of-the-followed-images",
        "correlation-of-each-loss-with-the-supervised-loss",
        "gain-of-consistency",
    ]


def test_more_methods_than_a_chart_holds_become_several_files(tmp_path):
    arms = {f"m{at}": [mark(1.0), mark(1.0)] for at in range(9)}
    gains = {"metric": "map", "title": "mAP", "against": "supervised", "arms": arms}
    written = write_experiment_figures(page_with(gains=[gains]), tmp_path / "figures")
    stems = [path.stem for path in written if path.suffix == ".pdf"]
    assert stems == [f"map-difference-from-supervised-{at}-of-3" for at in (1, 2, 3)]


def test_a_cell_of_the_heat_map_has_the_pages_colour_of_the_light_theme():
    heat = Heat(("row",), ("one", "two"), ((Cell(plain(1.0)), Cell(plain(-0.5))),))
    pixels = pixels_of(Figure("title", "", heat_map("title", heat)))
    row = TITLE_ONLY + MARGIN + 22 + 10
    assert pixels[row, MARGIN + 140] == pytest.approx(blended("#2f5a96", DEEPEST), abs=2)
    assert pixels[row, MARGIN + 290] == pytest.approx(blended("#96590a", DEEPEST / 2), abs=2)


def test_a_curve_goes_through_its_points_where_the_page_draws_them():
    line = Line("Ours", "ours", ((0.0, 0.0), (5.0, 1.0), (10.0, 0.0)))
    pixels = pixels_of(Figure("title", "", line_chart("title", [line])))
    axes = Axes((0.0, 10.0), (0.0, 10.0), (0.0, 0.25, 0.5, 0.75, 1.0))
    for point in ((2.5, 0.5), (7.5, 0.5)):
        x, y = axes.at(point)
        around = pixels[round(y) + TITLE_ONLY - 3 :, round(x) + MARGIN - 3 :][:9, :9].reshape(-1, 3)
        assert np.abs(around - blended("#0b6b62", 1.0)).sum(axis=1).min() < 40
    x, y = axes.at((2.5, 0.1))
    assert (pixels[round(y) + TITLE_ONLY, round(x) + MARGIN] == 255).all()


def test_words_that_look_like_mathematics_and_hidden_marks_stay_words(tmp_path):
    arms = {"simclr": [mark(1.0), mark(1.0)]}
    gains = {"metric": "map", "title": "mAP", "against": "supervised", "arms": arms}
    titles = {"simclr": r"$\frac{a}$ a \u202e b 写真"}
    (path, _) = write_experiment_figures(page_with(gains=[gains], titles=titles), tmp_path / "f")
    assert path.read_bytes().startswith(b"%PDF")


def test_a_long_legend_is_broken_into_lines_that_fit():
    name = "a method with a name that is far too long for one line of a legend under a chart"
    line = Line(name, "ours", ((0.0, 0.0), (5.0, 1.0)))
    chart = Figure("title", "", line_chart("title", [line]), (("ours", name), ("first", "short")))
    sheet = chart_sheet(chart)
    sheet.canvas.draw()
    width = sheet.bbox.width
    assert all(0 <= t.get_window_extent().x0 < t.get_window_extent().x1 <= width
               for t in sheet.axes[0].texts)  # fmt: skip
