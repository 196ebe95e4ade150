"""When to stop without labels (section 6.1 of the paper): rules that look at signals alone.

A rule is a pure function of the history: the signals of every epoch so far, the start (epoch 0)
first. It answers with the epoch to keep and whether training can end. Every rule of the table obeys
three laws, which the tests hold:

- *causal*: once it stops, later epochs change nothing;
- *one copy*: what it keeps is the newest epoch or what it kept before, so that a training loop
  holds one copy of the weights;
- *unknown is no reason*: a signal that is missing, None or NaN never makes a rule prefer an epoch.
  Where a budget is to be kept, unknown is beyond it.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from atcon.errors import InputError, no_such

Signals = Mapping[str, float | None]
History = Sequence[Signals]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule says about a history.

    Attributes:
        epoch: The epoch to keep; 0 is the start.
        stop: Whether training can end: no later epoch will change the decision.
    """

    epoch: int
    stop: bool


@dataclass(frozen=True)
class Rule:
    """A stopping rule with its parameters.

    Attributes:
        of: `(history, **parameters) -> Decision`; its keywords and their defaults are the rule's
            parameters.
        title: What it does, in one line.
        chosen: Parameters that are not at their default.
    """

    of: Callable[..., Decision]
    title: str
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter with its value."""
        known = inspect.signature(self.of).parameters.values()
        return {
            one.name: self.chosen.get(one.name, one.default)
            for one in known
            if one.kind is one.KEYWORD_ONLY
        }

    def with_parameters(self, **parameters: Any) -> "Rule":
        """Give the same rule with other parameters.

        Raises:
            InputError: The rule has no such parameter.
        """
        known = self.parameters
        for name in parameters:
            if not known:
                raise InputError(f"this rule has no parameters, but {name!r} was given")
            if name not in known:
                raise no_such("parameter of the stopping rule", name, known)
        return replace(self, chosen={**self.chosen, **parameters})

    def __call__(self, history: History) -> Decision:
        """Decide on the epochs so far.

        Raises:
            InputError: There is no epoch; the start is always one.
        """
        if len(history) == 0:
            raise InputError("a stopping rule needs at least the start: the history is empty")
        return self.of(history, **self.chosen)


def rule_named(name: str, **parameters: Any) -> Rule:
    """Look a rule up in the table.

    Raises:
        InputError: There is none of that name (the nearest is given), or it has no such parameter.
    """
    if name not in STOPPING_RULES:
        raise no_such("stopping rule", name, STOPPING_RULES)
    return STOPPING_RULES[name].with_parameters(**parameters)


def last(history: History) -> Decision:
    """Train to the end of the schedule and keep the last epoch."""
    return Decision(len(history) - 1, stop=False)


def start(history: History) -> Decision:
    """Never fine-tune: what every rule has to beat."""
    del history
    return Decision(0, stop=True)


def fixed(history: History, *, epoch: int = 3) -> Decision:
    """Keep epoch `epoch`, whatever happens.

    Raises:
        InputError: The epoch is negative.
    """
    if epoch < 0:
        raise InputError(f"a fixed epoch counts from 0, the start: {epoch} is none")
    newest = len(history) - 1
    return Decision(min(epoch, newest), stop=newest >= epoch)


def plateau(history: History, *, signal: str = "consistency", share: float = 0.1) -> Decision:
    """Stop at the first epoch that gains at most `share` of the largest gain so far.

    The epoch before it is kept: a curve that is constant or falls from the start keeps the start.
    An epoch with an unknown value is passed over.
    """
    kept, best_gain, before = 0, 0.0, _value(history[0], signal)
    for epoch in range(1, len(history)):
        value = _value(history[epoch], signal)
        if math.isnan(value):
            continue
        if not math.isnan(before):
            gain = value - before
            best_gain = max(best_gain, gain)
            if gain <= share * best_gain:
                return Decision(kept, stop=True)
        kept, before = epoch, value
    return Decision(kept, stop=False)


def peak(history: History, *, signal: str = "consistency", patience: int = 5) -> Decision:
    """Keep the epoch of the largest value; stop after `patience` epochs without a larger one."""
    return _best([_value(signals, signal) for signals in history], patience)


def map_stability(history: History, *, share: float = 0.1, fidelity: float = 0.8) -> Decision:
    """Stop when the maps no longer move, or before they have moved too far from the start's.

    Args:
        history: Holds `map_stability` and `map_fidelity`.
        share: The maps have come to rest when an epoch moves them (1 - correlation with the epoch
            before) by at most this share of the largest move so far; the epoch before is kept.
        fidelity: The least correlation with the start's maps.
    """
    largest = 0.0
    for epoch in range(1, len(history)):
        if not _value(history[epoch], "map_fidelity") >= fidelity:
            return Decision(epoch - 1, stop=True)
        move = 1 - _value(history[epoch], "map_stability")
        largest = max(largest, move)
        if move <= share * largest:
            return Decision(epoch - 1, stop=True)
    return Decision(len(history) - 1, stop=False)


def budget(history: History, *, signal: str = "drift", limit: float = 0.001) -> Decision:
    """Stop before `signal`, which says how far the start has been left, exceeds `limit`."""
    within = _within(history, signal, limit)
    return Decision(within - 1, stop=within < len(history))


def view_agreement(history: History, *, patience: int = 5) -> Decision:
    """Keep the epoch at which the predictions on an image and its mirror image agree best.

    A network that collapses to one class agrees with itself too: seen on the embedded digits, where
    agreement rose from 0.80 to 0.94 while the mAP fell by 8 points. `agreement_within_drift` ends
    before.
    """
    return peak(history, signal="view_agreement", patience=patience)


def calibration(history: History, *, patience: int = 5) -> Decision:
    """Keep the epoch of the smallest absolute calibration gap.

    Blind to a collapse for the same reason as `view_agreement`.
    """
    return _best([-abs(_value(signals, "calibration_gap")) for signals in history], patience)


def agreement_within_drift(
    history: History, *, limit: float = 0.001, patience: int = 5
) -> Decision:
    """Keep the best agreement between views among the epochs before the drift exceeds `limit`."""
    within = _within(history, "drift", limit)
    found = view_agreement(history[:within], patience=patience)
    return Decision(found.epoch, stop=found.stop or within < len(history))


STOPPING_RULES: dict[str, Rule] = {
    "last": Rule(last, "train to the end"),
    "start": Rule(start, "never fine-tune"),
    "fixed": Rule(fixed, "a fixed number of epochs"),
    "consistency_plateau": Rule(plateau, "consistency gains little more"),
    "consistency_peak": Rule(peak, "largest consistency"),
    "map_stability": Rule(map_stability, "maps come to rest, or leave the start's"),
    "drift_budget": Rule(budget, "predictions stay near the start's"),
    "flip_budget": Rule(budget, "decisions stay the start's", {"signal": "flips", "limit": 0.02}),
    "view_agreement": Rule(view_agreement, "best agreement between mirrored views"),
    "calibration": Rule(calibration, "smallest gap of confidence and agreement"),
    "agreement_within_drift": Rule(
        agreement_within_drift, "best agreement between views near the start"
    ),
}
"""Every rule by its name."""


def _value(signals: Signals, name: str) -> float:
    """Give a signal; NaN if it is unknown."""
    value = signals.get(name)
    return math.nan if value is None or not math.isfinite(value) else float(value)


def _within(history: History, signal: str, limit: float) -> int:
    """Count the epochs, the start among them, before the first that is not within the limit."""
    for epoch in range(1, len(history)):
        if not _value(history[epoch], signal) <= limit:
            return epoch
    return len(history)


def _best(values: Sequence[float], patience: int) -> Decision:
    """Keep the first of the largest values, unknown ones last; stop `patience` epochs after it."""
    kept, largest = 0, -math.inf
    for epoch, value in enumerate(values):
        if value > largest:
            kept, largest = epoch, value
        if epoch - kept >= patience:
            return Decision(kept, stop=True)
    return Decision(kept, stop=False)
