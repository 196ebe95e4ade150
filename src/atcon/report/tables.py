"""The rows of the report's tables."""

from dataclasses import dataclass

from atcon.report.formats import UNDEFINED, Estimate, decimal, estimate, plain, probability, span
from atcon.report.inputs import STAGES, Record, dig, dig_list, dig_number


@dataclass(frozen=True)
class Metric:
    """A measured quantity: its key in the records, its name, and one sentence for the reader."""

    key: str
    label: str
    meaning: str
    digits: int = 1


METRICS = (
    Metric(
        "map",
        "Mean average precision",
        "How well the network ranks images that show a class above images that do not; "
        "100 is perfect.",
    ),
    Metric(
        "map_weighted",
        "… weighted by class size",
        "The same, where a class counts by its number of test images.",
    ),
    Metric(
        "f1",
        "F1",
        "The balance of missed and false findings, averaged over the classes; 100 is perfect. A "
        "class is found above 0.5 or, where each image is of one class, if it is the likeliest.",
    ),
    Metric(
        "f1_tuned",
        "F1, thresholds fitted",
        "The same, with each class's decision threshold fitted on the validation images.",
    ),
    Metric(
        "iou",
        "Overlap with the boxes (IoU)",
        "Shared area of the hot half of the Grad-CAM map and the boxes that people drew, "
        "relative to their joint area; 100 is perfect. Only images that the network gets right.",
    ),
    Metric(
        "iou_common",
        "IoU, images both get right",
        "The same, only on images that the network gets right both before and after.",
    ),
    Metric(
        "iou_reference",
        "IoU, reference rule",
        "The same with the published code's threshold, which switches on nearly half of any image.",
    ),
    Metric(
        "epg",
        "Energy in the boxes (EPG)",
        "How much of the positive part of the map lies inside the boxes; 100 is all of it.",
    ),
    Metric(
        "pointing",
        "Peak in the boxes",
        "How often the highest point of the map lies inside the boxes (pointing game).",
    ),
    Metric(
        "max_box_acc",
        "Boxes found (MaxBoxAccV2)",
        "How often a box around a hot region fits one that people drew, at the best cut of the "
        "maps; the mean over three degrees of fit (IoU of 0.3, 0.5 and 0.7).",
    ),
    Metric(
        "consistency",
        "Consistency",
        "How well two explanations of the same decision agree, from −1 to 1: the correlation of "
        "Grad-CAM before and after the image is dimmed by the Guided Backpropagation mask.",
        digits=3,
    ),
    Metric(
        "mask_contrast",
        "Mask contrast",
        "How much the mask differs between places; near 0 it merely dims the whole image.",
        digits=4,
    ),
)
BY_KEY = {metric.key: metric for metric in METRICS}
CONTROLS = {
    "uniform": "Uniform mask",
    "calibration": "Calibration only",
}


@dataclass(frozen=True)
class MetricRow:
    """One line of the table of test metrics."""

    metric: Metric
    before: Estimate
    after: Estimate
    control: Estimate
    gain: Estimate


@dataclass(frozen=True)
class ControlRow:
    """One metric under one control: what the control gains and what ours gains beyond it."""

    control: str
    metric: Metric
    gain: Estimate
    difference: Estimate
    reading: str


@dataclass(frozen=True)
class FloorRow:
    """A map, trained or trivial, and how well it finds the boxes."""

    name: str
    iou: Estimate
    epg: Estimate
    trivial: bool


@dataclass(frozen=True)
class ClassRow:
    """One class: its number of test images, F1 and average precision before and after."""

    name: str
    count: Estimate
    f1: tuple[Estimate, Estimate, Estimate]
    ap: tuple[Estimate, Estimate, Estimate]


@dataclass(frozen=True)
class LengthRow:
    """One class of one part of the clips: how many, their lengths in seconds, and the patients."""

    part: str
    name: str
    whole: bool
    windows: Estimate
    lengths: tuple[Estimate, Estimate, Estimate, Estimate]
    patients: Estimate


def gain_of(summary: Record, metric: Metric, *where: str) -> Estimate:
    """Return the `GAIN` record `{value, low, high, p}` of a metric as an estimate."""
    value, low, high, p = (
        dig_number(summary, *where, metric.key, key) for key in ("value", "low", "high", "p")
    )
    if value is None:
        return plain(None)
    text = decimal(value, metric.digits, signed=True)
    interval = span(low, high, metric.digits, signed=True)
    return Estimate(value, text, low, high, interval, p, probability(p) if p is not None else "")


def tested(summary: Record, stage: str, metric: Metric) -> Estimate:
    """Return one test metric of one stage with its interval."""
    keys = ("stages", stage, "intervals", metric.key)
    value = dig_number(summary, "stages", stage, "test", metric.key)
    return estimate(value, dig(summary, *keys), metric.digits, ".".join(keys))


