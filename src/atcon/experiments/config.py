"""The configuration of a run: a shipped name or a YAML file with overrides, checked at the door."""

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from atcon.errors import InputError
from atcon.experiments.sections import ConsistencyConfig, RunConfig
from atcon.experiments.yaml_text import yaml_mapping, yaml_value
from atcon.plain_text import printable

DATA_VARIABLE = "ATCON_DATA"
_WHAT = "a configuration is a mapping of keys, such as data and model"
_SHOWN = 80
"""Marks of a wrong value that an error repeats."""


def variant_of(config: RunConfig, name: str) -> RunConfig:
    """Give the configuration in which the section `consistency` has a variant's changes."""
    changed = {**config.consistency.model_dump(exclude_unset=True), **config.variants[name]}
    return config.model_copy(update={"consistency": ConsistencyConfig.model_validate(changed)})


def shipped() -> dict[str, str]:
    """Give the text of every shipped configuration by its name."""
    folder = files("atcon.experiments") / "configs"
    found = {entry.name.removesuffix(".yaml"): entry for entry in folder.iterdir()}
    return {
        name: found[name].read_text(encoding="utf-8")
        for name in sorted(found)
        if found[name].name.endswith(".yaml")
    }


def shipped_text(name: str) -> str:
    """Give the text of one shipped configuration.

    Raises:
        InputError: There is none of that name; the nearest is given.
    """
    texts = shipped()
    if name not in texts:
        nearest = get_close_matches(name, texts, n=1, cutoff=0.0)[0]
        raise InputError(
            f"no configuration {name!r}: neither a shipped one ({', '.join(texts)}) nor a YAML "
            f"file; did you mean {nearest!r}?"
        )
    return texts[name]


