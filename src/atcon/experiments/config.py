"""The configuration of a run: a shipped name or a YAML file with overrides, checked at the door."""

import os
import re
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
NotNegative = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0)]
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


_EVERY = re.compile(r"([1-9][0-9]*) ?(epoch|batch)(?:s|es)?")


def every_of(text: str) -> tuple[int, str]:
    """Give the count and the unit, "epoch" or "batch", of how often a stage is validated."""
    found = _EVERY.fullmatch(text)
    if found is None:
        raise PydanticCustomError("every", "write it as 2, as '2 epochs' or as '10 batches'")
    return int(found[1]), found[2]


def _as_every(value: Any) -> Any:
    """Read a number as so many epochs; check and keep a text."""
    text = f"{value} epochs" if isinstance(value, int) else str(value)
    every_of(text)
    return text


def _stopping_rule() -> AfterValidator:
    """Accept `auto`, `validation`, and the names of the stopping rules."""

    def check(name: str) -> str:
        names = ("auto", "validation", *import_module("atcon.training").STOPPING_RULES)
        if name not in names:
            expected = {"expected": ", ".join(map(repr, names))}
            raise PydanticCustomError("literal_error", "Input should be {expected}", expected)
        return name

    return AfterValidator(check)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which images, and how many of them are labelled."""

    name: Literal["digits", "voc", "folder"]
    root: str | None = None
    classes: tuple[str, ...] | None = None
    per_class: Positive = 4
    validation_images: Annotated[int, Field(ge=0)] = 100
    test_images: Positive | None = None
    image_size: Positive | None = None
    csv: str | None = None
    boxes: str | None = None
    download: bool = False
    on_bad_image: BadImage = "skip"
    augmentation: Literal["paper", "horizontal", "rotation", "none"] = "paper"
    judged: Literal["test", "development"] = "test"


class ModelConfig(_Section):
    """Which network, from which weights, explained at which layer."""

    name: str
    weights: str | None = None
    layer: str | None = None
    padding: Annotated[str, _name_of("training", "PADDINGS")] | None = None


class StageConfig(_Section):
    """What every stage of training has: its length, its optimiser, and which round it keeps."""

    epochs: Positive = 30
    lr: Rate = 1e-4
    batch_size: Positive = 4
    weight_decay: NotNegative = 0.0
    rate: Annotated[str, _name_of("training", "RATES")] = "constant"
    warm_up: Fraction = 0.0
    layer_decay: Rate = 1.0
    head_factor: AboveZero = 1.0
    average: Annotated[float, Field(ge=0, lt=1)] | None = None
    batch_norm: Literal["frozen", "batch", "fixed"] = "frozen"
    validate_every: Annotated[str, BeforeValidator(_as_every)] = "1 epoch"
    patience: Positive | None = None


class SupervisedConfig(StageConfig):
    """The first stage: cross-entropy on the labels."""


class ConsistencyConfig(StageConfig):
    """The second stage: the maps' agreement, without labels.

    What is not given is the preset's.
    """

    epochs: Positive = 12
    lr: Rate = 1e-5
    preset: Annotated[str, _name_of("consistency", "PRESETS")] = "default"
    maps: tuple[Annotated[str, _name_of("attention", "ATTENTION")], ...] | None = None
    matching: Annotated[str, _name_of("consistency", "MATCHINGS")] | None = None
    mask: Annotated[str, _name_of("consistency", "MASKS")] | None = None
    mask_smooth: NotNegative = 0.0
    mask_slope: AboveZero = 8.0
    mask_value: Fraction = 0.5
    mask_floor: Fraction = 0.0
    mask_strength: Annotated[tuple[Fraction, Fraction], BeforeValidator(_as_range)] = (1.0, 1.0)
    mask_temperature: Annotated[tuple[AboveZero, AboveZero], BeforeValidator(_as_range)] = (
        1.0,
        1.0,
    )
    mask_noise: NotNegative = 0.0
    mask_scales: tuple[NotNegative, ...] = ()
    mask_anneal: Fraction = 0.0
    detach_mask: bool | None = None
    correlation: Annotated[str, _name_of("consistency", "CORRELATIONS")] | None = None
    squash: bool | None = None
    mirror: bool | None = None
    logit_weight: NotNegative | None = None
    teacher: Annotated[float, Field(ge=0, le=1)] | None = None
    target: Annotated[str, _name_of("attention", "TARGETS")] = "top"
    micro_batch: Positive | None = None
    weight: NotNegative = 0.2
    turns: Literal["fixed", "random"] = "random"
    ratio: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (1, 1)
    alpha: AboveZero = 8.0
    stopping: Annotated[str, _stopping_rule()] = "auto"
    signals: bool = False
    unlabelled_root: str | None = None
    unlabelled_images: Positive | None = None


class SimCLRConfig(StageConfig):
    """Contrastive pretraining on the training images, before the supervised stage."""

    epochs: Positive = 30
    batch_size: Positive = 8
    temperature: AboveZero = 0.5
    decoupled: bool = False
    queue: Annotated[int, Field(ge=0)] = 0
    views: Annotated[str, _name_of("data", "VIEWS")] = "simclr"


class LaSOConfig(StageConfig):
    """Label-set operations on the features of the supervised network, and their classifier."""

    epochs: Positive = 20
    lr: Rate = 1e-3
    hidden: Positive = 2048
    hidden_subtraction: Positive = 8192
    classifier_epochs: Positive = 50


class FixMatchConfig(StageConfig):
    """Pseudo-labels of weak views for strong ones, from the supervised network."""

    epochs: Positive = 12
    lr: Rate = 1e-5
    threshold: Annotated[float, Field(gt=0.5, le=1)] = 0.95


class LayerAttentionConfig(_Section):
    """Layer attention consistency; its fine-tuning has the length and optimiser of ours."""

    layers: tuple[str, str] | None = None
    omega: AboveZero = 100.0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.55
    weight: NotNegative = 1.0


class ControlsConfig(_Section):
    """The controls that a claimed gain must beat."""

    uniform: bool = True


class EvaluationConfig(_Section):
    """How the test images are judged."""

    resamples: Annotated[int, Field(ge=100)] = 1000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    batch_size: Positive = 8
    consistency_images: Positive | None = None
    followed_images: Annotated[int, Field(ge=0)] = 0
    gallery: Annotated[int, Field(ge=0)] = 48


class RunConfig(_Section):
    """Everything that a run depends on."""

    name: str = "run"
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"
    precision: Literal["32-true", "64-true", "16-mixed", "bf16-mixed"] = "32-true"
    data: DataConfig
    model: ModelConfig
    strategy: Annotated[str, _name_of("training", "STRATEGIES")] = "fine_tuning"
    baselines: tuple[Annotated[str, _name_of("experiments.arms", "BASELINES")], ...] = ()
    supervised: SupervisedConfig = SupervisedConfig()
    consistency: ConsistencyConfig = ConsistencyConfig()
    simclr: SimCLRConfig = SimCLRConfig()
    laso: LaSOConfig = LaSOConfig()
    fixmatch: FixMatchConfig = FixMatchConfig()
    layer_attention: LayerAttentionConfig = LayerAttentionConfig()
    variants: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], dict[str, Any]] = {}
    controls: ControlsConfig = ControlsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


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
        config = RunConfig.model_validate(content)
    except ValidationError as error:
        lines = [_explain(dict(entry)) for entry in error.errors(include_url=False)]
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
            _explain({**entry, "loc": ("consistency", *entry["loc"])})
            for entry in error.errors(include_url=False)
        ]
        said = "\n  ".join(lines).replace("consistency.", f"variants.{name}.")
        raise InputError(f"{source}: {said}") from None


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
