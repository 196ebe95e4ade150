"""Table 4: the losses that a supervised stage is watched with, and what its records say of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from atcon.attention import resolve_layer
from atcon.consistency import CORRELATIONS, MONITORED, monitored_losses
from atcon.errors import InputError
from atcon.experiments.bench import Bench, inputs_of
from atcon.experiments.method_arms import consistency_loss
from atcon.experiments.stages import Plan
from atcon.experiments.supervised_arms import supervised
from atcon.training import generator_of, in_parts

TARGET = "cross_entropy"
"""The supervised loss on the validation images."""


def monitored(bench: Bench) -> Plan:
    """Train on the labels, and watch the losses of table 4 if that is asked for."""
    return replace(supervised(bench), monitor=monitor_of(bench))


def monitor_of(bench: Bench) -> Callable[[], dict[str, float]] | None:
    """Measure every loss of table 4 on validation images drawn by the seed; None if not asked for.

    The losses have the mask, its options and the squashing of the run's consistency loss. Nothing
    is trained on them, nothing is chosen by them, and nothing else changes.

    Raises:
        InputError: There are no validation images.
    """
    count = bench.config.supervised.monitored_images
    if not count:
        return None
    if bench.validation is None:
        raise InputError(
            "supervised.monitored_images are validation images, of which this run has none: set "
            "data.validation_images"
        )
    generator = generator_of(bench.config.seed, "monitored")
    drawn = torch.randperm(len(bench.validation.examples), generator=generator)
    pixels, size = bench.validation.pixels[drawn[:count]], bench.config.evaluation.batch_size
    module = bench.network.module
    method = consistency_loss(bench.config, module, bench.layer).method

    def ask(part: slice) -> dict[tuple[str, str], torch.Tensor]:
        images = inputs_of(pixels[part], bench.network, bench.fabric.device)
        _, layer = resolve_layer(module, bench.layer, images)
        with bench.fabric.autocast():
            return monitored_losses(module, images, layer, method)

    def measure() -> dict[str, float]:
        totals: dict[str, list[torch.Tensor]] = {}
        for _, found in in_parts(ask, len(pixels), size):
            for names, values in found.items():
                totals.setdefault(key_of(*names), []).append(values)
        means = {key: float(torch.cat(each).double().mean()) for key, each in totals.items()}
        return {key: value for key, value in means.items() if math.isfinite(value)}

    return measure


def key_of(matching: str, correlation: str) -> str:
    """What a loss is called among the numbers of a validation."""
    return f"{matching}/{correlation}"


def monitored_record(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the series of a supervised stage for the record of a cell; nothing if not monitored.

    Args:
        lines: Of `metrics.jsonl`.
    """
    rounds = [line for line in lines if line["stage"] == "supervised"]
    seen = [line["validation"] for line in rounds]
    if not any(TARGET in one for one in seen):
        return {}
    losses = {
        matching: {h: _series(one.get(key_of(matching, h)) for one in seen) for h in CORRELATIONS}
        for matching in MONITORED
    }
    return {
        "monitored": {
            "epochs": _series(line["epoch"] for line in rounds),
            TARGET: _series(one.get(TARGET) for one in seen),
            "losses": losses,
        }
    }


def _series(values: Any) -> str:
    """Write numbers as one text: a list would take a line for each."""
    return " ".join("-" if value is None else f"{value:.8g}" for value in values)


def series_of(text: str) -> np.ndarray:
    """Read what `monitored` holds; NaN where a value was not finite."""
    return np.array([np.nan if one == "-" else float(one) for one in text.split()])
