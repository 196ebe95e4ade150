"""Promise 19: no argument is changed, order and subset do not matter, and small sets hold."""

from functools import partial
from inspect import isfunction

import numpy as np
import pytest
import torch
from maps import MAPS, take
from tiny import CLASSES, network, pictures
from torch import nn

from atcon import ConsistencyLoss, evaluation
from atcon.consistency import (
    CORRELATIONS,
    MASKS,
    MATCHINGS,
    PRESETS,
    divergence,
    entropy,
    mask_contrast,
    method_of,
    monitored_losses,
)
from atcon.errors import InputError
from atcon.types import Box

DRAW = np.random.default_rng(0)
SAMPLES, COUNT = 12, 4
ROWS = np.arange(SAMPLES)


def frozen(values):
    """Give an array that refuses to be written to."""
    array = np.array(values)
    array.flags.writeable = False
    return array


LABELS = frozen(np.arange(SAMPLES)[:, None] % COUNT == np.arange(COUNT))
ANSWERS = frozen(DRAW.random((SAMPLES, COUNT)) < 0.5)
CHANCES = frozen(DRAW.dirichlet(np.ones(COUNT), SAMPLES))
BEFORE, AFTER = (frozen(DRAW.random(SAMPLES)) for _ in range(2))
VALID = frozen(np.arange(SAMPLES) % 3 > 0)
GROUPS = frozen([f"patient {index // 2}" for index in range(SAMPLES)])
IOUS = frozen(DRAW.random((SAMPLES, len(evaluation.MAP_THRESHOLDS))))
WEIGHTS = frozen(evaluation.resample_weights(SAMPLES, 20, seed=0))
MAP, MASK = frozen(DRAW.random((5, 6))), frozen(np.arange(30).reshape(5, 6) > 12)
BOXES = (Box(0, 0.1, 0.2, 0.6, 0.7), Box(1, 0.5, 0.5, 1.0, 1.0))
GAINS = frozen(DRAW.normal(1, 1, (6, 3)))
BY_SEED = tuple(frozen(DRAW.random((3, 20))) for _ in range(2))
POINTS = tuple(frozen(values.mean(axis=1)) for values in BY_SEED)
LEFT_OUT = tuple(frozen(DRAW.random((3, SAMPLES))) for _ in range(2))
SERIES = tuple(frozen(DRAW.random(9)) for _ in range(2))
CURVE = evaluation.gain_curve((2, 4, 8), GAINS)
RULE, PARTS = evaluation.Rule(0.5), evaluation.Components(1.0, 50.0, 20.0)
STACKED = evaluation.f1(np.vstack([LABELS, LABELS]), np.vstack([ANSWERS, LABELS]))

METRICS = {
    "f1": lambda rows: evaluation.f1(LABELS[rows], ANSWERS[rows]),
    "f1_per_class": lambda rows: evaluation.f1_per_class(LABELS[rows], ANSWERS[rows]),
    "average_precision": lambda rows: evaluation.average_precision(LABELS[rows], CHANCES[rows]),
    "mean_average_precision": lambda rows: evaluation.mean_average_precision(
        LABELS[rows], CHANCES[rows], "weighted"
    ),
    "weighted_mean": lambda rows: evaluation.weighted_mean(BEFORE[rows], VALID[rows]),
    "max_box_accuracy": lambda rows: evaluation.max_box_accuracy(IOUS[rows], VALID[rows]),
    "auroc": lambda rows: evaluation.auroc(VALID[rows], BEFORE[rows]),
    "gain_against_start": lambda rows: evaluation.gain_against_start(BEFORE[rows], AFTER[rows]),
    "gain_against_middle": lambda rows: evaluation.gain_against_middle(BEFORE[rows], AFTER[rows]),
    "regression_to_the_mean": lambda rows: evaluation.regression_to_the_mean(
        BEFORE[rows], AFTER[rows]
    ),
}
"""Every metric, of some of the samples."""

EVERY = pytest.mark.parametrize("metric", METRICS)
MEAN, OTHER = (evaluation.weighted_mean(values, VALID) for values in (BEFORE, AFTER))

