"""How many seeds and test images a gain needs, from finished runs of a few seeds as the pilot."""

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from atcon.errors import InputError, no_such
from atcon.evaluation import Components, components, needed_seeds, needed_units, power
from atcon.experiments.compare_metrics import METRICS
from atcon.experiments.compare_records import FinishedFolder, read_folders
from atcon.experiments.compare_rows import Row, rows_of
from atcon.experiments.compare_splits import check_comparable, methods_of
from atcon.experiments.paired import measured_by
from atcon.experiments.resampling import weights_for

SEEDS = (3, 5, 8, 12, 20)
"""Of the columns of the table."""
TIMES = (0.5, 1, 2, 4)
"""How many times the pilot's test images its rows have."""
WANTED, ALPHA = 0.8, 0.05


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
    if not np.isfinite(gain) or gain == 0:
        raise InputError(f"a gain of {gain} cannot be found: give one above or below 0")
    reference, row, run = _rows(folders, metric, stage, against)
    groups = run.groups_of(reference.answers[0].names)
    units = len(reference.answers[0].names) if groups is None else len(set(groups))
    weights = weights_for(len(reference.answers[0].names), groups, run.resamples, run.seed)
    after, before = (measured_by(METRICS[metric], one.answers, weights) for one in (row, reference))
    scale = METRICS[metric].scale
    points = scale * (after.points - before.points)
    parts = components(scale * (after.values - before.values), points, units=units)
    return {
        "metric": metric,
        "title": METRICS[metric].title,
        "row": row.name,
        "reference": reference.name,
        "gain": gain,
        "alpha": ALPHA,
        "wanted": WANTED,
        "unit": run.unit if groups is None else "groups",
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
        raise InputError(
            f"{stage} gives the same predictions as {reference.name} in every seed: "
            "there is no difference to learn from"
        )
    return reference, others[0], run


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
