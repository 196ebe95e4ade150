"""What stopping without labels costs against stopping by the validation labels.

A cell is one fine-tuning (a seed and a number of training images) of which every epoch was
evaluated. A stopping rule sees its signals only; the labels say afterwards what its choice was
worth. Regret is the mAP at the best validation-label stop minus the mAP at the rule's stop.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from atcon.errors import InputError
from atcon.evaluation import Gain, paired_over_seeds
from atcon.training.stopping import STOPPING_RULES, History, Rule

TOLERANCE = 0.5
"""How many points of mAP below the supervised start still count as no harm."""

COLUMNS = (
    "rule",
    "parameters",
    "regret, held-out",
    "regret, validation",
    "gain over the start",
    "worst cell against the start",
    f"cells below −{TOLERANCE}",
    "start kept",
    "epochs trained",
)

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "fixed": {"epoch": (3, 1, 2, 5, 8, 12, 20)},
    "consistency_plateau": {"share": (0.1, 0.02, 0.05, 0.2, 0.5)},
    "consistency_peak": {"patience": (5, 1, 2, 3)},
    "map_stability": {"share": (0.1, 0.0, 0.3), "fidelity": (0.8, 0.5, 0.9, 0.95, 0.99)},
    "drift_budget": {"limit": (1e-3, 1e-4, 3e-4, 3e-3, 0.01, 0.03, 0.1)},
    "flip_budget": {"limit": (0.02, 0.0, 0.005, 0.01, 0.05, 0.1, 0.2)},
    "view_agreement": {"patience": (5, 1, 2, 3)},
    "calibration": {"patience": (5, 1, 2, 3)},
    "agreement_within_drift": {
        "limit": (1e-3, 1e-4, 3e-4, 3e-3, 0.01, 0.03, 0.1),
        "patience": (5, 2),
    },
}
"""What the parameters of a rule are chosen from; the first of equally good ones is taken."""


@dataclass(frozen=True)
class Cell:
    """One fine-tuning with the evaluation of every epoch, epoch 0 (the start) first.

    Attributes:
        seed: Of the split and the training; the cells of one seed share images.
        images: Training images per class.
        history: The signals of every epoch.
        validation: mAP on the validation images, percent.
        held_out: mAP on held-out images that nothing was chosen on, percent.
    """

    seed: int
    images: int
    history: History
    validation: tuple[float, ...]
    held_out: tuple[float, ...]

    def __post_init__(self) -> None:
        lengths = (len(self.history), len(self.validation), len(self.held_out))
        if len(set(lengths)) > 1 or not lengths[0]:
            raise InputError(
                f"{self}: one entry per epoch is needed, but there are {lengths[0]} signals, "
                f"{lengths[1]} validation and {lengths[2]} held-out values"
            )
        if not np.isfinite([self.validation, self.held_out]).all():
            raise InputError(f"{self}: a mAP is not finite, so that no regret is defined")

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.images} images per class"

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Cell":
        """Read a record `{seed, images, epochs: [{signals: {...}, validation, held_out}]}`.

        Raises:
            InputError: A key is missing, or a value is not finite.
        """
        try:
            epochs = record["epochs"]
            return cls(
                int(record["seed"]),
                int(record["images"]),
                tuple(dict(epoch["signals"]) for epoch in epochs),
                tuple(float(epoch["validation"]) for epoch in epochs),
                tuple(float(epoch["held_out"]) for epoch in epochs),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "a cell is {seed, images, epochs: [{signals, validation, held_out}, ...]}, "
                f"but this one gave {error!r}"
            ) from error

    @property
    def best(self) -> int:
        """The validation-label stop: the epoch of the largest validation mAP.

        Of equal ones the first trained epoch, as `training.Selection` keeps it.
        """
        top = max(self.validation)
        trained = [epoch for epoch, value in enumerate(self.validation) if epoch and value == top]
        return trained[0] if trained else 0


@dataclass(frozen=True)
class Regret:
    """What one way to stop was worth, over all cells; mAP in points.

    Attributes:
        rule: Name of the rule.
        tuned: Whether its parameters were chosen on the cells of the other seeds.
        parameters: Of each cell.
        epochs: Kept, of each cell.
        trained: Mean number of epochs until training could end.
        held_out: Regret on held-out images, with its interval over seeds.
        validation: Regret on the validation images, which cannot be negative.
        gain: mAP on held-out images minus that of the start.
        worst: The smallest gain of a cell.
        harmed: Share of cells that end more than `TOLERANCE` below the start.
        starts: Share of cells in which the start is kept.
    """

    rule: str
    tuned: bool
    parameters: tuple[dict[str, Any], ...]
    epochs: tuple[int, ...]
    trained: float
    held_out: Gain
    validation: Gain
    gain: Gain
    worst: float
    harmed: float
    starts: float

    @property
    def safe(self) -> bool:
        """Whether no cell ends more than `TOLERANCE` points below the supervised start."""
        return self.worst >= -TOLERANCE


Chooser = Callable[[Cell], Rule]


def regrets(
    cells: Sequence[Cell],
    rules: Mapping[str, Rule] = STOPPING_RULES,
    grids: Mapping[str, Mapping[str, Sequence[Any]]] = GRIDS,
) -> list[Regret]:
    """Judge every rule with its own parameters, then those with a grid tuned on other seeds.

    Args:
        cells: Of two or more seeds.
        rules: By name.
        grids: Values of the parameters to choose from, by the rule's name.

    Returns:
        The validation-label stop first, as a reference: its regret is 0, its gain is what labels
        can earn.

    Raises:
        InputError: There are fewer than two seeds, or a grid is of no rule.
    """
    unknown = sorted(set(grids) - set(rules))
    if unknown:
        raise InputError(f"grids for {', '.join(unknown)}, but the rules are {', '.join(rules)}")
    rows = [_judged("validation labels", cells, [cell.best for cell in cells])]
    rows += [regret_of(name, _everywhere(rule), cells) for name, rule in rules.items()]
    rows += [
        regret_of(name, tuned_elsewhere(rules[name], grids[name], cells), cells, tuned=True)
        for name in grids
    ]
    return rows


def regret_of(
    name: str, rule_for: Chooser, cells: Sequence[Cell], *, tuned: bool = False
) -> Regret:
    """Judge a rule that may have other parameters in every cell."""
    rules = [rule_for(cell) for cell in cells]
    kept = [rule(cell.history).epoch for rule, cell in zip(rules, cells, strict=True)]
    trained = [trained_epochs(rule, cell.history) for rule, cell in zip(rules, cells, strict=True)]
    return _judged(name, cells, kept, trained, [rule.parameters for rule in rules], tuned=tuned)


def tuned_elsewhere(
    rule: Rule, grid: Mapping[str, Sequence[Any]], cells: Sequence[Cell]
) -> Chooser:
    """Choose parameters for each cell on the cells of the other seeds.

    Those are taken whose stops have the largest mean validation mAP there. Neither the cell's own
    labels, nor those of its seed, nor any held-out image has a part in it.

    Raises:
        InputError: There are fewer than two seeds.
    """
    seeds = dict.fromkeys(cell.seed for cell in cells)
    if len(seeds) < 2:
        raise InputError("parameters are chosen on the other seeds: two or more are needed")
    candidates = [
        rule.with_parameters(**dict(zip(grid, values, strict=True)))
        for values in product(*grid.values())
    ]
    earned = np.array(
        [[cell.validation[one(cell.history).epoch] for cell in cells] for one in candidates]
    )
    chosen = {}
    for seed in seeds:
        others = [cell.seed != seed for cell in cells]
        chosen[seed] = candidates[int(earned[:, others].mean(axis=1).argmax())]
    return lambda cell: chosen[cell.seed]


def trained_epochs(rule: Rule, history: History) -> int:
    """Count the epochs that are trained before the rule lets training end."""
    for seen in range(1, len(history)):
        if rule(history[:seen]).stop:
            return seen - 1
    return len(history) - 1


def over_seeds(cells: Sequence[Cell], values: Iterable[float]) -> Gain:
    """Mean of one value per cell, with Student's t interval over the seeds' means.

    The cells of one seed share images and are not independent: the seed is the unit, and every
    seed has the same weight.

    Raises:
        InputError: There are fewer than two seeds.
    """
    by_seed: dict[int, list[float]] = {}
    for cell, value in zip(cells, values, strict=True):
        by_seed.setdefault(cell.seed, []).append(value)
    return paired_over_seeds([float(np.mean(own)) for own in by_seed.values()])


def regret_table(rows: Sequence[Regret]) -> str:
    """The regrets as a Markdown table; intervals are at 95 % over seeds."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    lines += [
        f"| {row.rule}{', tuned on the other seeds' if row.tuned else ''} "
        f"| {_say_parameters(row.parameters)} | {_say(row.held_out)} | {_say(row.validation)} "
        f"| {_say(row.gain)} | {_signed(row.worst)} | {row.harmed:.0%} | {row.starts:.0%} "
        f"| {row.trained:.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _everywhere(rule: Rule) -> Chooser:
    return lambda _cell: rule


