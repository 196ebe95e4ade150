"""The unpaired test of the authors' published comparison, kept to reproduce it."""

import numpy as np

from atcon.errors import InputError
from atcon.evaluation.bootstrap import defined, on_resamples
from atcon.evaluation.metric import Metric
from atcon.evaluation.permutation import Difference


def reference_test(
    metric: Metric, samples: int, *, seed: int | np.random.Generator, runs: int = 100
) -> Difference | None:
    r"""Test a difference as the authors do: both methods pooled and resampled unpaired.

    The 2n answers of both methods are one population; every run draws n answers for each of two
    methods from it, and the p-value is $2 (1 + \min(\#\{d \le d_0\}, \#\{d \ge d_0\})) / (R + 1)$.

    For reference only. It does not know that both methods answered about the *same* images: the
    better they agree, the less it finds (docs/howto/statistics.md has its measured level), it knows
    no patients, and 100 runs give no p-value below 0.0198. Use `paired_bootstrap` or
    `permutation_test`.

    Args:
        metric: Of the stacked answers of both methods, as in `permutation_test`.
        samples: n, the answers of each method.
        seed: A seed or a generator.
        runs: R.

    Returns:
        None where the difference is not defined on the samples themselves (or in none of the runs).

    Raises:
        InputError: There are no samples or no runs.
    """
    if samples < 1 or runs < 1:
        raise InputError(f"cannot make {runs} runs of {samples} samples: need at least 1")
    generator = np.random.default_rng(seed)
    first = np.concatenate([np.ones(samples), np.zeros(samples)])[None]
    observed = float((metric(first) - metric(1 - first))[0])
    drawn = [_drawn(metric, samples, runs, generator) for _ in range(2)]
    pooled = defined(observed, drawn[0] - drawn[1])
    if pooled is None:
        return None
    tail = min((pooled.values <= observed).sum(), (pooled.values >= observed).sum())
    return Difference(observed, min(1.0, 2.0 * (1 + int(tail)) / (len(pooled.values) + 1)))


def _drawn(metric: Metric, samples: int, runs: int, generator: np.random.Generator) -> np.ndarray:
    """The metric on n answers drawn from the pool of 2n."""
    counts = np.zeros((runs, 2 * samples), dtype=np.float32)
    for row in counts:
        drawn = generator.integers(2 * samples, size=samples)
        row[:] = np.bincount(drawn, minlength=2 * samples)
    return on_resamples(metric, counts)
