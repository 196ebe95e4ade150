"""An advice in plain English, from its record alone."""

from collections.abc import Iterator, Mapping
from math import ceil, log2
from typing import Any

from atcon.evaluation import HARMS, HELPS, OPEN, SAME

Record = Mapping[str, Any]
_AGAINST = {"supervised": "supervised training alone", "uniform": "the uniform mask"}


def sentences(record: Record) -> list[str]:
    """Say the verdict, why, where the gain fades, and what the runs were judged on."""
    said: list[str] = []
    for name, found in record["against"].items():
        said += _about(record, name, found)
    return [*said, *_how(record)]


def _about(record: Record, name: str, found: Record) -> Iterator[str]:
    at = found["at"]
    size, end = at["per_class"], found["reach"]
    where = f"N = {size}" + (" (measured)" if size in record["sizes"] else " (extrapolated)")
    yield f"Against {_AGAINST[name]}: {found['verdict'].upper()} at N = {record['asked']}."
    if size != record["asked"]:
        far = log2(record["asked"] / end)
        yield (
            f"N = {record['asked']} is {far:.1f} doublings beyond what the sizes can speak of: "
            f"run --sizes up to {ceil(record['asked'] / 2)} or more. The rest is about N = {size}."
        )
    yield f"At {where} {_MEANINGS[at['verdict']]}: {_said(record, found)}."
    if at["verdict"] == OPEN:
        if -record["least_gain"] < at["low"] and at["high"] < record["least_gain"]:
            yield (
                f"The interval lies within ±{record['least_gain']:g}, but too few runs changed "
                "anything to rely on it: one that keeps its start gains exactly 0."
            )
        yield _more(record, found)
    yield _fades(record, found)


_MEANINGS = {
    HELPS: "the method helps",
    SAME: "the method makes no difference that matters",
    HARMS: "the method harms",
    OPEN: "the gain is still open",
}


def _said(record: Record, found: Record) -> str:
    at, level = found["at"], _percent(record["confidence"])
    text = f"gain {at['value']:+.2f} points of {record['title']} ({level}: {_span(at)}"
    return f"{text}; {_percent(record['strict'])}: {_span(found['strict'])})"


def _span(ends: Record) -> str:
    return f"{ends['low']:+.2f} to {ends['high']:+.2f}"


def _percent(level: float) -> str:
    return f"{100 * level:.4g} %"


def _more(record: Record, found: Record) -> str:
    needed, seeds = found["needed_seeds"], len(record["seeds"])
    if needed is None:
        return (
            "No number of seeds up to 200 is likely to tell: measure larger sizes (--sizes), judge "
            "on more test images, or ask for a larger --least-gain."
        )
    runs = (needed - seeds) * len(record["sizes"])
    return (
        f"About {needed} seeds would tell in four of five cases: {runs} more runs (--seeds "
        f"{needed}), if the gains and their scatter are as measured, which {seeds} seeds know only "
        "roughly. A larger size (--sizes) may tell sooner."
    )


def _fades(record: Record, found: Record) -> str:
    fades, least = found["fades"], f"{record['least_gain']:g} points"
    ends = [f"N = {one:.0f}" if one is not None else None for one in (fades["low"], fades["high"])]
    if ends[0] is None:
        return f"The gain stays above {least} up to N = {found['reach']}, as far as can be said."
    value = fades["value"]
    best = f"at N = {value:.0f}" if value is not None else f"beyond N = {found['reach']}"
    upper = ends[1] or f"beyond N = {found['reach']}"
    level = _percent(record["confidence"])
    return f"The gain is first below {least} {best} ({level}: {ends[0]} to {upper})."


def _how(record: Record) -> Iterator[str]:
    count, unit, seeds = record["test_images"], record["unit"], len(record["seeds"])
    part = "test" if record["judged"] == "test" else "left-over training"
    same = "the same in all runs" if record["same_test_images"] else "drawn anew for every seed"
    yield (
        f"N: {unit} of each class; the data can give {record['largest']}. {seeds} seeds, judged on "
        f"{count} {part} {unit}, {same}."
    )
    if record["judged"] == "test":
        yield (
            "The advice has seen the test part: to decide by other data, give --set "
            "data.judged=development, which judges on training data that are left."
        )
    yield (
        f"No difference: the {_percent(record['confidence'])} interval lies within ±"
        f"{record['least_gain']:g}. Helps, harms: the {_percent(record['strict'])} interval "
        "leaves out 0. Beyond the largest size it spans two ways on: the gain stays, or follows "
        "the line over log N through the last three sizes. A sudden drop there nothing can foresee."
    )