def metric_rows(summary: Record) -> list[MetricRow]:
    """Return the test metrics before, after and of the control; undefined ones are left out."""
    rows = []
    for metric in METRICS:
        before, after, control = (tested(summary, stage, metric) for stage in STAGES)
        gain = gain_of(summary, metric, "gain")
        if any(cell.value is not None for cell in (before, after, control, gain)):
            rows.append(MetricRow(metric, before, after, control, gain))
    return rows


def control_rows(summary: Record) -> list[ControlRow]:
    """Return what each control gains and how much more ours does."""
    rows = []
    for control, label in CONTROLS.items():
        for metric in METRICS:
            gain = gain_of(summary, metric, "controls", control, "gain")
            difference = gain_of(summary, metric, "controls", control, "difference")
            if gain.value is not None or difference.value is not None:
                rows.append(
                    ControlRow(label, metric, gain, difference, _reading(difference, "control"))
                )
    return rows


def arm_rows(summary: Record) -> list[ControlRow]:
    """Return what each alternative gains and how much more ours does."""
    rows = []
    for arm, record in (dig(summary, "arms") or {}).items():
        for metric in METRICS:
            gain = gain_of(summary, metric, "arms", arm, "gain")
            difference = gain_of(summary, metric, "arms", arm, "difference")
            if gain.value is not None or difference.value is not None:
                title = str(dig(record, "title") or arm)
                rows.append(
                    ControlRow(title, metric, gain, difference, _reading(difference, "alternative"))
                )
    return rows


def _reading(difference: Estimate, other: str) -> str:
    if not difference.bounded:
        return UNDEFINED
    return {
        "up": f"Ours gains more than the {other}.",
        "down": f"The {other} gains more than ours.",
        "level": f"Not distinguishable from the {other}.",
    }[difference.direction]


def floor_rows(summary: Record) -> list[FloorRow]:
    """Return IoU and EPG of the trained maps above those of the trivial ones."""
    iou, epg = BY_KEY["iou"], BY_KEY["epg"]
    rows = []
    for stage, label in STAGES.items():
        cells = tested(summary, stage, iou), tested(summary, stage, epg)
        rows.append(FloorRow(f"Grad-CAM, {label[0].lower()}{label[1:]}", *cells, trivial=False))
    for key, label in {"whole_image": "The whole image", "centre_box": "A centred box"}.items():
        floor = dig(summary, "floors", key)
        cells = plain(dig_number(floor, "iou")), plain(dig_number(floor, "epg"))
        rows.append(FloorRow(label, *cells, trivial=True))
    defined = [row for row in rows if row.iou.value is not None or row.epg.value is not None]
    return defined if any(row.trivial for row in defined) else []


def class_rows(summary: Record) -> list[ClassRow]:
    """Return F1 and average precision of every class, in the order of the classes."""
    before = dig(summary, "stages", "supervised", "per_class") or {}
    after = dig(summary, "stages", "consistency", "per_class") or {}
    return [
        ClassRow(
            name=str(name),
            count=plain(dig_number(before, name, "count"), 0),
            f1=_change(before, after, name, "f1"),
            ap=_change(before, after, name, "ap"),
        )
        for name in dig_list(summary, "classes")
        if name in before
    ]


def _change(
    before: Record, after: Record, name: str, key: str
) -> tuple[Estimate, Estimate, Estimate]:
    """Return one metric of one class before and after, with intervals, and its change."""
    start, end = (
        estimate(
            dig_number(table, name, key),
            dig(table, name, "intervals", key),
            1,
            f"per_class.{name}.intervals.{key}",
        )
        for table in (before, after)
    )
    change = None if start.value is None or end.value is None else end.value - start.value
    return start, end, plain(change, signed=True)


def key_figures(summary: Record) -> list[MetricRow]:
    """Return the few rows that stand beside the verdict."""
    rows = {row.metric.key: row for row in metric_rows(summary)}
    return [rows[key] for key in ("map", "f1", "iou", "consistency") if key in rows]


def length_rows(summary: Record) -> list[LengthRow]:
    """Return how many clips of what length there are: for every part its classes, then all."""
    return [
        _length_row(row, str(part), name, whole=whole)
        for part, table in (dig(summary, "described") or {}).items()
        for name, row, whole in (
            *((str(name), row, False) for name, row in (dig(table, "classes") or {}).items()),
            ("all", dig(table, "all"), True),
        )
    ]


def _length_row(row: object, part: str, name: str, *, whole: bool) -> LengthRow:
    mean, median, std, total = (
        plain(dig_number(row, key), 2) for key in ("mean", "median", "std", "total")
    )
    windows, patients = (plain(dig_number(row, key), 0) for key in ("windows", "patients"))
    return LengthRow(part, name, whole, windows, (mean, median, std, total), patients)
