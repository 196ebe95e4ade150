"""What can be done to a mask besides its form, how much of it is drawn, and how that fades."""

import math
from dataclasses import dataclass, replace

from atcon.errors import InputError

Range = float | tuple[float, float]


@dataclass(frozen=True)
class MaskOptions:
    """How a map becomes a mask, in this order; the defaults change nothing.

    A range (low, high) is drawn anew in each step, for every image and each of its masks;
    evaluation, which draws nothing, takes its middle. This is the stochastic process of section
    6.1, by which maps that do not overlap may meet.

    Attributes:
        smooth: The map is blurred by a Gaussian of this standard deviation, in pixels.
        scales: In place of `smooth`, several such deviations, of which one is drawn; evaluation
            takes the first.
        slope: Of the form `reference`.
        value: Of the form `uniform`.
        temperature: t in P' = logistic(logit P / t): above 1 the mask is softer, below 1 harder. Of
            a range, log t is uniform, and the middle is the geometric one.
        noise: s in P' = logistic(logit P / t + s n): n is smooth Gaussian noise, standard normal at
            every pixel, blurred over a sixteenth of each axis; evaluation adds none.
        floor: P' = floor + (1 - floor) P: no pixel is dimmed below it.
        strength: r in P' = 1 - r (1 - P): uniform if it is a range.
        anneal: Share of the training over which all that is drawn fades away (`at_progress`);
            0 lets it be. Evaluation sees the mask that it leads to.
    """

    smooth: float = 0.0
    slope: float = 8.0
    value: float = 0.5
    floor: float = 0.0
    strength: Range = 1.0
    temperature: Range = 1.0
    noise: float = 0.0
    scales: tuple[float, ...] = ()
    anneal: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would not give a mask in [0, 1]."""
        low, high = self.strength_range
        cold, hot = self.temperature_range
        for name, right, rule in (
            ("smooth", 0 <= self.smooth < math.inf, "0 or larger"),
            ("value", 0 <= self.value <= 1, "between 0 and 1"),
            ("floor", 0 <= self.floor <= 1, "between 0 and 1"),
            ("strength", 0 <= low <= high <= 1, "between 0 and 1, or such a range (low, high)"),
            ("temperature", 0 < cold <= hot < math.inf, "above 0, or such a range (low, high)"),
            ("noise", 0 <= self.noise < math.inf, "0 or larger"),
            ("scales", all(0 <= x < math.inf for x in self.scales), "deviations of 0 or larger"),
            ("anneal", 0 <= self.anneal <= 1, "between 0 and 1"),
        ):
            if not right:
                raise InputError(f"mask {name} must be {rule}, but it is {getattr(self, name)}")
        if self.smooth and self.scales:
            raise InputError(
                f"mask scales {self.scales} take the place of smooth {self.smooth}: give one"
            )

    @property
    def strength_range(self) -> tuple[float, float]:
        """The lowest and the highest strength."""
        return _as_range(self.strength)

    @property
    def temperature_range(self) -> tuple[float, float]:
        """The lowest and the highest temperature."""
        return _as_range(self.temperature)

    @property
    def drawn(self) -> tuple[str, ...]:
        """What is drawn: the names of these options."""
        (low, high), (cold, hot) = self.strength_range, self.temperature_range
        kinds = {
            "strength": low < high,
            "temperature": cold < hot,
            "scales": len(self.scales) > 1,
            "noise": self.noise > 0,
        }
        return tuple(kind for kind, random in kinds.items() if random)

    @property
    def random(self) -> bool:
        """Whether anything is drawn."""
        return bool(self.drawn)


def at_progress(options: MaskOptions, progress: float) -> MaskOptions:
    """Give the options at a share of the training: what is drawn fades, the mask grows to its full.

    With f = min(progress / anneal, 1), the lower end of the strength's range rises to its upper
    end, low + f (high - low); the ends of the temperature's range meet in its geometric middle,
    each to the power 1 - f of its ratio to that; the noise shrinks to (1 - f) of its own; and of
    the scales the first (1 - f), rounded up, remain, the first of all to the end.

    Args:
        options: At the start. Without `anneal` they stay what they are.
        progress: In [0, 1].

    Raises:
        InputError: The progress is no such share.
    """
    if not 0 <= progress <= 1:
        raise InputError(f"progress is a share of the training, in [0, 1], but it is {progress}")
    if not (options.anneal and options.random and progress):
        return options
    left = 1 - min(progress / options.anneal, 1)
    low, high = options.strength_range
    cold, hot = options.temperature_range
    middle = cold if cold == hot else math.sqrt(cold) * math.sqrt(hot)
    return replace(
        options,
        strength=(high - left * (high - low), high),
        temperature=(middle * (cold / middle) ** left, middle * (hot / middle) ** left),
        noise=left * options.noise,
        scales=options.scales[: max(math.ceil(left * len(options.scales)), 1)],
    )


def _as_range(value: Range) -> tuple[float, float]:
    return (value, value) if isinstance(value, int | float) else value