CALLS = {
    **{name: lambda name=name: METRICS[name](ROWS)(WEIGHTS) for name in METRICS},
    "at_size": lambda: evaluation.at_size(CURVE, 4, 0.9),
    "bca": lambda: evaluation.bca(MEAN, WEIGHTS, groups=GROUPS),
    "bootstrap": lambda: evaluation.bootstrap(MEAN, WEIGHTS),
    "bootstrap_per_class": lambda: evaluation.bootstrap_per_class(
        evaluation.f1_per_class(LABELS, ANSWERS), WEIGHTS
    ),
    "box_iou": lambda: evaluation.box_iou(MASK, BOXES, 0),
    "box_ious": lambda: evaluation.box_ious(MAP, BOXES, 0),
    "box_mask": lambda: evaluation.box_mask(BOXES, 0, 5, 6),
    "centre_box": lambda: evaluation.centre_box(5),
    "changes": lambda: evaluation.changes(SERIES[0]),
    "components": lambda: evaluation.components(BY_SEED[0], POINTS[0], units=SAMPLES),
    "correlation_in_a_run": lambda: evaluation.correlation_in_a_run(*SERIES),
    "correlation_of_series": lambda: evaluation.correlation_of_series(*SERIES),
    "correlation_over_runs": lambda: evaluation.correlation_over_runs(POINTS[0]),
    "energy_inside": lambda: evaluation.energy_inside(MAP, MASK),
    "fading": lambda: evaluation.fading(CURVE, 0.5, 0.9),
    "fit_thresholds": lambda: evaluation.fit_thresholds(LABELS, CHANCES),
    "floors": lambda: evaluation.floors(BOXES, 0, size=8),
    "gain_curve": lambda: evaluation.gain_curve((2, 4, 8), GAINS, np.eye(3)),
    "hierarchical_bca": lambda: evaluation.hierarchical_bca(*BY_SEED, POINTS, LEFT_OUT, seed=0),
    "hierarchical_bootstrap": lambda: evaluation.hierarchical_bootstrap(*BY_SEED, POINTS, seed=0),
    "holm": lambda: evaluation.holm(POINTS[0]),
    "iou": lambda: evaluation.iou(MASK, MASK),
    "jackknife": lambda: evaluation.jackknife(MEAN, SAMPLES, groups=GROUPS),
    "localise": lambda: evaluation.localise(MAP, BOXES, 0, size=8),
    "needed_seeds": lambda: evaluation.needed_seeds(PARTS, 5.0, units=100),
    "needed_units": lambda: evaluation.needed_units(PARTS, 5.0, seeds=5),
    "on_resamples": lambda: evaluation.on_resamples(MEAN, WEIGHTS),
    "paired_bca": lambda: evaluation.paired_bca(MEAN, OTHER, WEIGHTS, groups=GROUPS),
    "paired_bootstrap": lambda: evaluation.paired_bootstrap(MEAN, OTHER, WEIGHTS),
    "paired_over_seeds": lambda: evaluation.paired_over_seeds(POINTS[0]),
    "permutation_over_seeds": lambda: evaluation.permutation_over_seeds(POINTS[0], seed=0),
    "permutation_test": lambda: evaluation.permutation_test(
        STACKED, evaluation.swaps(SAMPLES, 20, seed=0)
    ),
    "places": lambda: evaluation.places(CURVE),
    "point": lambda: evaluation.point(MEAN, SAMPLES),
    "pointing": lambda: evaluation.pointing(MAP, MASK),
    "power": lambda: evaluation.power(PARTS, 1.0, seeds=3, units=50, trials=20),
    "predict": lambda: evaluation.predict(CHANCES, multi_label=True, thresholds=AFTER[:COUNT]),
    "reference_test": lambda: evaluation.reference_test(STACKED, SAMPLES, seed=0, runs=5),
    "resample_weights": lambda: evaluation.resample_weights(SAMPLES, 5, seed=0, groups=GROUPS),
    "rescale": lambda: evaluation.rescale(MAP),
    "resize": lambda: evaluation.resize(MAP, 5, 6),
    "seeds_to_tell": lambda: evaluation.seeds_to_tell(CURVE, 4, RULE),
    "shared_covariance": lambda: evaluation.shared_covariance(
        np.stack([BY_SEED[0], BY_SEED[1]], axis=1), units=SAMPLES
    ),
    "shift": lambda: evaluation.shift(BEFORE, AFTER, groups=(GROUPS, GROUPS), resamples=20, seed=0),
    "smallest_shift": lambda: evaluation.smallest_shift(20, 30),
    "swaps": lambda: evaluation.swaps(SAMPLES, 5, seed=0, groups=GROUPS),
    "verdict": lambda: evaluation.verdict(CURVE, 4, RULE),
    "whole_image": lambda: evaluation.whole_image(5),
}
"""A call of every function, whose arguments cannot be written to without an error."""


