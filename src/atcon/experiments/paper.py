"""The paper's printed numbers, and which of them stand beside an experiment's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class Printed:
    """A number of the paper, with its interval and its star where it has them."""

    value: float
    low: float | None = None
    high: float | None = None
    star: bool = False


class Paper(BaseModel):
    """Where in `paper_facts` the numbers of an experiment are.

    Attributes:
        values: Of each metric, a path such as `table2_pascal.f1.{row}.{n}`.
        stars: Of each metric, the path of a list of the sizes that have a star.
        rows: The paper's row of each of our stages; `{network}` is put in.
        network: That of the paper, where the cells name none.
        at: The one size that the table is about; None where `{n}` is in the paths.
        scale: What brings the numbers to those of our metrics.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    values: dict[str, str]
    stars: dict[str, str] = {}
    rows: dict[str, str]
    network: str = ""
    at: int | None = None
    scale: float = 1.0

    def printed(self, metric: str, stage: str, count: int, network: str = "") -> Printed | None:
        """Give what the paper prints for a metric of a stage at a size; None where it is silent."""
        if stage not in self.rows or metric not in self.values or self.at not in (None, count):
            return None
        named = {"network": network or self.network, "n": str(count)}
        row = self.rows[stage].format(**named)
        found = _at(self.values[metric].format(row=row, **named))
        if found is None:
            return None
        starred = _at(self.stars[metric].format(row=row, **named)) if metric in self.stars else ()
        numbers = [self.scale * one for one in (found if isinstance(found, list) else [found])]
        value, low, high = (*numbers, None, None)[:3]
        return Printed(value, low, high, star=count in (starred or ()))


@cache
def paper_facts() -> Mapping[str, Any]:
    """Give the numbers that the paper and its supplement print; `_about` says how to read them."""
    text = (files("atcon.experiments") / "paper.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def _at(path: str) -> Any:
    found: Any = paper_facts()
    for key in path.split("."):
        if not isinstance(found, dict) or key not in found:
            return None
        found = found[key]
    return found
