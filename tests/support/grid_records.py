"""Records of the cells of a small experiment, made by hand: every number is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atcon.experiments.grid import Cell, Experiment
from atcon.experiments.shipped import experiment_of

YAML = """\
name: small
title: a small one
config: digits
set: {supervised.epochs: 1, baselines: []}
per_class: [2, 4]
seeds: [0, 1, 2]
against: [supervised]
metrics: [map, iou]
"""
LIFT = {"supervised": 0.0, "consistency": 2.0, "uniform": 0.5, "simclr": -3.0}
"""What each stage has more than the supervised one, in percent, in every cell and resample."""


def small_experiment(folder: Path) -> Experiment:
    path = folder / "small.yaml"
    path.write_text(YAML)
    return experiment_of(str(path))


def cell_of(per_class: int, seed: int, stages: Sequence[str] = tuple(LIFT)) -> dict[str, Any]:
    """A record: mAP of 40 and the lift of the stage, on resamples that move as all seeds do."""
    random = np.random.default_rng(seed)
    moves = random.normal(0, 2, 200)
    return {
        "cell": f"n{per_class}-seed-{seed}", "seed": seed, "per_class": per_class,
        "judged": "test", "unit": "images",
        "counts": {"train": 20, "validation": 30, "unlabelled": 0, "test": 1200, "skipped": 0},
        "titles": {"simclr": "SimCLR"}, "seconds": {"total": 60.0 + seed},
        "stages": {stage: _stage(LIFT[stage], per_class + seed, moves) for stage in stages},
    }  # fmt: skip


def _stage(lift: float, more: float, moves: np.ndarray) -> dict[str, Any]:
    value = 40 + lift + more
    resampled = " ".join(str(round(100 * (value + move))) for move in moves)
    test = {"map": value, "iou": None}
    return {
        "epoch": 3, "kept": True, "seconds": 10 + lift, "test": test,
        "resampled": {"map": resampled, "iou": " ".join("-" * 200)},
    }  # fmt: skip


def small_records(experiment: Experiment) -> dict[Cell, dict[str, Any]]:
    """All cells but the last one."""
    return {cell: cell_of(cell.per_class, cell.seed) for cell in experiment.cells[:-1]}
