import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import expit, softmax
from scipy.stats import entropy as shannon
from scipy.stats import pearsonr
from tiny import network, pictures
from torch import nn

from atcon import explain
from atcon.consistency import PRESETS, compare, method_of
from atcon.errors import InputError
from atcon.training.signals import (
    SIGNALS,
    Probe,
    calibration_gap,
    class_balance,
    confidence,
    drift,
    entropy,
    flips,
    glance,
    map_stability,
    mirrored,
    signals_between,
    view_agreement,
)

KINDS = pytest.mark.parametrize("multi_label", [True, False], ids=["sigmoid", "softmax"])


def logits(seed: int, images: int = 6, classes: int = 4, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(images, classes, dtype=torch.float64, generator=generator)


def distributions(values: torch.Tensor, multi_label: bool) -> list[np.ndarray]:
    """Every decision's distribution, by NumPy and SciPy."""
    if multi_label:
        return [np.array([expit(x), 1 - expit(x)]) for x in values.flatten().numpy()]
    return list(softmax(values.numpy(), axis=1))


PAIRS = {
    "drift": drift,
    "flips": flips,
    "view_agreement": view_agreement,
    "calibration_gap": calibration_gap,
}
SINGLES = {"confidence": confidence, "entropy": entropy, "class_balance": class_balance}


@KINDS
def test_drift_is_scipys_jensen_shannon_divergence_in_bits(multi_label):
    now, start = logits(0), logits(1)
    pairs = zip(distributions(now, multi_label), distributions(start, multi_label), strict=True)
    expected = np.mean([jensenshannon(p, q, base=2) ** 2 for p, q in pairs])
    assert drift(now, start, multi_label=multi_label) == pytest.approx(expected, rel=1e-9)
    agreement = view_agreement(now, start, multi_label=multi_label)
    assert agreement == pytest.approx(1 - expected, rel=1e-9)


@KINDS
def test_the_start_has_not_drifted_from_itself(multi_label):
    start = logits(0, scale=30)
    assert drift(start, start, multi_label=multi_label) == 0
    assert flips(start, start, multi_label=multi_label) == 0
    assert view_agreement(start, start, multi_label=multi_label) == 1


@KINDS
def test_drift_is_symmetric_and_grows_along_a_line(multi_label):
    start, step = logits(0), logits(1)
    far = [drift(start + t * step, start, multi_label=multi_label) for t in (0, 0.1, 0.3, 1, 3)]
    assert far == sorted(far)
    assert far[-1] <= 1
    back = drift(start, start + step, multi_label=multi_label)
    assert back == pytest.approx(far[3], rel=1e-12)


@KINDS
def test_opposite_certain_predictions_are_one_bit_apart(multi_label):
    certain = 2000 * (2 * torch.eye(4, dtype=torch.float64)[[0, 1]] - 1)
    other = -certain if multi_label else certain.flip(0)
    assert drift(certain, other, multi_label=multi_label) == pytest.approx(1, abs=1e-12)


def test_flips_count_class_decisions_or_the_top_class():
    start = torch.tensor([[1.0, -1.0, 3.0], [-1.0, -2.0, -3.0]])
    now = torch.tensor([[2.0, 1.0, 0.5], [-4.0, -2.0, -3.0]])
    assert flips(now, start, multi_label=True) == pytest.approx(1 / 6)
    assert flips(now, start, multi_label=False) == 1
    assert flips(now[:1] * 0.5, now[:1], multi_label=False) == 0


def test_map_stability_is_scipys_mean_correlation():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 5, 4, 3, dtype=torch.float64, generator=generator)
    expected = np.mean(
        [pearsonr(a.flatten(), b.flatten())[0] for a, b in zip(one, other, strict=True)]
    )
    assert map_stability(one, other) == pytest.approx(expected, rel=1e-9)
    assert map_stability(one, 3 * one + 2) == pytest.approx(1)
    assert map_stability(one, -one) == pytest.approx(-1)
    assert map_stability(one, torch.ones_like(one)) == 0


@KINDS
def test_confidence_and_entropy_are_those_of_the_decisions(multi_label):
    values = logits(2)
    rows = distributions(values, multi_label)
    expected = np.mean([row.max() for row in rows])
    assert confidence(values, multi_label=multi_label) == pytest.approx(expected, rel=1e-9)
    expected = np.mean([shannon(row, base=len(row)) for row in rows])
    assert entropy(values, multi_label=multi_label) == pytest.approx(expected, rel=1e-9)
    assert entropy(torch.zeros(2, 4), multi_label=multi_label) == pytest.approx(1)