def test_the_calls_are_those_of_every_function_of_the_evaluation():
    assert set(CALLS) == {n for n in evaluation.__all__ if isfunction(getattr(evaluation, n))}


@pytest.mark.parametrize("name", CALLS)
def test_no_function_of_the_evaluation_writes_to_what_it_is_given(name):
    first, again = CALLS[name](), CALLS[name]()
    assert first is not None
    np.testing.assert_equal(repr(again), repr(first))


@EVERY
def test_a_metric_does_not_follow_what_its_caller_does_to_the_arrays_later(metric, monkeypatch):
    expected = METRICS[metric](ROWS)(WEIGHTS)
    names = ("LABELS", "ANSWERS", "CHANCES", "BEFORE", "AFTER", "VALID", "IOUS")
    own = {name: globals()[name].copy() for name in names}
    for name, array in own.items():
        monkeypatch.setitem(globals(), name, array)
    built = METRICS[metric](slice(None))  # a view, where a list of rows would be a copy
    for array in own.values():
        array[:] = 0
    np.testing.assert_array_equal(built(WEIGHTS), expected)


@EVERY
def test_neither_order_nor_what_is_left_out_matters_to_a_metric(metric):
    order, kept = DRAW.permutation(SAMPLES), np.sort(DRAW.permutation(SAMPLES)[:9])
    expected = METRICS[metric](ROWS)
    np.testing.assert_allclose(METRICS[metric](order)(WEIGHTS[:, order]), expected(WEIGHTS))
    without = WEIGHTS * np.isin(ROWS, kept)
    np.testing.assert_allclose(METRICS[metric](kept)(WEIGHTS[:, kept]), expected(without))


@pytest.mark.parametrize("multi_label", [True, False])
def test_a_prediction_is_that_of_its_own_image(multi_label):
    limits, order = CHANCES.mean(axis=0), DRAW.permutation(SAMPLES)[:7]
    options = {"multi_label": multi_label, "thresholds": limits}
    together = evaluation.predict(CHANCES, **options)
    np.testing.assert_array_equal(evaluation.predict(CHANCES[order], **options), together[order])


@pytest.mark.parametrize("count", [1, COUNT])
@pytest.mark.parametrize("samples", [0, 1])
@EVERY
def test_without_samples_or_with_one_a_metric_is_defined_or_says_that_it_is_not(
    metric, samples, count, monkeypatch
):
    for name in ("LABELS", "ANSWERS", "CHANCES"):
        monkeypatch.setitem(globals(), name, globals()[name][:, :count])
    value = evaluation.point(METRICS[metric](ROWS[:samples]), samples)
    assert np.all(np.isnan(value) | ((value >= 0) & (value <= 1)))
    if samples == 0 and not metric.startswith("f1"):  # which has no positives: 0, as documented
        assert np.isnan(value).all()


def test_thresholds_and_predictions_of_nothing_are_none():
    assert evaluation.fit_thresholds(LABELS[:0], CHANCES[:0]).tolist() == [0.5] * COUNT
    assert evaluation.predict(CHANCES[:0], multi_label=False).shape == (0, COUNT)


@pytest.mark.parametrize(
    "metric", ["f1", "f1_per_class", "average_precision", "mean_average_precision"]
)
def test_without_a_class_there_is_no_metric(metric, monkeypatch):
    for name in ("LABELS", "ANSWERS", "CHANCES"):
        monkeypatch.setitem(globals(), name, globals()[name][:, :0])
    with pytest.raises(InputError, match="no class"):
        METRICS[metric](ROWS)
    with pytest.raises(InputError, match="no class"):
        evaluation.predict(CHANCES, multi_label=False)


