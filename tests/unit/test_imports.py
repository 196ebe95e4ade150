"""Imports go one way (docs/architecture.md), without cycles and without a module for everything."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
PATHS = sorted((SOURCE / "atcon").rglob("*.py"))

_MODEL = {"errors", "types"}
_METHOD = _MODEL | {"attention", "consistency"}
_PARTS = {"models", "data", "evaluation", "records"}
MAY_IMPORT = {
    "errors": set(),
    "plain_text": set(),
    "types": {"errors"},
    "records": {"errors", "plain_text"},
    "alone": set(),
    "downloads": {"errors", "alone"},
    "models": _MODEL | {"downloads"},
    "data": _MODEL | {"downloads", "plain_text"},
    "evaluation": _MODEL,
    "attention": _MODEL,
    "consistency": _MODEL | {"attention"},
    "inspection": _METHOD,
    "training": _METHOD,
    "baselines": _METHOD | {"training"},
    "experiments": _METHOD | _PARTS | {"alone", "plain_text", "training", "baselines"},
    "report": {"errors", "plain_text", "records"},
    "sharing": {"errors", "records", "report", "experiments"},
    "cli": _METHOD
    | _PARTS
    | {"inspection", "plain_text", "training", "baselines", "experiments", "report", "sharing"},
}
"""What each part may import besides itself and the version in `atcon`; the table of the page."""


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in PATHS}


def part_of(module: str) -> str:
    """`errors` for `atcon.errors`, `data` for `atcon.data.voc`, nothing for `atcon` itself."""
    return module.partition(".")[2].partition(".")[0]


def imports_of(path: Path) -> Iterator[str]:
    """Every module of ours that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in MODULES or base in MODULES:
                    yield inner if inner in MODULES else base


def test_the_table_names_every_part_of_the_package() -> None:
    assert {part_of(module) for module in MODULES} - {""} == set(MAY_IMPORT)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "atcon"])
def test_a_module_imports_only_what_stands_to_its_left(module: str) -> None:
    part = part_of(module)
    allowed = MAY_IMPORT[part] | {part, ""}
    wrong = {name for name in imports_of(MODULES[module]) if part_of(name) not in allowed}
    assert not wrong, f"{module} may not import {sorted(wrong)}"


def test_the_permitted_directions_have_no_cycle() -> None:
    assert next(iter(TopologicalSorter(MAY_IMPORT).static_order())) == "errors"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: set(imports_of(path)) - {name, "atcon"} for name, path in MODULES.items()}
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert not circle, " <- ".join(circle)


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"common", "helper", "helpers", "misc", "util", "utils"}
    assert not {name for name in MODULES if name.rpartition(".")[2] in drawers}
