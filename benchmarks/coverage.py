"""How often 90 % intervals hold the truth, and how often tests reject where there is nothing.

Run as `python benchmarks/coverage.py`; it prints the table of docs/howto/statistics.md.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from atcon.evaluation import (
    Metric,
    bca,
    bootstrap,
    f1,
    hierarchical_bca,
    hierarchical_bootstrap,
    mean_average_precision,
    paired_bca,
    paired_bootstrap,
    paired_over_seeds,
    permutation_over_seeds,
    permutation_test,
    point,
    reference_test,
    resample_weights,
    swaps,
    weighted_mean,
)

TRIALS, RESAMPLES, LEVEL, CLASSES = 2000, 1000, 0.90, 3
FRESH = 20
"""Trials that share their resamples."""
PER_PATIENT = 5


@dataclass(frozen=True)
class Sample:
    """Test images and what two equally good methods answer: their scores agree in part."""

    labels: np.ndarray
    scores: tuple[np.ndarray, np.ndarray]
    groups: np.ndarray | None


def draw(generator: np.random.Generator, units: int, *, patients: bool, shared: float) -> Sample:
    """Draw images; of a patient's images a part of the difficulty is common, by method.

    Args:
        generator: Of the trial.
        units: Images, or patients with five images each.
        patients: Whether images belong to patients.
        shared: Share of the noise in which both methods agree.
    """
    images = units * PER_PATIENT if patients else units
    patient = np.repeat(np.arange(units), images // units)
    labels = generator.random((images, CLASSES)) < 0.3

    def noise() -> np.ndarray:
        own = generator.normal(size=(images, CLASSES))
        if not patients:
            return own
        common = generator.normal(size=(units, CLASSES))[patient]
        return np.asarray(np.sqrt(0.5) * (own + common))

    hard = np.sqrt(shared) * noise()
    scores = [2 * labels - 1 + hard + np.sqrt(1 - shared) * noise() for _ in range(2)]
    return Sample(labels, (scores[0], scores[1]), patient if patients else None)


def mean_of(labels: np.ndarray, scores: np.ndarray) -> Metric:
    """A quantity between 0 and 1 that is averaged over images, such as IoU."""
    return weighted_mean(1 / (1 + np.exp(-2 * scores[:, 0])), np.ones(len(labels), dtype=bool))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], Metric]] = {
    "mean": mean_of,
    "F1": lambda labels, scores: f1(labels, scores > 0),
    "mAP": mean_average_precision,
}


@cache
def truth(metric: str) -> float:
    """The value in the population, from a million images."""
    sample = draw(np.random.default_rng(99), 1_000_000, patients=False, shared=0.5)
    return float(point(METRICS[metric](sample.labels, sample.scores[0]), 1_000_000))


def samples(
    trials: int, units: int, *, patients: bool, shared: float = 0.5
) -> Iterator[tuple[Sample, np.ndarray]]:
    """Samples with the resamples of their images."""
    generator = np.random.default_rng([units, patients])
    weights = np.empty((0, 0))
    for trial in range(trials):
        sample = draw(generator, units, patients=patients, shared=shared)
        if trial % FRESH == 0:
            weights = resample_weights(
                len(sample.labels), RESAMPLES, seed=generator, groups=sample.groups
            )
        yield sample, weights


def coverage(
    metric: str, units: int, *, patients: bool = False, trials: int = TRIALS
) -> dict[str, float]:
    """Share of trials in which each interval holds the value in the population."""
    found: dict[str, list[bool]] = {"percentile": [], "BCa": []}
    for sample, weights in samples(trials, units, patients=patients):
        measured = METRICS[metric](sample.labels, sample.scores[0])
        for name, interval in (
            ("percentile", bootstrap(measured, weights, level=LEVEL)),
            ("BCa", bca(measured, weights, groups=sample.groups, level=LEVEL)),
        ):
            held = interval is not None and interval.low <= truth(metric) <= interval.high
            found[name].append(held)
    return {name: float(np.mean(held)) for name, held in found.items()}


def of_differences(
    metric: str, units: int, *, patients: bool = False, trials: int = TRIALS
) -> dict[str, tuple[float, float]]:
    """Coverage of a gain that is 0, and share of p-values below 0.05; NaN without an interval."""
    found: dict[str, list[tuple[float, float]]] = {
        "paired percentile": [], "paired BCa": [], "permutation": []
    }  # fmt: skip
    exchanged = None
    for sample, weights in samples(trials, units, patients=patients):
        measured = [METRICS[metric](sample.labels, one) for one in sample.scores]
        both = METRICS[metric](np.vstack([sample.labels] * 2), np.vstack(sample.scores))
        exchanged = exchanged or swaps(weights.shape[1], RESAMPLES, seed=1, groups=sample.groups)
        tested = permutation_test(both, exchanged)
        for name, gain in (
            ("paired percentile", paired_bootstrap(*measured, weights, level=LEVEL)),
            ("paired BCa", paired_bca(*measured, weights, groups=sample.groups, level=LEVEL)),
        ):
            if gain is not None:
                found[name].append((gain.low <= 0 <= gain.high, gain.p < 0.05))
        if tested is not None:
            found["permutation"].append((np.nan, tested.p < 0.05))
    return _shares(found)


def of_the_reference(metric: str, units: int, shared: float, trials: int = TRIALS) -> float:
    """Share of p-values of the authors' test below 0.05 where methods share their difficulties."""
    p = [
        reference_test(
            METRICS[metric](np.vstack([sample.labels] * 2), np.vstack(sample.scores)),
            units, seed=trial,
        )
        for trial, (sample, _) in enumerate(samples(trials, units, patients=False, shared=shared))
    ]  # fmt: skip
    return float(np.mean([tested is not None and tested.p < 0.05 for tested in p]))


