"""The figures of the report: training curves, change of consistency, gains on one axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from atcon.report.charts import Line, Point, Style, line_chart, round_ticks, scatter_chart, tick
from atcon.report.formats import Estimate
from atcon.report.inputs import Record, Run, dig, dig_number, number
from atcon.report.tables import BY_KEY, CONTROLS, gain_of
from atcon.report.wording import unit_of

LOSS = "How wrong the network is on the training images; lower is better."
SCORE = "Measured on images that training never sees; the ring marks the epoch that was kept."
CONSISTENCY_LOSS = (
    "Minus the correlation of the two explanations; lower is better. A low loss alone proves "
    "nothing."
)
FINE_TUNED_SCORE = (
    "Measured on images that training never sees. The dashed line is the start; the ring marks "
    "the epoch that was kept."
)
CORRELATION = (
    "Agreement of the two explanations of one image. If maps of different images agree as well, "
    "they have become the same for every image."
)
CONTRAST = "How much the mask differs between places; near 0 it merely dims the whole image."


@dataclass(frozen=True)
class Figure:
    """A drawn figure with its title, its one-sentence reading and its legend (style, label)."""

    title: str
    meaning: str
    svg: Markup
    legend: tuple[Style, ...] = ()


@dataclass(frozen=True)
class GainRow:
    """One gain as percentages of the common axis: dot, and whisker from `left` over `width`."""

    metric: str
    arm: str
    style: str
    gain: Estimate
    dot: float
    left: float
    width: float


@dataclass(frozen=True)
class GainPlot:
    """All gains on one axis; `ticks` are (position in percent, text)."""

    rows: tuple[GainRow, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float


def curves(run: Run) -> list[tuple[str, list[Figure]]]:
    """Return the training curves of the supervised and of the consistency stage."""
    panels = [
        ("Supervised training", _supervised(run)),
        ("Consistency fine-tuning, without labels", _consistency(run)),
    ]
    return [(title, figures) for title, figures in panels if figures]


def _supervised(run: Run) -> list[Figure]:
    stage = "supervised"
    loss = _line(run, stage, ("loss",), "Supervised", "ours")
    score = _line(run, stage, ("validation", "map"), "Supervised", "ours", marked=True)
    return _charts({"Loss": (LOSS, [loss]), "Validation mAP": (SCORE, [score])})


def _consistency(run: Run) -> list[Figure]:
    arms = (("consistency", "Ours", "ours"), ("uniform", "Uniform mask", "control"))

    def lines(*keys: str, marked: bool = False) -> list[Line]:
        return [_line(run, stage, keys, label, style, marked) for stage, label, style in arms]

    others = f"Different {unit_of(run.summary)}, ours"
    between = _line(run, "consistency", ("between_images",), others, "between")
    panels = {
        "Consistency loss": (CONSISTENCY_LOSS, lines("loss")),
        "Validation mAP": (FINE_TUNED_SCORE, lines("validation", "map", marked=True)),
        "Correlation": (CORRELATION, [*lines("correlation"), between]),
        "Mask contrast": (CONTRAST, lines("mask_contrast")),
    }
    return _charts(panels)


def _line(
    run: Run, stage: str, keys: Sequence[str], label: str, style: str, marked: bool = False
) -> Line:
    points = []
    for record in run.epochs:
        if dig(record, "stage") == stage:
            epoch, value = dig_number(record, "epoch"), dig_number(record, *keys)
            if epoch is not None and value is not None:
                points.append((epoch, value))
    chosen = dig(run.summary, "stages", stage) if marked else None
    kept = dig_number(chosen, "epoch")
    start = dig_number(chosen, "start", "map") if stage != "supervised" else None
    if start is not None and points and points[0][0] > 0:
        points.insert(0, (0.0, start))
    return Line(label, style, tuple(points), kept, start)


def _charts(panels: Mapping[str, tuple[str, list[Line]]]) -> list[Figure]:
    figures = []
    for title, (meaning, lines) in panels.items():
        drawn = [line for line in lines if line.points]
        if drawn:
            legend = tuple((line.style, line.label) for line in drawn) if len(drawn) > 1 else ()
            figures.append(Figure(title, meaning, line_chart(title, drawn), legend))
    return figures


def _joined(run: Run) -> list[tuple[Record, Record]]:
    """Return the localisation rows of each test image before and after."""
    after = {row.get("name"): row for row in run.localisation["consistency"]}
    before = run.localisation["supervised"]
    return [(row, after[row.get("name")]) for row in before if row.get("name") in after]


def scatter(run: Run) -> Figure | None:
    """Draw the change of consistency against the consistency before, one dot a test image."""
    groups: dict[Style, list[Point]] = {
        ("stays", "right before and after"): [],
        ("turned", "became right"): [],
        ("lost", "became wrong"): [],
        ("never", "wrong before and after"): [],
    }
    outcomes = [("1", "1"), ("0", "1"), ("1", "0"), ("0", "0")]
    by_outcome = dict(zip(outcomes, groups, strict=True))
    for before, after in _joined(run):
        x = number(before.get("correlation"), "localisation/supervised.csv, correlation")
        y = number(after.get("correlation"), "localisation/consistency.csv, correlation")
        group = by_outcome.get((str(before.get("correct")), str(after.get("correct"))))
        if x is not None and y is not None and group:
            groups[group].append((x, y - x))
    points = [point for group in groups.values() for point in group]
    if not any(change for _, change in points):
        return None
    legend = tuple((style, f"{label} ({len(groups[style, label])})") for style, label in groups)
    risen = sum(change > 0 for _, change in points)
    meaning = f"Consistency rose for {risen} of {len(points)} test {unit_of(run.summary)}."
    return Figure("Change of consistency", meaning, scatter_chart(groups, meaning), legend)


def gain_plot(summary: Record) -> GainPlot | None:
    """Place the gains of ours and of the controls, in points, on one axis that holds zero."""
    found = []
    for metric in (BY_KEY[key] for key in ("map", "f1", "iou", "epg")):
        arms = [("Ours", "ours", gain_of(summary, metric, "gain"))]
        for control, label in CONTROLS.items():
            gain = gain_of(summary, metric, "controls", control, "gain")
            arms.append((label, control, gain))
        found += [(metric.label, *arm) for arm in arms if arm[2].bounded]
    ends = [end for *_, gain in found for end in (gain.low, gain.high, gain.value)]
    known = [end for end in ends if end is not None]
    if not any(known):
        return None
    ticks = round_ticks([0.0, *known], 5)

    def place(value: float | None) -> float:
        return 100 * ((value or 0.0) - ticks[0]) / (ticks[-1] - ticks[0])

    rows = tuple(
        GainRow(
            metric, arm, style, gain,
            dot=place(gain.value), left=place(gain.low), width=place(gain.high) - place(gain.low),
        )
        for metric, arm, style, gain in found
    )  # fmt: skip
    step = ticks[1] - ticks[0]
    texts = tuple((place(value), tick(value, step, signed=True)) for value in ticks)
    return GainPlot(rows, texts, place(0.0))
