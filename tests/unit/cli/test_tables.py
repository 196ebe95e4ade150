import pytest
from pipeline import atcon

from atcon.attention import ATTENTION
from atcon.consistency import CORRELATIONS, MASKS, MATCHINGS, PRESETS

TABLES = {
    "maps": ATTENTION,
    "matchings": MATCHINGS,
    "correlations": CORRELATIONS,
    "masks": MASKS,
    "presets": PRESETS,
}


@pytest.mark.parametrize("table", TABLES)
def test_a_line_for_each_name_of_a_table_in_its_order(table):
    ended = atcon("list", table)
    assert (ended.code, ended.err) == (0, "")
    head, *lines = ended.out.splitlines()
    assert head.startswith("name ")
    assert [line.split()[0] for line in lines] == list(TABLES[table])
    assert all(len(line.split()) > 1 for line in lines)


def test_the_line_of_a_map_says_what_the_table_says():
    lines = atcon("list", "maps").out.splitlines()
    for line, entry in zip(lines[1:], ATTENTION.values(), strict=True):
        title, grid, signed, trains, source = columns(lines[0], line)
        assert (title, source) == (entry.title, entry.source)
        assert grid == {"layer": "cells", "input": "pixels", "tokens": "tokens"}[entry.resolution]
        assert (signed == "yes", trains == "yes") == (entry.signed, entry.differentiable)


def columns(head: str, line: str) -> list[str]:
    """The cells of a line below the heads after the first."""
    starts = [head.index(word) for word in ("map", "grid", "signed", "trains", "source")]
    ends = [*starts[1:], len(line)]
    return [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]


def test_list_alone_lists_the_configurations():
    assert atcon("list").out == atcon("list", "configs").out


def test_an_unknown_table_gives_the_nearest():
    ended = atcon("list", "map")
    assert ended.code == 2
    assert "no table 'map': did you mean 'maps'?" in ended.err
