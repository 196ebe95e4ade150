"""The sections of a run's configuration: every key with its type, its range and its default."""

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Rate = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0)]
BadImage = Literal["skip", "error"]


def one_of(known: Callable[[], Iterable[str]]) -> AfterValidator:
    """Accept certain names only, which are asked for when one is given."""

    def check(name: str) -> str:
        names = tuple(known())
        if name not in names:
            expected = {"expected": ", ".join(map(repr, names))}
            raise PydanticCustomError("literal_error", "Input should be {expected}", expected)
        return name

    return AfterValidator(check)


def _name_of(part: str, table: str) -> AfterValidator:
    """Accept the names of a table only; it is loaded when a name is given, and torch with it."""
    return one_of(lambda: getattr(import_module(f"atcon.{part}"), table))


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
    return one_of(lambda: ("auto", "validation", *import_module("atcon.training").STOPPING_RULES))


_NAME_BYTES = 150


def _folder_name(name: str) -> str:
    """Accept what can name a folder, and leads nowhere else: runs and cells are named so."""
    wrong = not name.isprintable() or set("/\\") & set(name) or name != name.strip()
    if wrong or name[:1] in ("", ".") or len(name.encode()) > _NAME_BYTES:
        raise PydanticCustomError(
            "name",
            "Input should be the name of a folder: text that prints, without / and \\ and not "
            f"beginning with a dot, of at most {_NAME_BYTES} bytes",
        )
    return name


FolderName = Annotated[str, AfterValidator(_folder_name)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClipConfig(_Section):
    """How clips are cut out of the recordings of a table of events."""

    seconds: AboveZero = 4.0
    rate: AboveZero = 4.0
    size: Positive = 80
    stride: AboveZero | None = None
    short: Literal["skip", "pad"] = "skip"
    max_gap: AboveZero | None = None


class DataConfig(_Section):
    """Which images, and how many of them are labelled."""

    name: Literal["digits", "voc", "svhn", "folder", "coco", "xml", "hf", "clips"]
    root: str | None = None
    classes: tuple[str, ...] | None = None
    per_class: Positive = 4
    validation_images: Annotated[int, Field(ge=0)] = 100
    test_images: Positive | None = None
    image_size: Positive | None = None
    csv: str | None = None
    boxes: str | None = None
    annotations: str | dict[str, str] | None = None
    label: str | None = None
    group: str | None = None
    clip: ClipConfig | None = None
    division_seed: Seed = 0
    extra: bool = False
    published_parts: bool = False
    download: bool = False
    on_bad_image: BadImage = "skip"
    augmentation: Literal["paper", "horizontal", "rotation", "clip", "none"] = "paper"
    judged: Literal["test", "development"] = "test"


class ModelConfig(_Section):
    """Which network, from which weights, explained at which layer."""

    name: str
    weights: str | None = None
    new_head: bool = False
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

    monitored_images: Annotated[int, Field(ge=0)] = 0


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

    name: FolderName = "run"
    seed: Seed = 0
    device: str = "auto"
    devices: Positive | Literal["auto"] = 1
    precision: Literal["32-true", "64-true", "16-mixed", "bf16-mixed"] = "32-true"
    data: DataConfig
    model: ModelConfig
    strategy: Annotated[str, _name_of("training", "STRATEGIES")] = "fine_tuning"
    selection: Literal["auto", "map", "f1"] = "auto"
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
