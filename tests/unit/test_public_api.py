"""The public API is a file: what users can call changes on purpose, or not at all."""

import ast
from difflib import unified_diff
from pathlib import Path

from public_api import functions, inventory

FILE = Path(__file__).parents[2] / "docs" / "public-api.txt"


def test_the_public_api_is_that_of_the_inventory() -> None:
    written, found = FILE.read_text(encoding="utf-8").splitlines(), inventory().splitlines()
    changed = "\n".join(unified_diff(written, found, "docs/public-api.txt", "the code", n=0))
    assert not changed, (
        f"the public API has changed:\n{changed}\n"
        "If users should have this, accept it by `make api` and name it in CHANGELOG.md."
    )


def test_every_parameter_and_result_of_the_public_api_has_a_type() -> None:
    untyped = {name: missing for name, one in functions().items() if (missing := without_type(one))}
    assert not untyped
    assert len(functions()) > 200


def without_type(function: ast.FunctionDef) -> list[str]:
    taken = function.args
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
    missing = [
        one.arg
        for one in every
        if one and one.annotation is None and one.arg not in ("self", "cls")
    ]
    return missing if function.returns else [*missing, "return"]
