"""README and the pages of docs/howto run as they are printed; their table is the library's."""

import re
from pathlib import Path

import pytest
import torch
import torchvision

from atcon.attention import ATTENTION

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs" / "howto"
PAGES = {page.name: page for page in (ROOT / "README.md", *sorted(HOWTO.glob("*.md")))}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
GRIDS = {"layer": "cells", "input": "pixels", "tokens": "tokens"}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(page):
    before = dict(ATTENTION)
    torch.manual_seed(0)
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([0, 1])
    model = torchvision.models.resnet18(num_classes=3)
    names = {"model": model, "images": images, "loader": [images], "labelled": [(images, labels)]}
    try:
        for block in BLOCK.findall(PAGES[page].read_text(encoding="utf-8")):
            exec(compile(block, page, "exec"), names)  # noqa: S102  our own pages
    finally:
        ATTENTION.clear()
        ATTENTION.update(before)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def rows():
    yield "| name | map | grid | signed | trains | source |"
    yield "|---|---|---|---|---|---|"
    for name, entry in ATTENTION.items():
        signed, trains = ("yes" if flag else "no" for flag in (entry.signed, entry.differentiable))
        grid = GRIDS[entry.resolution]
        yield f"| `{name}` | {entry.title} | {grid} | {signed} | {trains} | {entry.source} |"


def test_the_page_on_maps_lists_the_table_of_the_library():
    assert "\n".join(rows()) in (HOWTO / "choose-maps.md").read_text(encoding="utf-8")
