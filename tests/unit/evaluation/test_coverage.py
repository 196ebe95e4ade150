"""90 % intervals hold the truth in 88 to 92 % of 2,000 cases; 3 to 7 % of null p are below 0.05.

Sizes are those from which it is so; docs/howto/statistics.md has what fewer images, patients or
seeds do.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PLACE = Path(__file__).parents[3] / "benchmarks" / "coverage.py"
SPEC = spec_from_file_location("atcon_benchmark_coverage", PLACE)
SIMULATED = module_from_spec(SPEC)
SPEC.loader.exec_module(SIMULATED)
METRICS = ("mean", "F1", "mAP")


def is_right(share, of):
    low, high = {"coverage": (0.88, 0.92), "level": (0.03, 0.07)}[of]
    return low <= share <= high


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_of_a_value_on_200_images(metric):
    for procedure, held in SIMULATED.coverage(metric, 200).items():
        assert is_right(held, "coverage"), procedure


@pytest.mark.parametrize("metric", ["mean", "F1"])
def test_intervals_of_a_value_on_60_patients(metric):
    for procedure, held in SIMULATED.coverage(metric, 60, patients=True).items():
        assert is_right(held, "coverage"), procedure


@pytest.mark.parametrize("metric", METRICS)
def test_gains_on_200_images(metric):
    for procedure, (held, rejected) in SIMULATED.of_differences(metric, 200).items():
        assert procedure == "permutation" or is_right(held, "coverage"), procedure
        assert is_right(rejected, "level"), procedure


@pytest.mark.parametrize("metric", ["mean", "F1"])
def test_gains_on_60_patients(metric):
    found = SIMULATED.of_differences(metric, 60, patients=True)
    for procedure, (held, rejected) in found.items():
        assert procedure == "permutation" or is_right(held, "coverage"), procedure
        assert is_right(rejected, "level"), procedure


@pytest.mark.parametrize("metric", ["mean", "F1"])
@pytest.mark.parametrize(("units", "patients"), [(20, False), (10, True)])
def test_a_permutation_test_holds_its_level_with_few_images_or_patients(metric, units, patients):
    found = SIMULATED.of_differences(metric, units, patients=patients)
    assert is_right(found["permutation"][1], "level")


@pytest.mark.parametrize("spread", ["images vary", "both alike"])
def test_gains_over_20_seeds_and_200_images(spread):
    found = SIMULATED.over_seeds(spread, 20, 200)
    for procedure in ("hierarchical percentile", "hierarchical BCa"):
        assert is_right(found[procedure][0], "coverage"), procedure
        assert is_right(found[procedure][1], "level"), procedure


@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
def test_students_t_over_seeds_that_vary_and_the_rule_of_compare(seeds):
    found = SIMULATED.over_seeds("seeds vary", seeds, 200)
    assert is_right(found["Student's t"][0], "coverage")
    assert is_right(found["Student's t"][1], "level")
    assert is_right(found["hierarchical and t"][1], "level")


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9])
def test_the_authors_test_finds_less_the_more_methods_agree(shared):
    level = SIMULATED.of_the_reference("F1", 200, shared)
    assert level == pytest.approx({0.0: 0.018, 0.5: 0.006, 0.9: 0.0}[shared], abs=0.006)
