"""A report without images has no pixel of one, and all of the rest."""

import re

import pytest
from page import parse

from atcon.report import write_report

PICTURES = ("img", "picture", "canvas", "video", "object", "embed", "iframe", "image", "use")


@pytest.fixture(scope="module")
def bare(finished, tmp_path_factory):
    target = tmp_path_factory.mktemp("bare") / "report.html"
    assert write_report(finished, target, images=False) == target
    return target.read_text(encoding="utf-8")


def test_no_element_and_no_encoded_bytes_are_left_that_could_be_a_picture(bare, page):
    assert page.all("img")
    assert not [element.tag for element in parse(bare).inside if element.tag in PICTURES]
    assert "data:image" not in bare
    assert "base64" not in bare
    assert not re.search(r"[A-Za-z0-9+/=]{120,}", bare.replace("b" * 294, ""))  # a class label


def test_all_that_is_not_the_gallery_stays_to_the_letter(bare, page):
    def sections(one):
        return {e.attributes["id"]: e.text for e in one.all("section") if "id" in e.attributes}

    left, whole = sections(parse(bare)), sections(page)
    assert whole.pop("gallery")
    assert left == whole
    assert [svg.text for svg in parse(bare).all("svg")] == [svg.text for svg in page.all("svg")]
    assert parse(bare).all("svg")


def test_the_page_says_that_it_has_no_pictures(bare, page):
    said = "It was drawn without pictures of images."
    assert said in parse(bare).one("footer").text
    assert said not in page.one("footer").text


def test_the_reports_own_file_is_left_alone_where_another_is_asked_for(run, tmp_path):
    before = (run / "report.html").read_bytes()
    write_report(run, tmp_path / "other.html", images=False)
    assert (run / "report.html").read_bytes() == before
