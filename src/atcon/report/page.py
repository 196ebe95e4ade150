"""What every page is made with: the templates, the style, and the way that they are filled."""

from pathlib import Path

import jinja2
from markupsafe import Markup

from atcon.report.gain_chart import key
from atcon.report.wording import worded

TEMPLATES = Path(__file__).parent / "templates"


def environment_of(unit: str) -> jinja2.Environment:
    """Give the templates, whose sentences speak of `unit`: images, or clips."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["worded"] = lambda text: worded(text, unit)
    environment.filters["sign"] = key
    return environment


def asset(name: str) -> Markup:
    """Read one of our own files, to be put into a page as it is."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file
