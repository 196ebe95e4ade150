"""The tables of an experiment, from the records of its finished cells alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from atcon.errors import InputError, no_such
from atcon.evaluation import paired_over_seeds
from atcon.experiments.compare_metrics import METRICS
from atcon.experiments.grid import Cell, Experiment
from atcon.experiments.grid_losses import matchings_tables
from atcon.experiments.grid_scatter import scatter_table
from atcon.experiments.lengths import lengths_tables
from atcon.experiments.paired import compared
from atcon.experiments.paper_table import (
    DRAWS,
    LEVEL,
    TITLES,
    Record,
    Records,
    entry_of,
    has_paper_table,
    measured,
    paper_tables,
    stage_titles,
    validated,
)
from atcon.experiments.regret import Cell as Followed
from atcon.experiments.regret import regret_table, regrets
from atcon.experiments.table_formats import FORMATS, NOTHING, markdown, signed, text


def tables_of(experiment: Experiment, records: Records, against: str | None = None) -> str:
    """Draw the tables of an experiment as Markdown.

    Args:
        experiment: Which tables there are.
        records: Of its finished cells.
        against: The stage that all others are compared with; by default those of the experiment.

    Raises:
        InputError: There is no record, or no such stage.
    """
    if experiment.events or "lengths" in experiment.tables:
        return lengths_tables(experiment.events)
    if not records and not has_paper_table(experiment):
        raise InputError(f"{experiment.name} has no finished cell: {experiment.command()}")
    drawn = [_state(experiment, records)]
    if has_paper_table(experiment):
        drawn.append(text(paper_tables(experiment, records), experiment.title))
    for network in experiment.networks or ("",):
        own = {cell: record for cell, record in records.items() if cell.network == network}
        tables = _tables(experiment, own, against) if own else []
        drawn += [f"### {network}", *tables] if network and tables else tables
    return "\n\n".join(one.strip() for one in drawn) + "\n"


def drawn_as(
    form: str, experiment: Experiment, records: Records, against: str | None = None
) -> str:
    """Draw all tables as text, or those of the paper in another form of `FORMATS`.

    Raises:
        InputError: There is no such form, no record, or no such stage.
    """
    if form not in FORMATS:
        raise no_such("form", form, FORMATS)
    if form == "text":
        return tables_of(experiment, records, against)
    if experiment.events or "lengths" in experiment.tables:
        raise InputError("tables of lengths: as CSV, atcon describe EVENTS --csv FILE draws them")
    if against is not None:
        experiment = experiment.model_copy(update={"against": (against,)})
    return FORMATS[form](paper_tables(experiment, records), experiment.title)


def _tables(experiment: Experiment, records: Records, against: str | None) -> list[str]:
    """Draw all tables of one network but the paper's."""
    references = experiment.against if against is None else (against,)
    drawn = []
    for table in experiment.tables:
        if table == "gains":
            drawn += [
                gains_table(records, metric, reference)
                for reference in references
                for metric in experiment.metrics
            ]
        elif table == "values":
            drawn += [values_table(records, metric) for metric in experiment.metrics]
        elif table != "classes":  # which are drawn as the paper's tables are
            drawn.append(_OTHERS[table](records))
    return drawn


def gains_table(records: Records, metric: str, against: str) -> str:
    """One metric: a stage per row, a training-set size per column.

    The row compared with has its value, the others their difference from it, paired over seeds and
    test images: the bootstrap's interval, the larger p of the bootstrap and of Student's t over
    seeds, and a star where both, Holm-corrected over the rows of the column, are below 0.05.
    """
    stages = _stages(records)
    if against not in stages:
        raise no_such("stage", against, stages)
    names = _titles(records)
    rows = [(names[stage], stage, metric) for stage in stages]
    title = f"{METRICS[metric].title}: difference from {TITLES.get(against, against)}"
    return _differences(title, records, rows, stages.index(against))


def values_table(records: Records, metric: str) -> str:
    """One metric of every stage: its mean over seeds, and the bootstrap's interval over both."""
    names, columns = _titles(records), []
    for count in _sizes(records):
        of_size = _of_size(records, count)
        own = [measured(list(of_size.values()), stage, metric) for stage in names]
        found = compared(own, 0, METRICS[metric], level=LEVEL, seed=0, draws=DRAWS)
        columns.append([f"N = {count}", *map(_value, found)])
    heads, *body = zip([METRICS[metric].title, *names.values()], *columns, strict=True)
    return markdown(heads, body)


