"""The page on what reproduces says what the pages of results say, which their records hold."""

import re
from pathlib import Path

from atcon.experiments.paper import paper_facts

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reproduction.md"
DIFFERENCE = re.compile(r"[+−]\d+\.\d\*? \([+−]\d+\.\d to [+−]\d+\.\d\), p \d\.\d{3}")
LINK = re.compile(r"\]\((results/[\w-]+\.md)\)")


def _sections():
    """Every section that has a table with our numbers, with the pages that it links to."""
    page = PAGE.read_text(encoding="utf-8")
    for section in page.split("\n## ")[1:]:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        ours = DIFFERENCE.findall("\n".join(rows))
        if ours:
            yield section, ours, LINK.findall(section)


def test_every_difference_of_a_table_stands_in_a_page_that_its_records_hold():
    found = 0
    for section, ours, links in _sections():
        assert links, section.splitlines()[0]
        pages = [(DOCS / link).read_text(encoding="utf-8") for link in links]
        for difference in ours:
            assert any(difference in page for page in pages), difference
        found += len(ours)
    assert found > 80


def test_what_our_method_gives_stands_beside_its_control():
    for section, _, _ in _sections():
        if "| here: ours" in section:
            assert "| here: uniform mask" in section, section.splitlines()[0]


def _signed(value):
    return f"{value:+.1f}".replace("-", "−")


def _row(name, table, row, sizes, *, base="resnet50", stars=(), scale=1):
    cells = [
        _signed(scale * (table[row][n] - table[base][n])) + ("*" if int(n) in stars else "")
        for n in sizes
    ]
    return f"| paper: {name} | {' | '.join(cells)} |"


def test_the_differences_of_tables_2_and_3_are_those_of_the_printed_values():
    page, facts = PAGE.read_text(encoding="utf-8"), paper_facts()
    pascal, overlap = facts["table2_pascal"], facts["table3_overlap"]
    metrics = (
        (pascal["f1"], pascal["significant"]["f1"]),
        (pascal["map"], {}),
        (overlap["iou"], overlap["significant"]),
    )
    names = {
        "resnet50_no_augmentation": "no augmentation",
        "resnet50+layer": "layer consistency",
        "resnet50+attention": "ours",
    }
    for table, starred in metrics:
        for key, name in names.items():
            stars = starred.get(key, ())
            assert _row(name, table, key, ("2", "4", "8", "16"), stars=stars) in page


def test_the_differences_of_the_supplements_svhn_are_those_of_the_printed_values():
    table = paper_facts()["supplement_table1_svhn"]
    row = _row("ours", table, "resnet+attention", ("2", "4", "8"), base="resnet", scale=100)
    assert row in PAGE.read_text(encoding="utf-8")


def test_the_differences_of_table_1_are_those_of_the_printed_values():
    page, video = PAGE.read_text(encoding="utf-8"), paper_facts()["table1_video"]
    for name, row, base in (
        ("ours, from supervised", "baseline+attention", "baseline"),
        ("SimCLR, from supervised", "simclr", "baseline"),
        ("SimCLR and ours, from SimCLR", "simclr+attention", "simclr"),
    ):
        gains = [
            _signed(video[n][row]["mean"][0] - video[n][base]["mean"][0]) for n in ("16", "32")
        ]
        assert f"| {name} | {' | '.join(gains)} |" in page


def test_the_differences_of_section_6_are_those_of_the_printed_values():
    page, facts = PAGE.read_text(encoding="utf-8"), paper_facts()
    base = {
        "f1": facts["table2_pascal"]["f1"]["resnet50"]["4"],
        "iou": facts["table3_overlap"]["iou"]["resnet50"]["4"],
    }
    for name in ("fine-tuning", "combined", "alternated"):
        printed = facts["section6_strategies"][name.replace("-", "_")]
        (line,) = (one for one in page.splitlines() if one.startswith(f"| {name} |"))
        cells = line.strip("| ").split(" | ")
        assert cells[1] == _signed(printed["f1"] - base["f1"])
        assert cells[3] == _signed(printed["iou"] - base["iou"])
