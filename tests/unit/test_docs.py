"""The documentation names what exists: symbols, files, and the defaults that the code has."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from atcon.consistency import PRESETS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def resolve(dotted: str) -> object:
    """The thing that a dotted name means: a module, or a name in one."""
    try:
        return import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return getattr(import_module(module), name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_symbol_that_a_page_names_exists(page: Path) -> None:
    symbols = set(re.findall(r"`(atcon(?:\.[A-Za-z_]+)+)", page.read_text(encoding="utf-8")))
    for symbol in symbols:
        assert resolve(symbol) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        assert (ROOT / file).is_file()
        assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_the_default_mask_is_the_documented_one() -> None:
    page = (ROOT / "docs" / "deviations.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| mask P |")]
    assert row.rstrip(" |").endswith(f"`{PRESETS['default'].mask}`")
