"""The configuration of a run: a shipped name or a YAML file with overrides, checked at the door."""

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from atcon.errors import InputError

DATA_VARIABLE = "ATCON_DATA"
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BadImage = Literal["skip", "error"]


def _name_of(part: str, table: str) -> AfterValidator:
    """Accept the names of a table only; it is loaded when a name is given, and torch with it."""

    def check(name: str) -> str:
        names = getattr(import_module(f"atcon.{part}"), table)
        if name not in names:
            expected = {"expected": ", ".join(map(repr, names))}
            raise PydanticCustomError("literal_error", "Input should be {expected}", expected)
        return name

    return AfterValidator(check)


def _as_range(value: Any) -> Any:
    """Read a number as the range that holds it alone."""
    return (value, value) if isinstance(value, int | float) else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which images, and how many of them are labelled."""

    name: Literal["digits", "voc", "folder"]
    root: str | None = None
    classes: tuple[str, ...] | None = None
    per_class: Positive = 4
    validation_images: Positive = 100
    test_images: Positive | None = None
    image_size: Positive | None = None
    csv: str | None = None
    boxes: str | None = None
    download: bool = False
    on_bad_image: BadImage = "skip"
    augmentation: Literal["paper", "horizontal", "rotation", "none"] = "paper"


class ModelConfig(_Section):
    """Which network, from which weights, explained at which layer."""

    name: str
    weights: str | None = None
    layer: str | None = None


class SupervisedConfig(_Section):
    """The first stage: cross-entropy on the labels."""

    epochs: Positive = 30
    lr: Rate = 1e-4
    batch_size: Positive = 4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch_norm: Literal["frozen", "batch"] = "frozen"


class ConsistencyConfig(_Section):
    """The second stage: the maps' agreement on the same images, without their labels.

    What is not given is the preset's.
    """

    preset: Annotated[str, _name_of("consistency", "PRESETS")] = "default"
    maps: tuple[Annotated[str, _name_of("attention", "ATTENTION")], ...] | None = None
    matching: Annotated[str, _name_of("consistency", "MATCHINGS")] | None = None
    mask: Annotated[str, _name_of("consistency", "MASKS")] | None = None
    mask_smooth: Annotated[float, Field(ge=0)] = 0.0
    mask_slope: Annotated[float, Field(gt=0)] = 8.0
    mask_value: Fraction = 0.5
    mask_floor: Fraction = 0.0
    mask_strength: Annotated[tuple[Fraction, Fraction], BeforeValidator(_as_range)] = (1.0, 1.0)
    detach_mask: bool | None = None
    correlation: Annotated[str, _name_of("consistency", "CORRELATIONS")] | None = None
    squash: bool | None = None
    target: Annotated[str, _name_of("attention", "TARGETS")] = "top"
    micro_batch: Positive | None = None
    epochs: Positive = 12
    lr: Rate = 1e-5
    batch_size: Positive = 4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class ControlsConfig(_Section):
    """The controls that a claimed gain must beat."""

    uniform: bool = True


class EvaluationConfig(_Section):
    """How the test images are judged."""

    resamples: Annotated[int, Field(ge=100)] = 1000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    batch_size: Positive = 8
    gallery: Annotated[int, Field(ge=0)] = 48


class RunConfig(_Section):
    """Everything that a run depends on."""

    name: str = "run"
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"
    precision: Literal["32-true", "64-true", "16-mixed", "bf16-mixed"] = "32-true"
    data: DataConfig
    model: ModelConfig
    supervised: SupervisedConfig = SupervisedConfig()
    consistency: ConsistencyConfig = ConsistencyConfig()
    controls: ControlsConfig = ControlsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


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
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{source}: cannot read this configuration ({error})") from error
        default_name = path.stem
    else:
        text, default_name = shipped_text(source), source
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{source}: a configuration is a mapping of keys, such as data and model")
    content.setdefault("name", default_name)
    for override in overrides:
        _apply(content, override)
    return check_config(content, source)


def check_config(content: Mapping[str, Any], source: str) -> RunConfig:
    """Turn a mapping into a `RunConfig`, or say for every wrong entry what is wrong."""
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        lines = [_explain(dict(entry)) for entry in error.errors(include_url=False)]
        raise InputError(f"{source}: " + "\n  ".join(lines)) from None


def dump_config(config: RunConfig) -> str:
    """Give the resolved configuration as YAML; `load_config` reads it back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def data_path(given: str, what: str, advice: str = "") -> Path:
    """Find a file or folder as given, or below the folder that ATCON_DATA names.

    Args:
        given: The path, as configured.
        what: The key it stands under.
        advice: What else a user could do if it is missing.

    Raises:
        InputError: It is in neither place; both are named.
    """
    tried = [Path(given).expanduser()]
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
        raise InputError(f"--set {override}: unknown key {key!r}{_nearest(key, keys())}")
    *sections, last = key.split(".")
    place = content
    for section in sections:
        below = place.setdefault(section, {})
        if not isinstance(below, dict):
            raise InputError(f"--set {override}: {section!r} is not a section here, but {below!r}")
        place = below
    try:
        place[last] = _number_or_value(yaml.safe_load(text))
    except yaml.YAMLError:
        place[last] = text


def _number_or_value(value: Any) -> Any:
    """Read `1e-4` as a number, which YAML 1.1 takes for text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(entry: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in entry["loc"])
    value = entry.get("input")
    if entry["type"] == "extra_forbidden":
        return f"unknown key {key!r} = {value!r}{_nearest(key, keys())}"
    if entry["type"] == "missing":
        return f"{key} is missing"
    choices = str(entry.get("ctx", {}).get("expected", ""))
    options = [part for part in choices.replace(" or ", ", ").replace("'", "").split(", ") if part]
    if entry["type"] == "literal_error":
        hint = _nearest(str(value), options)
    else:
        hint = "; write a list as [cat, dog]" if entry["type"] == "tuple_type" else ""
    return f"{key} = {value!r}: {entry['msg'].replace('tuple', 'list')}{hint}"


def _nearest(word: str, options: Iterable[str]) -> str:
    found = get_close_matches(word, list(options), n=1, cutoff=0.0)
    return f"; did you mean {found[0]!r}?" if found else ""