def calibration_table(records: Records) -> str:
    """F1 of every stage, without fitted thresholds, against what calibration alone gives.

    Calibration alone is the supervised network with the thresholds of the validation images: no
    training at all. The rows are as in `gains_table`.
    """
    names = _titles(records)
    rows = [("calibration alone", "supervised", "f1_tuned")]
    rows += [(names[stage], stage, "f1") for stage in _stages(records)]
    return _differences("F1: difference from calibration alone", records, rows, 0)


def validation_table(records: Records) -> str:
    """F1 on the validation images: mean over seeds, and difference from the supervised stage.

    The interval is Student's over seeds. These images also chose the epoch.
    """
    names, sizes = _titles(records), _sizes(records)
    rows = []
    for stage in _stages(records):
        row = [names[stage]]
        for count in sizes:
            own = _of_size(records, count)
            f1, start = (validated(list(own.values()), one) for one in (stage, "supervised"))
            gain = "" if stage == "supervised" else f"; {_over_seeds(f1 - start, 1)}"
            row.append(f"{f1.mean():.1f}{gain}")
        rows.append(row)
    heads = [f"N = {count}" for count in sizes]
    what = f"F1 on the validation {_unit(records)}; difference from supervised"
    return markdown([what, *heads], rows)


def seconds_table(records: Records) -> str:
    """Seconds of training by stage, without those of its start, and the epochs that were kept."""
    sizes, names = _sizes(records), _titles(records)
    rows = []
    for stage in _stages(records):
        row = [names[stage]]
        for count in sizes:
            own = [record["stages"][stage] for record in _of_size(records, count).values()]
            spent = float(np.mean([one["seconds"] for one in own]))
            kept = ", ".join(f"{one['epoch']:g}" for one in own)
            row.append(f"{spent:.0f} s; {kept}")
        rows.append(row)
    return markdown(["seconds of training; epoch kept", *(f"N = {count}" for count in sizes)], rows)


def rules_table(records: Records) -> str:
    """What every stopping rule would have kept, and what that costs."""
    cells = [
        Followed.of({"seed": cell.seed, "images": cell.per_class, "epochs": _rounds(cell, record)})
        for cell, record in records.items()
    ]
    return regret_table(regrets(cells))


def quartile_table(records: Records) -> str:
    """Consistency of all images, and of the quarter that agreed least at the start."""
    rows, names = [], _titles(records)
    for stage in _stages(records):
        agreement = _points(records, stage, "consistency")
        lowest = _points(records, stage, "lowest_quartile")
        start = _points(records, "supervised", "lowest_quartile")
        plain = _points(records, "consistency", "lowest_quartile")
        rows.append(
            [
                names[stage],
                f"{agreement.mean():.3f}",
                f"{lowest.mean():.3f}",
                _over_seeds(lowest - start, 3) if stage != "supervised" else NOTHING,
                _over_seeds(lowest - plain, 3) if stage != "consistency" else NOTHING,
            ]
        )
    heads = [
        "consistency, same measure for all", "mean", "lowest quartile", "minus supervised",
        "minus ours",
    ]  # fmt: skip
    return markdown(heads, rows)


def matchings_table(records: Records) -> str:
    """Table 4: the correlation of each loss with the supervised loss over the epochs."""
    drawn = [
        lines
        for count in _sizes(records)
        for lines in matchings_tables(list(_of_size(records, count).values()), count)
    ]
    return "\n\n".join(markdown(lines[0], lines[1:]) for lines in drawn)


def scatter_tables(records: Records) -> str:
    """Supplement, figure 1: how the gain of consistency depends on where an image started."""
    drawn = [
        scatter_table(list(_of_size(records, count).values()), count) for count in _sizes(records)
    ]
    return "\n\n".join(markdown(lines[0], lines[1:]) for lines in drawn)


def gallery_table(records: Records) -> str:
    """Say which galleries were drawn; the pictures lie in the folders of the runs."""
    heads = ["gallery", f"{_unit(records)} drawn at random", "top class right before", "after"]
    rows = []
    for cell, record in records.items():
        if "gallery" not in record:
            raise InputError(f"{cell.name} has no gallery: set evaluation.gallery")
        own = record["gallery"]
        right = [str(own["correct"][stage]) for stage in ("supervised", "consistency")]
        where = f"{record['experiment']}/{cell.name}/report.html"
        rows.append([where, str(own["images"]), *right])
    return markdown(heads, rows)


