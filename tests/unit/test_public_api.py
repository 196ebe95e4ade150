"""The public API is a file: what users can call changes on purpose, or not at all."""

import ast
from difflib import unified_diff
from pathlib import Path

import pytest
from public_api import functions, inventory

FILE = Path(__file__).parents[2] / "docs" / "public-api.txt"
FUNCTIONS = functions()


def test_the_public_api_is_that_of_the_inventory() -> None:
    written, found = FILE.read_text(encoding="utf-8").splitlines(), inventory().splitlines()
    changed = "\n".join(unified_diff(written, found, "docs/public-api.txt", "the code", n=0))
    assert not changed, (
        f"the public API has changed:\n{changed}\n"
        "If users should have this, accept it by `make api` and name it in CHANGELOG.md."
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_and_result_of_the_public_api_has_a_type(name: str) -> None:
    function = FUNCTIONS[name]
    taken = function.args
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
    untyped = [
        one.arg
        for one in every
        if one and one.annotation is None and one.arg not in ("self", "cls")
    ]
    assert not untyped
    assert isinstance(function.returns, ast.expr)
