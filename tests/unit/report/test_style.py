import re
from itertools import product
from pathlib import Path

import pytest

import atcon.report

CSS = (Path(atcon.report.__file__).parent / "templates" / "report.css").read_text()
TEXT = ("ink", "soft", "ours", "control", "calibration", "good", "bad", "note")
GROUNDS = ("paper", "card")


def palette(theme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[:2]
    found = re.findall(r"--(\w+): #([0-9a-f]{3,6});", light if theme == "light" else dark)
    return dict(found)


def luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), list(product(TEXT, GROUNDS)))
def test_text_stands_out_from_its_ground(theme, text, ground):
    colours = palette(theme)
    pair = sorted((luminance(colours[text]), luminance(colours[ground])))
    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


def test_both_themes_define_the_same_colours():
    assert palette("light").keys() == palette("dark").keys()