@KINDS
def test_the_calibration_gap_is_confidence_minus_equal_decisions(multi_label):
    values, view = logits(3), logits(4)
    if multi_label:
        agreement = np.mean((expit(values.numpy()) > 0.5) == (expit(view.numpy()) > 0.5))
    else:
        agreement = np.mean(values.numpy().argmax(1) == view.numpy().argmax(1))
    rows = [*distributions(values, multi_label), *distributions(view, multi_label)]
    expected = np.mean([row.max() for row in rows]) - agreement
    found = calibration_gap(values, view, multi_label=multi_label)
    assert found == pytest.approx(expected, rel=1e-9)
    assert calibration_gap(view, values, multi_label=multi_label) == pytest.approx(found)


@KINDS
def test_certain_and_reproducible_has_no_gap_certain_and_random_has_one(multi_label):
    certain = 100 * (2 * torch.eye(4, dtype=torch.float64) - 1)
    assert calibration_gap(certain, certain, multi_label=multi_label) == pytest.approx(0)
    other = -certain if multi_label else certain.flip(0)
    assert calibration_gap(certain, other, multi_label=multi_label) == pytest.approx(1)


def test_for_a_calibrated_ensemble_of_one_score_agreement_is_accuracy():
    """Generalised disagreement equality: votes and labels drawn from the same probabilities."""
    random = np.random.default_rng(0)
    p = random.uniform(0.05, 0.95, 200_000)
    label, one, other = (random.random(len(p)) < p for _ in range(3))
    assert np.mean(one == other) == pytest.approx(np.mean(one == label), abs=0.005)


@KINDS
def test_class_balance_is_the_entropy_of_the_mean_prediction(multi_label):
    values = logits(5)
    numbers = values.numpy()
    mean = (expit(numbers) if multi_label else softmax(numbers, axis=1)).mean(axis=0)
    found = class_balance(values, multi_label=multi_label)
    assert found == pytest.approx(shannon(mean, base=4), rel=1e-9)  # SciPy divides by the sum
    assert class_balance(values[:, :1], multi_label=multi_label) == 1


@KINDS
def test_balance_is_one_for_every_class_once_and_zero_for_one_class_always(multi_label):
    each = 50 * (2 * torch.eye(4, dtype=torch.float64) - 1)
    assert class_balance(each, multi_label=multi_label) == pytest.approx(1)
    assert class_balance(each[[0, 0, 0]], multi_label=multi_label) == pytest.approx(0, abs=1e-12)


