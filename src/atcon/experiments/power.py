"""How many seeds and test images a gain needs; the pilot is of a few seeds, as runs or records."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atcon.errors import InputError, no_such
from atcon.evaluation import Components, components, needed_seeds, needed_units, power
from atcon.experiments.cell_record import RESAMPLED
from atcon.experiments.compare_metrics import METRICS
from atcon.experiments.compare_records import FinishedFolder, read_folders
from atcon.experiments.compare_rows import Row, rows_of
from atcon.experiments.compare_splits import check_comparable, methods_of
from atcon.experiments.grid import Experiment
from atcon.experiments.paired import Measured, measured_by
from atcon.experiments.paper_table import Record, Records, measured
from atcon.experiments.resampling import weights_for

SEEDS = (3, 5, 8, 12, 20)
"""Of the columns of the table."""
TIMES = (0.5, 1, 2, 4)
"""How many times the pilot's test images its rows have."""
WANTED, ALPHA = 0.8, 0.05


@dataclass(frozen=True)
class _Pilot:
    """A metric of what is compared and of the reference, by name, on so many units."""

    row: str
    reference: str
    after: Measured
    before: Measured
    units: int
    unit: str


def power_of_runs(
    folders: Sequence[Path],
    gain: float,
    *,
    metric: str = "map",
    stage: str = "consistency",
    against: str | None = None,
) -> dict[str, Any]:
    """Promise how often a true gain would be found clear, by seeds and test images.

    Args:
        folders: Finished runs of two or more seeds, as `atcon compare` takes them.
        gain: The true gain, as the metric is shown (points for those in percent).
        metric: Name of `METRICS`.
        stage: What is compared; of the first run that has it besides the reference.
        against: As `atcon compare` takes it; by default the first run's supervised stage.

    Returns:
        `pilot`: its `seeds`, `units` (test images, or `groups` where whole groups are resampled),
        `value` (the gain that it measured) and `deviations` (between `seeds`, and of its test
        images as far as they are `shared` by the seeds or each one's `own`), all as shown;
        `table`: for each number of `units` the power of every number of `seeds` in `columns`, and
        `needed_seeds`; `needed_units` by number of seeds. None: not to be had.

    Raises:
        InputError: There is no pilot of several seeds, or the runs cannot be compared.
    """
    if metric not in METRICS:
        raise no_such("metric", metric, METRICS)
    reference, row, run = _rows(folders, metric, stage, against)
    groups = run.groups_of(reference.answers[0].names)
    units = len(reference.answers[0].names) if groups is None else len(set(groups))
    weights = weights_for(len(reference.answers[0].names), groups, run.resamples, run.seed)
    after, before = (measured_by(METRICS[metric], one.answers, weights) for one in (row, reference))
    unit = run.unit if groups is None else "groups"
    pilot = _Pilot(row.name, reference.name, after, before, units, unit)
    return _promise(pilot, gain, metric)


def power_of_cells(
    experiment: Experiment,
    records: Records,
    gain: float,
    *,
    per_class: int | None = None,
    metric: str = "map",
    stage: str = "consistency",
    against: str = "supervised",
) -> dict[str, Any]:
    """Promise the same from the records of an experiment's cells, whose runs are not needed.

    Args:
        experiment: Whose cells they are, of one network.
        records: Of its finished cells.
        gain: As in `power_of_runs`, and so is what is returned.
        per_class: The training-set size; may be left out where there is one.
        metric: One of those whose values on resamples are recorded.
        stage: What is compared.
        against: The stage that it is compared with.

    Raises:
        InputError: There is no such size, metric or stage, or no pilot of several seeds.
    """
    if metric not in RESAMPLED:
        raise no_such("metric", metric, RESAMPLED)
    own = _of_size(experiment, records, per_class)
    known = [one for one in own[0]["stages"] if all(one in record["stages"] for record in own)]
    for name in (stage, against):
        if name not in known:
            raise no_such("stage", name, known)
    after, before = (measured(own, one, metric) for one in (stage, against))
    if np.array_equal(after.values, before.values, equal_nan=True):
        raise _same(stage, against)
    row, reference = (f"{experiment.page_name}:{one}" for one in (stage, against))
    groups, images = own[0].get("test_groups"), own[0]["counts"]["test"]
    unit = "groups" if groups else own[0].get("unit", "images")
    pilot = _Pilot(row, reference, after, before, groups or images, unit)
    return _promise(pilot, gain, metric)