def _judged(
    name: str,
    cells: Sequence[Cell],
    kept: Sequence[int],
    trained: Sequence[int] | None = None,
    parameters: Sequence[dict[str, Any]] | None = None,
    *,
    tuned: bool = False,
) -> Regret:
    """Put what the kept epochs are worth together; without `trained` every epoch was trained."""
    pairs = list(zip(cells, kept, strict=True))
    gains = [cell.held_out[epoch] - cell.held_out[0] for cell, epoch in pairs]
    trained = trained or [len(cell.history) - 1 for cell in cells]
    return Regret(
        rule=name,
        tuned=tuned,
        parameters=tuple(parameters or ({} for _ in cells)),
        epochs=tuple(kept),
        trained=float(np.mean(trained)),
        held_out=over_seeds(
            cells, [cell.held_out[cell.best] - cell.held_out[epoch] for cell, epoch in pairs]
        ),
        validation=over_seeds(
            cells, [cell.validation[cell.best] - cell.validation[epoch] for cell, epoch in pairs]
        ),
        gain=over_seeds(cells, gains),
        worst=min(gains),
        harmed=float(np.mean([gain < -TOLERANCE for gain in gains])),
        starts=float(np.mean([epoch == 0 for epoch in kept])),
    )


def _say_parameters(parameters: Sequence[Mapping[str, Any]]) -> str:
    """List the values that the cells have, each once: `limit 0.01 or 0.03`."""
    names = list(parameters[0])
    said = [
        f"{name} {' or '.join(str(one) for one in dict.fromkeys(own[name] for own in parameters))}"
        for name in names
    ]
    return ", ".join(said) or "–"


def _say(gain: Gain) -> str:
    return f"{_signed(gain.value)} ({_signed(gain.low)} to {_signed(gain.high)})"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