def test_one_image_has_an_interval_without_width_and_no_gain_over_itself():
    metric = evaluation.f1(LABELS[:1], LABELS[:1])
    weights = evaluation.resample_weights(1, 10, seed=0)
    found = evaluation.bootstrap(metric, weights)
    assert (found.value, found.low, found.high) == (1 / COUNT,) * 3
    assert evaluation.paired_bootstrap(metric, metric, weights).p == 1
    for refuses in (
        lambda: evaluation.resample_weights(0, 10, seed=0),
        lambda: evaluation.swaps(0, seed=0),
        lambda: evaluation.jackknife(metric, 1),
        lambda: evaluation.paired_over_seeds([]),
        lambda: evaluation.shift([], [1.0]),
    ):
        with pytest.raises(InputError):
            refuses()


PAIRED = {
    **CORRELATIONS,
    **{name: matching.match for name, matching in MATCHINGS.items() if matching.by != "mask"},
    "divergence": lambda a, b: divergence(a.flatten(1), b.flatten(1), multi_label=True),
}
SINGLE = {**MASKS, "entropy": entropy, "mask_contrast": mask_contrast}
OF_MAPS = {**PAIRED, **{name: lambda a, _, f=f: f(a) for name, f in SINGLE.items()}}
ON_MAPS = pytest.mark.parametrize("of", OF_MAPS.values(), ids=OF_MAPS)


@ON_MAPS
def test_maps_are_not_written_to_and_each_is_compared_on_its_own(of):
    first, second = torch.rand(5, 6, 7), torch.rand(5, 6, 7)
    before = first.clone(), second.clone()
    together = of(first, second)
    assert (first._version, second._version) == (0, 0)
    assert torch.equal(first, before[0])
    assert torch.equal(second, before[1])
    together, order = together if isinstance(together, tuple) else (together,), [3, 0, 4]
    some = of(first[order], second[order])
    for whole, part in zip(together, some if isinstance(some, tuple) else (some,), strict=True):
        torch.testing.assert_close(part, whole[order], rtol=1e-6, atol=1e-7)


@ON_MAPS
def test_no_maps_give_nothing(of):
    found = of(torch.zeros(0, 6, 7), torch.zeros(0, 6, 7))
    for one in found if isinstance(found, tuple) else (found,):
        assert len(one) == 0


def single():
    """A network that knows one class."""
    parts = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(4, 1)).double()


@pytest.mark.parametrize("name", MAPS)
def test_a_network_of_one_class_has_maps(name):
    model, images = single(), pictures(3)
    options = {"layer": "1"} if name == "cam" else {}
    maps = take(name, model, images, **options)
    assert maps.isfinite().all()
    assert torch.equal(maps, take(name, model, images, 0, **options))


@pytest.mark.parametrize("matching", MATCHINGS)
def test_a_loss_takes_one_class_or_one_image_and_refuses_none(matching):
    for model, images in ((single(), pictures(2)), (network("plain"), pictures(1))):
        loss = ConsistencyLoss(model, matching=matching)
        value = loss(images)
        assert value.isfinite()
        gradients = torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)
        assert all(gradient.isfinite().all() for gradient in gradients)
        for empty in (loss, loss.compare, ConsistencyLoss(model, micro_batch=2)):
            with pytest.raises(InputError, match="no images"):
                empty(images[:0])


def test_the_losses_of_table_4_are_those_of_each_image_and_refuse_none():
    model, images = network("plain"), pictures(3)
    losses = partial(monitored_losses, model, layer=model[6], method=method_of(PRESETS["paper"]))
    together, alone = losses(images), losses(images[1:2])
    for key, value in alone.items():
        torch.testing.assert_close(value, together[key][1:2], rtol=1e-10, atol=1e-12)
    with pytest.raises(InputError, match="no images"):
        losses(images[:0])


@pytest.mark.parametrize(
    "target",
    [
        torch.tensor([1, 2]),
        nn.functional.one_hot(torch.tensor([0, 3]), CLASSES),
        torch.rand(2, CLASSES, dtype=torch.float64),
    ],
    ids=["indices", "multi-hot", "weights"],
)
@pytest.mark.parametrize("name", [*MAPS, "loss"])
def test_neither_images_nor_classes_are_written_to(name, target):
    model, images = network("edits"), pictures()  # a network that overwrites its input
    before, version = (images.clone(), target.clone()), target._version
    if name == "loss":
        ConsistencyLoss(model, target=target)(images).backward()
    else:
        take(name, model, images, target)
    assert (images._version, target._version) == (0, version)
    assert torch.equal(images, before[0])
    assert torch.equal(target, before[1])