@KINDS
@pytest.mark.parametrize("name", PAIRS)
def test_the_order_of_the_images_does_not_matter_to_a_comparison(name, multi_label):
    values, other = logits(0), logits(1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = PAIRS[name](values[order], other[order], multi_label=multi_label)
    assert shuffled == pytest.approx(PAIRS[name](values, other, multi_label=multi_label), rel=1e-12)


@KINDS
@pytest.mark.parametrize("name", SINGLES)
def test_the_order_of_the_images_does_not_matter_to_a_signal(name, multi_label):
    values = logits(0)
    shuffled = SINGLES[name](values[[3, 0, 5, 1, 4, 2]], multi_label=multi_label)
    assert shuffled == pytest.approx(SINGLES[name](values, multi_label=multi_label), rel=1e-12)


@KINDS
@pytest.mark.parametrize("name", PAIRS)
def test_other_images_are_refused(name, multi_label):
    with pytest.raises(InputError, match=r"the same probe images.*\(6, 4\).*\(5, 4\)"):
        PAIRS[name](logits(0), logits(0, images=5), multi_label=multi_label)


# the probe


def moved(model: nn.Module, by: float, seed: int = 0) -> nn.Module:
    """Move every weight at random, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, dtype=weight.dtype, generator=generator)
            weight.add_(by * noise)
    return model


@KINDS
def test_a_probe_gives_the_signals_of_independent_passes(multi_label):
    images, start = pictures(5), network("residual")
    probe = Probe(start, images, multi_label=multi_label, batch_size=2)
    first = probe(start)
    model = moved(network("residual"), 0.1)
    found = probe(model)
    with torch.no_grad():
        before, after = start(images), model(images)
        view = model(images.flip(-1))
    top = before.argmax(dim=1)
    maps = [explain(one, images, "grad_cam", top) for one in (start, model)]
    kind = {"multi_label": multi_label}
    expected = {
        "drift": drift(after, before, **kind),
        "flips": flips(after, before, **kind),
        "map_stability": map_stability(*maps),
        "map_fidelity": map_stability(*maps),
        "view_agreement": view_agreement(after, view, **kind),
        "confidence": confidence(after, **kind),
        "entropy": entropy(after, **kind),
        "calibration_gap": calibration_gap(after, view, **kind),
        "class_balance": class_balance(after, **kind),
    }
    assert found == pytest.approx(expected, rel=1e-9)
    assert found["drift"] > 1e-4
    assert first["drift"] == first["flips"] == 0
    assert first["map_fidelity"] == pytest.approx(1)
    assert set(first) == set(found) - {"map_stability"}  # no epoch before the first


def test_with_a_method_consistency_is_algorithm_1_and_the_rest_is_the_same():
    images, model = pictures(5), network("residual")
    method = method_of(PRESETS["default"])
    plain = Probe(model, images, multi_label=True)
    watching = Probe(model, images, multi_label=True, method=method, batch_size=3)
    moved(model, 0.1)
    found = watching(model)
    layer = model.get_submodule(watching.layer)
    seen = compare(model, images, {"layer": layer}, method, target=plain.classes)
    expected = {**plain(model), "consistency": float(seen.correlation.mean())}
    assert found == pytest.approx(expected, rel=1e-9)


def test_map_stability_compares_with_the_epoch_before_and_fidelity_with_the_start():
    images, model = pictures(4), network("residual")
    probe = Probe(model, images, multi_label=True)
    maps = [explain(model, images, "grad_cam", probe.classes)]
    rows = [probe(model)]
    for epoch in (1, 2):
        moved(model, 0.1, seed=epoch)
        maps.append(explain(model, images, "grad_cam", probe.classes))
        rows.append(probe(model))
    for epoch in (1, 2):
        before = map_stability(maps[epoch], maps[epoch - 1])
        assert rows[epoch]["map_stability"] == pytest.approx(before)
        assert rows[epoch]["map_fidelity"] == pytest.approx(map_stability(maps[epoch], maps[0]))
    assert rows[2]["map_stability"] != pytest.approx(rows[2]["map_fidelity"])


def test_a_resumed_probe_goes_on_as_if_never_stopped():
    images, start = pictures(4), network("residual")
    whole = Probe(start, images, multi_label=True)
    model = network("residual")
    for epoch in range(3):
        expected = whole(moved(model, 0.05, seed=epoch))
    resumed = Probe(start, images, multi_label=True)
    model = network("residual")
    for epoch in range(2):
        moved(model, 0.05, seed=epoch)
    resumed.resume(model)
    assert resumed(moved(model, 0.05, seed=2)) == expected


@pytest.mark.parametrize("name", ["plain", "edits", "inplace"])
@pytest.mark.parametrize("preset", [None, "default"])
def test_the_model_is_given_back_as_it_was(name, preset):
    model, images = network(name).train(), pictures(4)
    model[0].eval() if isinstance(model, nn.Sequential) else model.net.eval()
    method = None if preset is None else method_of(PRESETS[preset])
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    copied, random = images.clone(), torch.get_rng_state()
    Probe(model, images, multi_label=True, method=method)(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(images, copied)
    assert torch.equal(torch.get_rng_state(), random)


def test_what_was_seen_keeps_no_graph():
    model, images = network("plain"), pictures(3)
    seen = glance(model, images, "4")
    assert not any(x.requires_grad for x in (seen.logits, seen.view_logits, seen.maps))


@KINDS
def test_a_probe_is_a_function_of_model_and_images(multi_label):
    images, model = pictures(6), moved(network("plain"), 0.1)
    start = network("plain")  # has dropout, which a probe must not draw
    method = method_of(PRESETS["default"])

    def seen(order: list[int], batch_size: int) -> dict[str, float]:
        probe = Probe(
            start, images[order], multi_label=multi_label, method=method, batch_size=batch_size
        )
        probe(start)
        return probe(model)

    expected = seen(list(range(6)), 6)
    assert seen(list(range(6)), 6) == expected
    assert seen([4, 2, 0, 5, 1, 3], 4) == pytest.approx(expected, rel=1e-9)
    assert set(expected) == set(SIGNALS)


def test_a_probe_works_under_no_grad():
    images, model = pictures(3), network("residual")
    expected = Probe(model, images, multi_label=True)(model)
    with torch.no_grad():
        assert Probe(model, images, multi_label=True)(model) == expected


def test_signals_that_are_not_defined_are_left_out():
    model, images = network("residual"), pictures(3)
    probe = Probe(model, images, multi_label=True)
    assert all(math.isfinite(value) for value in probe(model).values())
    with torch.no_grad():
        model.head.fc.bias[0] = torch.nan
    seen = glance(model, images, probe.layer, probe.classes)
    assert signals_between(seen, probe.start, multi_label=True) == {}


def test_the_mirror_image_flips_the_columns_of_images_and_of_every_frame():
    assert mirrored(torch.tensor([[[[1, 2], [3, 4]]]])).tolist() == [[[[2, 1], [4, 3]]]]
    clip = torch.arange(8).reshape(1, 1, 2, 2, 2)
    assert torch.equal(mirrored(clip)[:, :, 1], mirrored(clip[:, :, 1]))


def test_no_images_are_refused():
    with pytest.raises(InputError, match="got 0 images in batches of 32"):
        Probe(network("plain"), pictures(1)[:0], multi_label=True)
    with pytest.raises(InputError, match="1 images in batches of 0"):
        Probe(network("plain"), pictures(1), multi_label=True, batch_size=0)
