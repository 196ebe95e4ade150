import pytest
from finished_folders import edit
from page import parse

from atcon.report import write_report
from atcon.report.wording import worded

OURS = "Images of one image: the image's map, imagery and IMAGES."


def test_our_sentences_speak_of_clips_where_samples_are_clips_and_other_words_stay():
    assert worded(OURS, "images") == OURS
    assert worded(OURS, "clips") == "Clips of one clip: the clip's map, imagery and IMAGES."


@pytest.fixture
def words(run):
    """The page of a run whose samples are clips, without what a user named."""
    edit(run / "summary.json", lambda one: one.update(unit="clips"))
    return parse(write_report(run).read_text(encoding="utf-8"))


def test_sentences_of_the_page_follow_and_names_of_the_user_do_not(words, page):
    assert "Test clips" in [th.text for th in words.all("th")]
    for section in ("done", "result", "controls", "classes", "training", "limits"):
        ours, theirs = (
            next(s for s in one.all("section") if s.attributes.get("id") == section)
            for one in (words, page)
        )
        named = [bdi.text for bdi in theirs.all("bdi") if section != "done"]
        assert [bdi.text for bdi in ours.all("bdi") if section != "done"] == named
    names = [bdi.text for bdi in page.one("main").all("bdi") if ".jpg" in bdi.text]
    assert [bdi.text for bdi in words.one("main").all("bdi") if ".jpg" in bdi.text] == names
