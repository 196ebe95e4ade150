"""Seconds for the bootstrap of F1 and mAP, single and paired, at the size of PASCAL VOC's test set.

Run as `python benchmarks/bootstrap.py`.
"""

import resource
import time

import numpy as np

from atcon.evaluation import (
    bootstrap,
    f1,
    mean_average_precision,
    paired_bootstrap,
    predict,
    resample_weights,
)

SAMPLES, CLASSES, RESAMPLES = 5823, 20, 1000


def main() -> None:
    """Print one line per quantity, then the total and the peak memory."""
    generator = np.random.default_rng(0)
    labels = generator.random((SAMPLES, CLASSES)) < 0.07
    arms = [np.clip(0.3 * labels + generator.random(labels.shape), 0, 1) for _ in range(2)]
    f1s = [f1(labels, predict(scores, multi_label=True)) for scores in arms]
    maps = [mean_average_precision(labels, scores) for scores in arms]
    weighted = mean_average_precision(labels, arms[0], average="weighted")
    start = time.perf_counter()
    weights = resample_weights(SAMPLES, RESAMPLES, seed=0)
    steps = {
        "F1": lambda: bootstrap(f1s[0], weights),
        "mAP": lambda: bootstrap(maps[0], weights),
        "mAP, support weights": lambda: bootstrap(weighted, weights),
        "gain in F1": lambda: paired_bootstrap(*f1s, weights),
        "gain in mAP": lambda: paired_bootstrap(*maps, weights),
    }
    print(f"{'resampling':24s}{time.perf_counter() - start:7.2f} s")
    for name, step in steps.items():
        before = time.perf_counter()
        step()
        print(f"{name:24s}{time.perf_counter() - before:7.2f} s")
    print(f"{'total':24s}{time.perf_counter() - start:7.2f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