def _of_size(experiment: Experiment, records: Records, per_class: int | None) -> list[Record]:
    """Give the records of one training-set size, two or more.

    Raises:
        InputError: There are fewer, or it is not said which size is meant.
    """
    sizes = sorted({cell.per_class for cell in records})
    if per_class is None and len(sizes) > 1:
        known = ", ".join(map(str, sizes))
        raise InputError(f"{experiment.page_name} has sizes {known}: say which, --per-class N")
    own = [one for cell, one in records.items() if per_class in (None, cell.per_class)]
    if len(own) < 2:
        size = "" if per_class is None else f" of N = {per_class}"
        raise InputError(
            f"{experiment.page_name}: how much seeds differ is seen from two or more finished "
            f"cells{size}, and there is {len(own) or 'none'}: {experiment.command()}"
        )
    return own


def _promise(pilot: _Pilot, gain: float, metric: str) -> dict[str, Any]:
    """Give what `power_of_runs` returns.

    Raises:
        InputError: The gain is none.
    """
    if not np.isfinite(gain) or gain == 0:
        raise InputError(f"a gain of {gain} cannot be found: give one above or below 0")
    scale, units = METRICS[metric].scale, pilot.units
    points = scale * (pilot.after.points - pilot.before.points)
    parts = components(scale * (pilot.after.values - pilot.before.values), points, units=units)
    return {
        "metric": metric,
        "title": METRICS[metric].title,
        "row": pilot.row,
        "reference": pilot.reference,
        "gain": gain,
        "alpha": ALPHA,
        "wanted": WANTED,
        "unit": pilot.unit,
        "pilot": {
            "seeds": len(points),
            "units": units,
            "value": round(float(points.mean()), 5),
            "deviations": _deviations(parts, units),
        },
        "columns": list(SEEDS),
        "table": [_line(parts, gain, max(2, round(times * units))) for times in TIMES],
        "needed_units": {
            str(seeds): needed_units(parts, gain, seeds=seeds, wanted=WANTED, alpha=ALPHA)
            for seeds in SEEDS
        },
    }


def _rows(
    folders: Sequence[Path], metric: str, stage: str, against: str | None
) -> tuple[Row, Row, FinishedFolder]:
    """The reference, what is compared with it, and the run whose test images are resampled."""
    methods = methods_of(read_folders(folders))
    check_comparable(methods)
    run = methods[0].runs[0]
    if len(methods[0].seeds) < 2:
        raise InputError(
            f"{run.root} is of one seed: how much seeds differ is seen from runs of two or more, "
            "such as those of atcon repeat"
        )
    reference, rows, _ = rows_of(methods, [stage], against, [metric])
    others = [row for row in rows if row is not reference]
    if not others:
        raise _same(stage, reference.name)
    return reference, others[0], run


def _same(stage: str, reference: str) -> InputError:
    return InputError(
        f"{stage} gives the same predictions as {reference} in every seed: "
        "there is no difference to learn from"
    )


def _deviations(parts: Components, units: int) -> dict[str, float]:
    """Standard deviations of a gain on the pilot's test images."""
    seeds, shared, own = astuple(parts)
    variances = {"seeds": seeds, "shared": shared / units, "own": own / units}
    return {name: round(float(np.sqrt(variance)), 5) for name, variance in variances.items()}


def _line(parts: Components, gain: float, units: int) -> dict[str, Any]:
    return {
        "units": units,
        "power": [
            round(power(parts, gain, seeds=seeds, units=units, alpha=ALPHA), 3) for seeds in SEEDS
        ],
        "needed_seeds": needed_seeds(parts, gain, units=units, wanted=WANTED, alpha=ALPHA),
    }
