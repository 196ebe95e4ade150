"""Tables 2 to 5 of the supplement: the paper's, and those of a table of events at hand."""

from collections.abc import Mapping
from typing import Any

from atcon.experiments.config import data_path
from atcon.experiments.describe import describe_source
from atcon.experiments.paper import paper_facts
from atcon.experiments.table_formats import NOTHING, markdown

_FACTS = "supplement_tables2_to_5_hospital_video"
_HEADS = ("class", "windows", "mean", "median", "std", "total", "patients")
_KEYS = _HEADS[1:]
_SHARES = (1.0, 1.0, 1.0)


def lengths_tables(events: str | None) -> str:
    """Draw the paper's tables, and those of the events of a file below the folder of data.

    Raises:
        InputError: There is no such file.
    """
    drawn = ["As printed, of the private recordings; lengths in seconds:"]
    for part, classes in paper_facts()[_FACTS].items():
        if part != "columns":
            drawn.append(
                _drawn(
                    part,
                    {label: dict(zip(_KEYS, row, strict=True)) for label, row in classes.items()},
                )
            )
    if events is not None:
        described = describe_source(data_path(events, "data.root"), shares=_SHARES)
        drawn.append(
            f"The same of `{events}`, its patients divided into three parts of similar size ("
            f"{described['undivided']} events are of patients without a whole clip, in no part):"
        )
        for part, table in described["tables"].items():
            rows = {**table["classes"], **({"all": table["all"]} if part == "all" else {})}
            drawn.append(_drawn(part, rows))
    return "\n\n".join(drawn) + "\n"


def _drawn(part: str, classes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [[label, *(_number(row[key]) for key in _KEYS)] for label, row in classes.items()]
    return markdown([part, *_HEADS[1:]], rows)


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}".rstrip("0").rstrip(".")