SPREADS = {"images vary": (0.0, 1.0), "seeds vary": (1.0, 0.0), "both alike": (1.0, 1.0)}
"""Variances of the seeds' and the images' part of a mean gain; besides, 0.01 of every answer."""


def over_seeds(
    spread: str, seeds: int, images: int, trials: int = TRIALS
) -> dict[str, tuple[float, float]]:
    """Coverage of a gain that is 0 and share of p-values below 0.05, over seeds x images."""
    found: dict[str, list[tuple[float, float]]] = {
        "hierarchical percentile": [], "hierarchical BCa": [], "Student's t": [],
        "permutation over seeds": [], "hierarchical and t": [],
    }  # fmt: skip
    by_seed, by_image = SPREADS[spread]
    generator = np.random.default_rng([seeds, images])
    nothing, zeros = np.zeros((seeds, RESAMPLES)), np.zeros(seeds)
    for trial in range(trials):
        if trial % FRESH == 0:
            rows = resample_weights(images, RESAMPLES, seed=generator).T / images
        d = 0.1 * generator.normal(size=(seeds, images))
        d += np.sqrt(by_seed) * generator.normal(size=(seeds, 1))
        d += np.sqrt(by_image * images / seeds) * generator.normal(size=images)
        points = d.mean(axis=1)
        without = (d.sum(axis=1, keepdims=True) - d) / (images - 1)
        plain = hierarchical_bootstrap(
            d @ rows, nothing, (points, zeros), seed=generator, level=LEVEL
        )
        fine = hierarchical_bca(
            d @ rows, nothing, (points, zeros), (without, np.zeros_like(without)),
            seed=generator, level=LEVEL,
        )  # fmt: skip
        t = paired_over_seeds(points, level=LEVEL)
        for name, gain in (
            ("hierarchical percentile", plain), ("hierarchical BCa", fine), ("Student's t", t)
        ):  # fmt: skip
            if gain is not None:
                found[name].append((gain.low <= 0 <= gain.high, gain.p < 0.05))
        p = permutation_over_seeds(points, 1000, seed=generator).p
        found["permutation over seeds"].append((np.nan, p < 0.05))
        if plain is not None:
            found["hierarchical and t"].append((np.nan, max(plain.p, t.p) < 0.05))
    return _shares(found)


def _shares(found: dict[str, list[tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    shares = {name: np.mean(np.array(both, dtype=float), axis=0) for name, both in found.items()}
    return {name: (float(held), float(rejected)) for name, (held, rejected) in shares.items()}


def main() -> None:
    """Print a row per quantity and procedure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    trials = parser.parse_args().trials
    print("| quantity | procedure | coverage of 90 % | p < 0.05 |\n|---|---|---|---|")
    for patients, sizes in ((False, (20, 50, 200)), (True, (10, 20, 60))):
        unit = "patients" if patients else "images"
        for metric in METRICS:
            for units in sizes:
                for name, held in coverage(metric, units, patients=patients, trials=trials).items():
                    _row(f"{metric}, {units} {unit}", name, held, None)
                for name, (held, rejected) in of_differences(
                    metric, units, patients=patients, trials=trials
                ).items():
                    _row(f"gain in {metric}, {units} {unit}", name, held, rejected)
    for spread in SPREADS:
        for seeds in (3, 5, 10, 20):
            for name, (held, rejected) in over_seeds(spread, seeds, 200, trials).items():
                _row(f"gain, {seeds} seeds x 200 images, {spread}", name, held, rejected)
    for shared in (0.0, 0.5, 0.9):
        rejected = of_the_reference("F1", 200, shared, trials)
        _row(f"gain in F1, 200 images, shared noise {shared:.0%}", "reference", np.nan, rejected)


def _row(quantity: str, procedure: str, held: float, rejected: float | None) -> None:
    cells = [
        "" if share is None or np.isnan(share) else f"{100 * share:.1f}"
        for share in (held, rejected)
    ]
    print(f"| {quantity} | {procedure} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