def _differences(
    title: str, records: Records, rows: Sequence[tuple[str, str, str]], reference: int
) -> str:
    """Compare rows, each a name with its stage and metric, with one of them; a column per size."""
    measure, columns = METRICS[rows[reference][2]], []
    for count in _sizes(records):
        of_size = _of_size(records, count)
        own = [measured(list(of_size.values()), stage, metric) for _, stage, metric in rows]
        found = compared(own, reference, measure, level=LEVEL, seed=0, draws=DRAWS)
        columns.append([f"N = {count}", *map(_cell, found)])
    names = [title, *(name for name, _, _ in rows)]
    heads, *body = zip(names, *columns, strict=True)
    return markdown(heads, body)


def _rounds(cell: Cell, record: Record) -> list[dict[str, Any]]:
    if "rounds" not in record:
        raise InputError(
            f"{cell.name}: no rounds were followed; set consistency.signals and "
            "evaluation.followed_images"
        )
    return list(record["rounds"])


_OTHERS: dict[str, Callable[[Records], str]] = {
    "validation": validation_table,
    "calibration": calibration_table,
    "seconds": seconds_table,
    "rules": rules_table,
    "lowest_quartile": quartile_table,
    "gallery": gallery_table,
    "matchings": matchings_table,
    "scatter": scatter_tables,
}


def _state(experiment: Experiment, records: Records) -> str:
    """Say what the tables rest on."""
    if not records:
        return f"No cell is finished yet: {experiment.command()}"
    lines = [
        (f"{network}, " if network else "")
        + f"N = {count}: {len(own)} of {len(experiment.seeds)} seeds "
        + f"({', '.join(str(cell.seed) for cell in own)})"
        for network in experiment.networks or ("",)
        for count in experiment.per_class
        if (own := [c for c in records if (c.per_class, c.network) == (count, network)])
    ]
    images = {record["counts"]["test"] for record in records.values()}
    judged = next(iter(records.values()))["judged"]
    count = " or ".join(map(str, sorted(images)))
    over = {record.get("resampled", "images") for record in records.values()}
    grouped = "; intervals resample whole groups of them" if over == {"groups"} else ""
    return f"{'; '.join(lines)}. Judged on {count} {judged} {_unit(records)}{grouped}."


def _unit(records: Records) -> str:
    """What the samples are called; records of before there were clips do not say so."""
    return str(next(iter(records.values())).get("unit", "images"))


def _of_size(records: Records, count: int) -> dict[Cell, Record]:
    return {cell: record for cell, record in records.items() if cell.per_class == count}


def _sizes(records: Records) -> list[int]:
    return sorted({cell.per_class for cell in records})


def _stages(records: Records) -> list[str]:
    """The stages of all cells, the start first.

    Raises:
        InputError: Not all cells have the same.
    """
    first, *others = records.values()
    stages = list(first["stages"])
    for other in others:
        if list(other["stages"]) != stages:
            raise InputError(f"{other['cell']} has other stages than {first['cell']}")
    return stages


def _titles(records: Records) -> dict[str, str]:
    return stage_titles(next(iter(records.values())))


def _points(records: Records, stage: str, key: str) -> np.ndarray:
    entries = [entry_of(record, stage) for record in records.values()]
    return np.array([entry[key] if key in entry else entry["test"][key] for entry in entries])


def _cell(one: Mapping[str, Any]) -> str:
    difference = one["difference"]
    if difference is None:
        return NOTHING if one["value"] is None else f"{one['value']:.1f}"
    over_seeds = difference["over_seeds"]
    p = max(difference["p"], over_seeds["p"] if over_seeds else 0.0)
    star = "*" if difference["clear"] else ""
    low, high = signed(difference["low"], 1), signed(difference["high"], 1)
    return f"{signed(difference['value'], 1)}{star} ({low} to {high}), p {p:.3f}"


def _value(one: Mapping[str, Any]) -> str:
    return (
        "–"
        if one["value"] is None
        else f"{one['value']:.1f} ({one['low']:.1f} to {one['high']:.1f})"
    )


def _over_seeds(values: np.ndarray, digits: int) -> str:
    """Mean over cells with Student's t interval; two or more are needed for it."""
    if len(values) < 2:
        return signed(float(values.mean()), digits)
    gain = paired_over_seeds(values)
    low, high = signed(gain.low, digits), signed(gain.high, digits)
    return f"{signed(gain.value, digits)} ({low} to {high}), p {gain.p:.3f}"
