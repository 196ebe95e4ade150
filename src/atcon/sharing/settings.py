"""The configuration and the machine of a run, without what is written by hand: paths, above all."""

from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from atcon.experiments.sections import ConsistencyConfig, RunConfig
from atcon.experiments.yaml_text import yaml_mapping
from atcon.sharing.pseudonyms import Pseudonyms

KEPT = frozenset(
    {
        "name",
        "device",
        "data.classes",
        "model.name",
        "model.layer",
        "layer_attention.layers",
    }
)
"""Keys of free text that stay, since the results cannot be read without them."""
_KEPT_VALUES = frozenset({"imagenet", "source"})
"""Values of `model.weights` that are no path."""
_MACHINE = ("python", "processors", "threads", "gpu", "packages")


def hidden_config(text: str, names: Pseudonyms) -> str:
    """Replace the free text of a `config.yaml` by pseudonyms: equal values stay equal."""
    content = yaml_mapping(text, "config.yaml", "not the configuration of a run")
    hidden = _section(content, RunConfig, "", names)
    return str(yaml.safe_dump(hidden, sort_keys=False, allow_unicode=True))


def hidden_environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Keep versions and numbers, and of the platform its system only."""
    kept = {key: environment[key] for key in _MACHINE if key in environment}
    if "platform" in environment:
        kept["platform"] = str(environment["platform"]).partition("-")[0]
    return kept


def _section(
    content: Mapping[str, Any], section: type[BaseModel], prefix: str, names: Pseudonyms
) -> dict[str, Any]:
    return {
        key: _value(value, section, key, f"{prefix}{key}", names) for key, value in content.items()
    }


def _value(value: Any, section: type[BaseModel], key: str, place: str, names: Pseudonyms) -> Any:
    """Keep a value that its key allows no free text for; a key that is not known allows it."""
    field = section.model_fields.get(key)
    kind = None if field is None else field.annotation
    inner = _section_in(kind)
    if isinstance(value, dict) and inner is not None:
        return _section(value, inner, f"{place}.", names)
    if isinstance(value, dict) and place == "variants":
        return {
            name: _section(changes, ConsistencyConfig, "consistency.", names)
            for name, changes in value.items()
        }
    checked = field is not None and (bool(field.metadata) or not takes_text(kind))
    return value if checked or place in KEPT else _hidden(value, names)


def _section_in(kind: Any) -> type[BaseModel] | None:
    """The section that a key holds, perhaps an optional one."""
    kinds = [kind, *get_args(kind)]
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)


def takes_text(kind: Any) -> bool:
    """Whether a type allows any text; one of a list of words, or text that is checked, is none."""
    if get_origin(kind) in (Annotated, Literal):
        return False
    inner = get_args(kind)
    if not inner:
        return kind not in (int, float, bool, NoneType, Ellipsis)
    return any(map(takes_text, inner))


def _hidden(value: Any, names: Pseudonyms) -> Any:
    if isinstance(value, str):
        return value if value in _KEPT_VALUES else names.text(value)
    if isinstance(value, list):
        return [_hidden(entry, names) for entry in value]
    if isinstance(value, dict):
        return {_hidden(key, names): _hidden(entry, names) for key, entry in value.items()}
    return value
