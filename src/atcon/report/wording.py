"""What the samples of a run are called in the sentences of its report: images, or clips."""

import re

from atcon.report.inputs import Record, dig

_IMAGE = re.compile(r"\b([Ii])mage(s?)\b")


def unit_of(summary: Record) -> str:
    """Give "images" or "clips"."""
    return "clips" if dig(summary, "unit") == "clips" else "images"


def worded(text: str, unit: str) -> str:
    """Let one of our own sentences, which speak of images, speak of the samples of a run."""
    if unit == "images":
        return text
    return _IMAGE.sub(lambda found: ("C" if found[1] == "I" else "c") + "lip" + found[2], text)
