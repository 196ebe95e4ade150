"""The public API as text: each public name with its signature as written, each key, each option.

`python tests/support/public_api.py FILE` writes it; `tests/unit/test_public_api.py` compares.
"""

import ast
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

import click
import typer.main

import atcon

LIBRARY = [
    *(f"atcon.{module.name}" for module in iter_modules(atcon.__path__) if module.ispkg),
    "atcon.errors",
    "atcon.types",
]
"""Packages, and the two modules below all of them; the names of `atcon` itself come from these."""
KEYS = "atcon.experiments.sections"
Definition = ast.FunctionDef | ast.ClassDef


def inventory() -> str:
    """Give all of it, one definition after the other."""
    heads = [f"atcon: {', '.join(atcon.__all__)}"]
    return "\n".join([*heads, *_library(), *_keys(), *_commands()]) + "\n"


def functions() -> dict[str, ast.FunctionDef]:
    """Give every public function and method by its dotted name."""
    found = {}
    for place, definition in public_definitions().items():
        if isinstance(definition, ast.FunctionDef):
            found[place] = definition
        else:
            found |= {f"{place}.{method.name}": method for method in _methods(definition)}
    return found


def public_definitions() -> dict[str, Definition]:
    """Give every public function and class of the library by its dotted name."""
    return {
        f"{module}.{name}": definition
        for module in LIBRARY
        for name in _names(module)
        if (definition := _definition(module, name)) is not None
    }


def _library() -> list[str]:
    lines, definitions = [], public_definitions()
    for module in LIBRARY:
        for name in _names(module):
            place = f"{module}.{name}"
            lines += _shown(place, definitions.get(place), getattr(import_module(module), name))
    return lines


def _names(module: str) -> list[str]:
    """The names that a package lists; of a module without a list, those that are defined in it."""
    listed = getattr(import_module(module), "__all__", None)
    return sorted(listed if listed is not None else _defined(module))


def _defined(module: str) -> list[str]:
    if find_spec(module).submodule_search_locations:
        return []
    return [name for name in _bodies(module) if not name.startswith("_")]


@cache
def _bodies(module: str) -> dict[str, ast.stmt]:
    """What stands at the top of a module, by name."""
    found: dict[str, ast.stmt] = {}
    for statement in ast.parse(Path(find_spec(module).origin).read_text(encoding="utf-8")).body:
        match statement:
            case ast.FunctionDef() | ast.ClassDef():
                found[statement.name] = statement
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = statement
    return found


def _definition(module: str, name: str) -> Definition | None:
    thing = getattr(import_module(module), name)
    home = getattr(thing, "__module__", None)
    if not isinstance(home, str) or not home.startswith("atcon"):
        return None
    body = _bodies(home).get(getattr(thing, "__name__", name))
    return body if isinstance(body, Definition) else None


def _shown(place: str, definition: Definition | None, value: object) -> list[str]:
    if isinstance(definition, ast.FunctionDef):
        return [f"{place}{_signature(definition)}"]
    if definition is not None:
        return _class(place, definition)
    if isinstance(value, dict):  # a table of choices
        return [f"{place} = {{{', '.join(map(str, value))}}}"]
    if type(value).__module__.startswith("atcon"):  # such as a map
        return [f"{place}: {type(value).__name__}"]
    return [f"{place} = {value!r}" if isinstance(value, str | int | float | tuple) else place]


def _class(place: str, definition: ast.ClassDef) -> list[str]:
    bases = ", ".join(map(ast.unparse, definition.bases))
    fields = [
        f"    {ast.unparse(statement)}"
        for statement in definition.body
        if isinstance(statement, ast.AnnAssign) and not ast.unparse(statement).startswith("_")
    ]
    methods = [f"    {method.name}{_signature(method)}" for method in _methods(definition)]
    return [f"{place}({bases})", *fields, *methods]


def _methods(definition: ast.ClassDef) -> list[ast.FunctionDef]:
    return [
        statement
        for statement in definition.body
        if isinstance(statement, ast.FunctionDef)
        and (not statement.name.startswith("_") or statement.name in ("__init__", "__call__"))
    ]


def _signature(function: ast.FunctionDef) -> str:
    gives = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"({ast.unparse(function.args)}){gives}"


def _keys() -> list[str]:
    """The keys of a configuration, section by section."""
    sections = [one for one in _bodies(KEYS).values() if isinstance(one, ast.ClassDef)]
    return [
        line
        for section in sections
        if section.name.endswith("Config")
        for line in _class(f"configuration {section.name}", section)
    ]


def _commands() -> list[str]:
    from atcon.cli.app import app  # noqa: PLC0415  loads nothing else

    return _of_command("atcon", typer.main.get_command(app))


def _of_command(name: str, command: click.Command) -> list[str]:
    words = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            words.append(str(parameter.name).upper() + ("..." if parameter.nargs == -1 else ""))
        elif "--help" not in parameter.opts:
            flag = "/".join([*parameter.opts, *parameter.secondary_opts])
            words.append(flag if parameter.required else f"[{flag}]")
    line = " ".join(["command", name, *words])
    below = getattr(command, "commands", {})
    return [line, *(row for sub, one in below.items() for row in _of_command(f"{name} {sub}", one))]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(inventory(), encoding="utf-8")
