"""Whether the method helps on a user's data, from the records of runs on small training sets."""

from typing import Any

import numpy as np

from atcon.errors import InputError
from atcon.evaluation import (
    OPEN,
    Bounds,
    GainCurve,
    Rule,
    at_size,
    fading,
    gain_curve,
    places,
    seeds_to_tell,
    shared_covariance,
    verdict,
)
from atcon.experiments.advise_plan import Plan
from atcon.experiments.compare_metrics import METRICS
from atcon.experiments.grid import Cell, Experiment
from atcon.experiments.paper_table import Records, measured


def advice_of(
    plan: Plan, records: Records, rule: Rule, *, metric: str = "map", control: bool = False
) -> dict[str, Any]:
    """Say from the records of all cells what the method gains, and whether it helps.

    Raises:
        InputError: A cell is missing, or the metric is not defined in it.
    """
    experiment = plan.experiment
    missing = [cell.name for cell in experiment.cells if cell not in records]
    if missing:
        raise InputError(f"{len(missing)} cells are missing, such as {missing[0]}: run them first")
    first = next(iter(records.values()))
    against = {"supervised": "supervised"} | ({"uniform": "uniform"} if control else {})
    found = {name: _found(plan, records, metric, stage, rule) for name, stage in against.items()}
    return {
        "name": experiment.name,
        "metric": metric,
        "title": METRICS[metric].title,
        "judged": first["judged"],
        "unit": first["unit"],
        "test_images": first["counts"]["test"],
        "same_test_images": _same_images(records),
        "sizes": list(experiment.per_class),
        "seeds": list(experiment.seeds),
        "least_gain": rule.least,
        "confidence": rule.confidence,
        "strict": rule.strict,
        "largest": plan.largest,
        "asked": plan.asked,
        "against": found,
        "seconds": round(sum(record["seconds"]["total"] for record in records.values()), 1),
    }


def _found(plan: Plan, records: Records, metric: str, stage: str, rule: Rule) -> dict[str, Any]:
    curve = _curve(plan.experiment, records, metric, stage)
    size = min(plan.asked, curve.reach)
    said = str(verdict(curve, size, rule))
    fades = fading(curve, rule.least, rule.confidence)
    return {
        "verdict": said if size == plan.asked else OPEN,
        "at": {"per_class": size, "verdict": said, **_ends(at_size(curve, size, rule.confidence))},
        "strict": _ends(at_size(curve, size, rule.strict)),
        "needed_seeds": seeds_to_tell(curve, size, rule) if said == OPEN else None,
        "reach": curve.reach,
        "sizes": [_place(curve, one, rule) for one in curve.sizes],
        "curve": [_place(curve, float(one), rule) for one in places(curve)],
        "fades": _ends(fades),
    }


def _place(curve: GainCurve, size: float, rule: Rule) -> dict[str, Any]:
    return {"per_class": round(size, 2), **_ends(at_size(curve, size, rule.confidence))}


def _ends(bounds: Bounds) -> dict[str, float | None]:
    ends = {key: float(getattr(bounds, key)) for key in ("value", "low", "high")}
    return {key: None if np.isnan(one) else round(one, 3) for key, one in ends.items()}


def _curve(experiment: Experiment, records: Records, metric: str, stage: str) -> GainCurve:
    """Gains of every seed at every size, in points, with what the test images add."""
    points, drawn = [], []
    for size in experiment.per_class:
        own = [records[Cell(size, seed)] for seed in experiment.seeds]
        after, before = (measured(own, name, metric) for name in ("consistency", stage))
        points.append(METRICS[metric].scale * (after.points - before.points))
        drawn.append(METRICS[metric].scale * (after.values - before.values))
    gains = np.stack(points, axis=1)
    if np.isnan(gains).any():
        raise InputError(f"{METRICS[metric].title} is not defined in every cell: choose another")
    shared = None
    if _same_images(records):
        first = next(iter(records.values()))
        units = first["test_groups"] or first["counts"]["test"]
        shared = shared_covariance(np.stack(drawn, axis=1), units=units)
    return gain_curve(experiment.per_class, gains, shared)


def _same_images(records: Records) -> bool:
    """Whether all cells were judged on the same images; data.test_images draws some by seed."""
    return len({record["test_images"] for record in records.values()}) == 1
