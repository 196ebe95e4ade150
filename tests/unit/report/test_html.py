import base64
import hashlib
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from page import Element, parse
from run_folder import CLASSES, NAMES, make_run

from atcon.errors import InputError
from atcon.report import write_report


def summary_of(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def draw(run: Path) -> Element:
    return parse(write_report(run).read_text(encoding="utf-8"))


def edit_summary(run: Path, change) -> None:
    summary = summary_of(run)
    change(summary)
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def test_returns_the_path_of_the_page_it_wrote(run):
    (run / "report.html").unlink()
    assert write_report(run) == run / "report.html"
    assert (run / "report.html").is_file()


def test_the_verdict_is_the_first_thing_said(page, finished):
    verdict = summary_of(finished)["verdict"]
    header = page.one("header")
    assert header.one("p", class_="sentence").text == verdict["sentence"]
    assert header.one("p", class_="badge").text == "The control explains it"
    assert [item.text for item in header.one("ul", class_="reasons").all("li")] == verdict[
        "reasons"
    ]


@pytest.mark.parametrize("outcome", ["helps", "no_difference", "harms", "mixed", "not_kept"])
def test_every_outcome_has_its_badge_and_its_tone(run, outcome):
    edit_summary(run, lambda summary: summary["verdict"].update(outcome=outcome))
    page = draw(run)
    assert page.one("div", class_=f"verdict {outcome}").one("p", class_="badge").text
    css = page.one("style").text
    assert f".verdict.{outcome}" in css or outcome == "no_difference"


def test_the_table_of_metrics_holds_the_values_of_the_records(page, finished):
    summary = summary_of(finished)
    stages = [
        summary["stages"][stage]["test"] for stage in ("supervised", "consistency", "uniform")
    ]
    rows = [row for row in page.all("tr") if "data-metric" in row.attributes]
    assert len(rows) == len({*stages[0], *summary["gain"]})
    for row in rows:
        key = row.attributes["data-metric"]
        gain = summary["gain"].get(key, {})
        expected = [*(stage.get(key) for stage in stages), gain.get("value"), gain.get("p")]
        assert row.numbers() == [value for value in expected if value is not None]


def test_intervals_stand_beneath_their_values(page):
    row = page.one("tr", data_metric="map")
    spans = [span.text for span in row.all("span", class_="interval")]
    assert spans == ["64.8 to 73.0", "66.9 to 75.1", "66.4 to 74.6", "+0.7 to +3.5"]
    assert page.one("tr", data_metric="epg").all("td")[-1].text.strip() == "< 0.001"


def test_the_controls_show_their_gain_and_our_difference(page, finished):
    controls = summary_of(finished)["controls"]
    rows = page.one("section", id="controls").one("tbody").all("tr")
    found = [(row.one("th").text, row.numbers()) for row in rows]
    expected = [
        (label, [controls[key]["gain"][metric]["value"],
                 controls[key]["difference"][metric]["value"],
                 controls[key]["difference"][metric]["p"]])
        for key, label, metrics in (
            ("uniform", "Uniform mask", ("map", "f1", "iou")),
            ("calibration", "Calibration only", ("f1",)),
        )
        for metric in metrics
    ]  # fmt: skip
    assert found == expected
    readings = [row.all("td")[-1].text for row in rows]
    assert readings == [
        "Not distinguishable from the control.",
        "Not distinguishable from the control.",
        "Ours gains more than the control.",
        "Not distinguishable from the control.",
    ]


def test_trivial_maps_are_the_floor_of_iou_and_epg(page, finished):
    floors = summary_of(finished)["floors"]
    rows = page.one("section", id="floors").all("tr", class_="trivial")
    assert [row.numbers() for row in rows] == [[f["iou"], f["epg"]] for f in floors.values()]


def test_every_class_has_its_row_with_the_change(page, finished):
    stages = summary_of(finished)["stages"]
    rows = page.one("section", id="classes").one("tbody").all("tr")
    assert [row.one("th").text for row in rows] == list(CLASSES)
    for name, row in zip(CLASSES, rows, strict=True):
        before, after = (stages[s]["per_class"][name] for s in ("supervised", "consistency"))
        pairs = [(before[key], after[key], after[key] - before[key]) for key in ("f1", "ap")]
        assert row.numbers() == [before["count"], *pairs[0], *pairs[1]]


def test_what_was_done_names_data_network_and_the_epochs_kept(page):
    facts = {
        div.one("dt").text: div.one("dd").text for div in page.one("section", id="done").all("div")
    }
    assert facts["Images per class"] == "4 for training"
    assert facts["Images"] == ("32 for training, 120 for validation, 160 for the test, 2 skipped")
    assert facts["Network"] == "mobilenet_v2"
    assert facts["Layer explained"] == "features.18.0"
    assert facts["Guided activations"].startswith("35 ")
    assert facts["Supervised training"] == "12 epochs; epoch 9 kept: best validation mAP, 70.2"
    assert facts["Consistency fine-tuning"] == (
        "12 epochs; epoch 7 kept: best validation mAP, 72.3 (start 70.2)"
    )
    assert facts["Time"] == "8 min 54 s"
    assert all(name in facts["Classes"] for name in CLASSES)


def test_a_start_that_was_kept_is_said_so(run):
    def keep_the_start(summary: dict) -> None:
        summary["stages"]["consistency"].update(epoch=0, kept=False)

    edit_summary(run, keep_the_start)
    words = draw(run).one("section", id="done").words
    assert "12 epochs; the start was kept, none was better on validation (start 70.2)" in words


def test_unlabelled_and_development_images_are_said(run):
    def change(summary):
        summary["judged"] = "development"
        summary["counts"]["unlabelled"] = 480

    assert "Judged on" not in draw(run).one("section", id="done").words
    edit_summary(run, change)
    words = draw(run).one("section", id="done").words
    assert "480 more without labels for consistency" in words
    assert "development images, which are training images that the split leaves" in words


@pytest.mark.parametrize(("images", "said"), [(0, "kept, as there were no labels"), (9, "kept")])
def test_a_last_epoch_is_excused_by_missing_labels_only_where_they_are_missing(run, images, said):
    def change(summary):
        summary["counts"]["validation"] = images
        summary["stages"]["consistency"]["selected_by"] = "last"

    edit_summary(run, change)
    words = draw(run).one("section", id="done").words
    assert f"the last one {said}" in words
    assert ("no labels to choose by" in words) == (images == 0)


def test_cards_carry_the_values_of_the_gallery(page, finished):
    entries = json.loads((finished / "gallery" / "index.json").read_text())["entries"]
    cards = page.all("li", class_="card")
    assert len(cards) == len(entries) == 14
    for card, entry in zip(cards, entries, strict=True):
        before, after = (entry["stages"][stage] for stage in ("supervised", "consistency"))
        data = {key.removeprefix("data-"): value for key, value in card.attributes.items()}
        assert card.one("h3").text == data["name"] == entry["name"]
        assert data["classes"].split() == [str(CLASSES.index(name)) for name in entry["labels"]]
        assert (data["was"], data["now"]) == tuple(
            str(int(stage["correct"])) for stage in (before, after)
        )
        assert float(data["before"]) == before["correlation"]
        assert float(data["change"]) == after["correlation"] - before["correlation"]
        assert data["iou"] == ("" if before["iou"] is None else str(after["iou"] - before["iou"]))
        labels = card.one("p", class_="labels")
        assert [label.text for label in labels.all("bdi")] == entry["labels"]
        assert len(card.all("img")) == 7


def test_cards_show_predictions_with_probabilities_and_mark_the_true_labels(page, finished):
    entries = json.loads((finished / "gallery" / "index.json").read_text())["entries"]
    for card, entry in zip(page.all("li", class_="card"), entries, strict=True):
        for view, stage in zip(card.all("section"), entry["stages"].values(), strict=True):
            lines = view.one("ul").all("li")
            shown = [line.one("bdi").text for line in lines]
            assert shown[0] == stage["top"] == view.one("li", class_="top").one("bdi").text
            assert {*stage["predicted"], *entry["labels"]} <= {*shown}
            for name, line in zip(shown, lines, strict=True):
                percent = line.one("span", class_="percent").text
                assert percent == f"{100 * stage['probabilities'][name]:.0f} %"
                assert bool(line.all("span", class_="true")) == (name in entry["labels"])
            assert ("✓" in view.one("h4").text) == stage["correct"]


def test_boxes_lie_where_the_records_say_on_the_input_and_on_grad_cam(page, finished):
    entry = json.loads((finished / "gallery" / "index.json").read_text())["entries"][0]
    box = entry["boxes"][0]
    frames = page.all("li", class_="card")[0].all("span", class_="frame")
    assert len(frames) == 3
    for frame in frames:
        style = dict(part.split(":") for part in frame.attributes["style"].split(";"))
        sides = {key: float(value.rstrip("%")) for key, value in style.items()}
        assert sides["left"] == pytest.approx(100 * box["left"], abs=0.01)
        assert sides["width"] == pytest.approx(100 * (box["right"] - box["left"]), abs=0.01)
        assert sides["height"] == pytest.approx(100 * (box["bottom"] - box["top"]), abs=0.01)


def test_hostile_text_stays_text(page, finished):
    assert [script.text for script in page.all("script")] == [
        Path(sys.modules["atcon.report"].__file__).with_name("templates")
        .joinpath("report.js").read_text()
    ]  # fmt: skip
    for element in page.inside:
        assert not [key for key in element.attributes if key.startswith("on")]
    names = [heading.text for heading in page.one("ul", id="cards").all("h3")]
    assert names[: len(NAMES)] == list(NAMES)
    assert [option.text for option in page.one("select", id="class").all("option")][3] == CLASSES[2]
    assert "</pre><script>alert(4)</script>" in page.one("pre").text


def test_the_policy_lets_only_our_script_run(page):
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    digest = hashlib.sha256(page.one("script").text.encode()).digest()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_the_page_has_no_address_outside_itself(page, finished):
    for element in page.inside:
        for key in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            address = element.attributes.get(key, "#")
            assert address.startswith(("#", "data:")), (element.tag, address)
    assert not re.search(r"url\(|@import|@font-face", page.one("style").text)
    html = (finished / "report.html").read_text(encoding="utf-8")
    assert "http://" not in html
    assert "https://" not in html


def test_the_same_records_give_the_same_bytes(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_headings_are_in_order_and_pictures_have_words(page):
    levels = [int(e.tag[1]) for e in page.inside if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.one("html").attributes["lang"] == "en"
    assert all(image.attributes["alt"].strip() for image in page.all("img"))
    assert all(svg.one("title").text for svg in page.all("svg"))


def test_identifiers_are_unique_and_every_inner_link_has_its_target(page):
    identifiers = [e.attributes["id"] for e in page.inside if "id" in e.attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {link.attributes["href"][1:] for link in page.all("a")} <= set(identifiers)


def test_skipped_images_are_named_with_their_reason(page, finished):
    skipped = json.loads((finished / "split.json").read_text())["skipped"]
    rows = page.one("section", id="skipped").all("div")
    found = [{"name": row.one("dt").text, "reason": row.one("dd").text} for row in rows]
    assert found == skipped


def test_without_boxes_there_is_no_overlap_anywhere(run):
    keys = ("iou", "iou_reference", "epg", "iou_common")

    def drop_boxes(summary: dict) -> None:
        for key in keys:
            summary["gain"][key] = None
            for stage in summary["stages"].values():
                stage["test"][key] = None
        summary["floors"] = {}
        for part in summary["controls"]["uniform"].values():
            part["iou"] = None

    edit_summary(run, drop_boxes)
    page = draw(run)
    assert not [row for key in keys for row in page.all("tr", data_metric=key)]
    assert not page.all("section", id="floors")
    assert "Overlap" not in page.one("section", id="controls").text
    assert page.one("tr", data_metric="map").numbers()


def test_the_peak_and_the_boxes_found_are_shown_where_a_run_has_them(run):
    keys = ("pointing", "max_box_acc")
    assert not [row for key in keys for row in draw(run).all("tr", data_metric=key)]

    def add(summary: dict) -> None:
        for key, value in zip(keys, (61.5, 42.25), strict=True):
            summary["gain"][key] = {"value": 1.0, "low": 0.5, "high": 1.5, "p": 0.01}
            for stage in summary["stages"].values():
                stage["test"][key], stage["intervals"][key] = value, [value - 1, value + 1]

    edit_summary(run, add)
    page = draw(run)
    shown = [page.one("tr", data_metric=key).numbers()[0] for key in keys]
    assert shown == pytest.approx([61.5, 42.25], abs=0.06)


def test_without_the_uniform_control_its_column_is_gone(run):
    def drop_uniform(summary: dict) -> None:
        del summary["stages"]["uniform"], summary["controls"]["uniform"]

    edit_summary(run, drop_uniform)
    page = draw(run)
    assert len(page.one("tr", data_metric="map").all("td")) == 4
    heads = [row.one("th").text for row in page.one("section", id="controls").all("tr")[1:]]
    assert heads == ["Calibration only"]


@pytest.mark.parametrize(
    ("missing", "section"),
    [
        ("metrics.jsonl", "training"),
        ("localisation/consistency.csv", "scatter"),
        ("gallery/index.json", "gallery"),
        ("split.json", "skipped"),
    ],
)
def test_a_section_without_its_records_is_left_out_and_the_rest_stays(run, page, missing, section):
    (run / missing).unlink()
    sections = [e.attributes["id"] for e in page.all("section") if "id" in e.attributes]
    left = [e.attributes["id"] for e in draw(run).all("section") if "id" in e.attributes]
    assert left == [name for name in sections if name != section]


def test_a_summary_alone_is_enough(run, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "summary.json").write_bytes((run / "summary.json").read_bytes())
    page = draw(alone)
    assert page.one("tr", data_metric="f1").numbers()
    assert not page.all("script")
    assert not page.all("img")


def test_what_is_not_defined_is_a_dash(run):
    def undefine(summary: dict) -> None:
        summary["gain"]["map"] = None
        summary["stages"]["consistency"]["test"]["map"] = None
        summary["stages"]["consistency"]["intervals"]["map"] = [None, None]

    edit_summary(run, undefine)
    cells = draw(run).one("tr", data_metric="map").all("td")
    assert [cell.text.strip() for cell in cells[1:2] + cells[3:]] == ["–", "–", "–"]


def test_forty_eight_pictured_images_stay_under_eight_megabytes(tmp_path):
    report = write_report(make_run(tmp_path / "run", entries=48))
    assert report.stat().st_size < 8e6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["verdict"].update(outcome="splendid"), "verdict.outcome is 'splendid'"),
        (lambda s: s["verdict"].pop("sentence"), "verdict.sentence is missing"),
        (lambda s: s.pop("stages"), "stages.supervised.test is missing"),
        (lambda s: s.update(format=99), "format 99"),
        (lambda s: s.update(classes="cat"), "classes: expected a list"),
        (lambda s: s["gain"]["map"].update(value="high"), "gain.map.value: expected a number"),
        (lambda s: s["gain"].update(map=3.5), "gain.map: expected a table of values"),
        (
            lambda s: s["stages"]["supervised"]["intervals"].update(map=[1.0]),
            "stages.supervised.intervals.map: expected [low, high]",
        ),
    ],
)
def test_a_wrong_summary_is_an_input_error_that_names_the_field(run, change, said):
    edit_summary(run, change)
    with pytest.raises(InputError, match=re.escape(said)):
        write_report(run)


def test_a_missing_run_or_summary_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such run folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"summary\.json: no such record"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", b"{broken\n{}\n"),
        ("metrics.jsonl", b"\xff\xfe\n{}\n"),
        ("metrics.jsonl", b"[1]\n{}\n"),
        ("gallery/000.npz", b"not a zip"),
        ("gallery/000.npz", b""),
        ("gallery/index.json", b"{}"),
        ("split.json", b"[]"),
    ],
)
def test_a_damaged_record_is_an_input_error(run, name, content):
    (run / name).write_bytes(content)
    with pytest.raises(InputError):
        write_report(run)


def test_a_failure_leaves_the_earlier_report_untouched(run):
    before = (run / "report.html").read_bytes()
    (run / "gallery" / "003.npz").unlink()
    with pytest.raises(InputError, match=r"003\.npz: missing"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert not list(run.glob("*.part"))


def test_the_report_needs_no_torch():
    program = "import sys, atcon.report; sys.exit('torch' in sys.modules)"
    path = [entry for entry in sys.path if entry]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {program}"], check=False
    )
    assert done.returncode == 0