def load_config(source: str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a shipped configuration or a YAML file, apply `key=value` overrides, and check it.

    Raises:
        InputError: Not to be read, or a key or a value is wrong; names each with the nearest valid.
    """
    path = Path(source)
    try:
        own = path.suffix in {".yaml", ".yml"} or path.is_file()
        text = path.read_text(encoding="utf-8") if own else shipped_text(source)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{source}: cannot read this configuration ({reason})") from error
    default_name = path.stem if own else source
    content = yaml_mapping(text, source, _WHAT)
    content.setdefault("name", default_name)
    for override in overrides:
        _apply(content, override)
    return check_config(content, source)


def check_config(content: Mapping[str, Any], source: str) -> RunConfig:
    """Turn a mapping into a `RunConfig`, or say for every wrong entry what is wrong."""
    try:
        config = RunConfig.model_validate(content)
    except ValidationError as error:
        lines = [explain(dict(entry), keys()) for entry in error.errors(include_url=False)]
        raise InputError(f"{source}: " + "\n  ".join(lines)) from None
    for name in config.variants:
        _check_variant(config, name, source)
    return config


def _check_variant(config: RunConfig, name: str, source: str) -> None:
    """Refuse a variant that is no section `consistency`, or has the name of another arm."""
    if name in import_module("atcon.experiments.arms").RESERVED:
        raise InputError(f"{source}: variants.{name}: an arm has this name, choose another")
    for key in ("unlabelled_root", "unlabelled_images"):
        if key in config.variants[name]:
            raise InputError(
                f"{source}: variants.{name}.{key}: all arms of a run have the same images, set "
                f"consistency.{key}"
            )
    try:
        variant_of(config, name)
    except ValidationError as error:
        lines = [
            explain({**entry, "loc": ("consistency", *entry["loc"])}, keys())
            for entry in error.errors(include_url=False)
        ]
        said = "\n  ".join(lines).replace("consistency.", f"variants.{name}.")
        raise InputError(f"{source}: {said}") from None


def dump_config(config: RunConfig) -> str:
    """Give the resolved configuration as YAML; `load_config` reads it back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def changed_keys(before: str, now: str, source: str) -> list[str]:
    """Say in which keys two dumped configurations differ.

    A key that one of them lacks, since an older version wrote it, has today's default.

    Args:
        before: What `dump_config` of this or of an older version gave.
        now: The other one.
        source: Where the first one lies, for errors.

    Raises:
        InputError: This version cannot read it; the key is named.
    """
    there, asked = (
        _flat(check_config(yaml_mapping(text, source, _WHAT), source).model_dump(mode="json"))
        for text in (before, now)
    )
    return [
        f"{key} ({_shown(there.get(key))} there, {_shown(asked.get(key))} asked for)"
        for key in {**asked, **there}
        if there.get(key) != asked.get(key)
    ]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give the values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        below = isinstance(value, dict) and value
        found |= _flat(value, f"{prefix}{key}.") if below else {f"{prefix}{key}": value}
    return found


def data_path(given: str, what: str, advice: str = "") -> Path:
    """Find a file or folder as given, or below the folder that ATCON_DATA names.

    Args:
        given: The path, as configured.
        what: The key it stands under.
        advice: What else a user could do if it is missing.

    Raises:
        InputError: It is in neither place; both are named.
    """
    try:
        tried = [Path(given).expanduser()]
    except RuntimeError as error:  # ~NAME of nobody
        raise InputError(f"{what} = {given!r}: {error}") from None
    base = os.environ.get(DATA_VARIABLE)
    if base and not tried[0].is_absolute():
        tried.append(Path(base).expanduser() / given)
    for path in tried:
        if path.exists():
            return path
    hint = "" if base else f"; or set {DATA_VARIABLE} to the folder that holds it"
    places = " or ".join(str(path.absolute()) for path in tried)
    raise InputError(
        f"{what} not found: looked for {places}; give it with --set {what}=PATH{hint}{advice}"
    )


def keys(section: type[BaseModel] = RunConfig, prefix: str = "") -> list[str]:
    """List every key of a configuration in dotted form."""
    found = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += keys(kind, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}: write it as key=value, such as data.per_class=4")
    if key not in keys():
        raise InputError(
            f"--set {_shown(override)[1:-1]}: unknown key {_shown(key)}{_nearest(key, keys())}"
        )
    *sections, last = key.split(".")
    place = content
    for section in sections:
        below = place.setdefault(section, {})
        if not isinstance(below, dict):
            raise InputError(f"--set {override}: {section!r} is not a section here, but {below!r}")
        place = below
    place[last] = override_value(text)


def override_value(text: str) -> Any:
    """Read the value of a `key=value`: text where it is no YAML, and `1e-4` as a number.

    YAML 1.1 takes the latter for text.
    """
    try:
        value = yaml_value(text, "--set")
    except InputError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def explain(entry: Mapping[str, Any], known: Iterable[str]) -> str:
    """Say in one line what pydantic found wrong: the key, its value, and why.

    Args:
        entry: One of its errors.
        known: The keys that there are, for the nearest of an unknown one.
    """
    key = printable(".".join(str(part)[:_SHOWN] for part in entry["loc"]))
    value = entry.get("input")
    if entry["type"] == "extra_forbidden":
        return f"unknown key {_shown(key)} = {_shown(value)}{_nearest(key, known)}"
    if not key:
        return str(entry["msg"])
    if entry["type"] == "missing":
        return f"{key} is missing"
    choices = str(entry.get("ctx", {}).get("expected", ""))
    options = [part for part in choices.replace(" or ", ", ").replace("'", "").split(", ") if part]
    if entry["type"] == "literal_error":
        hint = _nearest(str(value), options)
    else:
        hint = "; write a list as [cat, dog]" if entry["type"] == "tuple_type" else ""
    return f"{key} = {_shown(value)}: {entry['msg'].replace('tuple', 'list')}{hint}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _nearest(word: str, options: Iterable[str]) -> str:
    found = get_close_matches(word, list(options), n=1, cutoff=0.0)
    return f"; did you mean {found[0]!r}?" if found else ""
