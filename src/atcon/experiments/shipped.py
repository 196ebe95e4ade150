"""The shipped experiments, and those of a user's file, in their full or their small form."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from atcon.errors import InputError, no_such
from atcon.experiments.config import explain
from atcon.experiments.grid import Experiment
from atcon.experiments.yaml_text import yaml_mapping

_CELLS = ("name", "config", "set", "networks", "per_class", "seeds")
"""What a form takes from the experiment whose cells it shows (`of`)."""


def experiments(*, small: bool = False) -> dict[str, Experiment]:
    """Give every shipped experiment by its name."""
    return {name: experiment_of(name, small=small) for name in _shipped()}


def experiment_of(source: str, *, small: bool = False, within: tuple[str, ...] = ()) -> Experiment:
    """Give a shipped experiment, or the one of a YAML file.

    Args:
        source: Its name, or the path of its file.
        small: Its form for the data at hand; an experiment without one has a single form.
        within: The experiments that show its cells, outermost first.

    Raises:
        InputError: There is none of that name (the nearest is given), or the file is wrong.
    """
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"}:
        known = _shipped()
        if source not in known:
            raise no_such("experiment", source, known)
        return _form(_content(known[source], source), source, small, within)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: cannot read this experiment ({error})") from error
    return _form(_content(text, source), source, small, within)


@cache
def _shipped() -> dict[str, str]:
    """The text of every shipped experiment."""
    folder = files("atcon.experiments") / "grids"
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return {
        entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
        for entry in entries
        if entry.name.endswith(".yaml")
    }


def _content(text: str, source: str) -> dict[str, Any]:
    content = yaml_mapping(text, source, "an experiment is a mapping such as name: mine")
    content.pop("notes", None)  # a place for YAML anchors
    return content


def _form(
    content: Mapping[str, Any], source: str, small: bool, within: tuple[str, ...]
) -> Experiment:
    """Take the full form, or lay the small one over it."""
    within = (*within, source)
    full = {key: value for key, value in content.items() if key not in ("small", "of")}
    full |= {"words": (source,), "smaller": (source, "--small") if "small" in content else ()}
    changes = content.get("small") if small else None
    if changes is None:
        return _valid(_with_cells(full, content.get("of"), within, small=False), source)
    if not isinstance(changes, dict):
        raise InputError(f"{source}: small: write what it changes, such as per_class: [2, 4]")
    name = {"name": f"{full['name']}-small"} if "name" in full else {}
    one = {**full, **name, **changes}
    one |= {"words": full["smaller"], "smaller": ()}
    if isinstance(full.get("paper"), dict) and isinstance(changes.get("paper"), dict):
        one["paper"] = {**full["paper"], **changes["paper"]}
    of = one.pop("of", content.get("of"))
    return _valid(_with_cells(one, of, within, small=True), source)


def _with_cells(
    content: Mapping[str, Any], of: Any, within: tuple[str, ...], *, small: bool
) -> dict[str, Any]:
    """Let a form show the cells of another experiment, which the others it is within do not show.

    Raises:
        InputError: There is no such experiment, or it shows the cells of this one.
    """
    if of is None:
        return dict(content)
    if not isinstance(of, str) or of in within:
        raise InputError(
            f"{within[-1]}: of = {of!r:.80}: write the name of another experiment, whose cells "
            "are its own"
        )
    other = experiment_of(of, small=small, within=within)
    own = {key: value for key, value in content.items() if key not in _CELLS}
    cells = other.model_dump(include=set(_CELLS))
    return {**own, **cells, "called": content.get("name", "")}


def _valid(content: Mapping[str, Any], source: str) -> Experiment:
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        known = Experiment.model_fields
        lines = [explain(dict(entry), known) for entry in error.errors(include_url=False)]
        raise InputError(f"{source}: " + "\n  ".join(lines)) from None
