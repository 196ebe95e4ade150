"""Layer attention consistency against an explicit version with plain hooks, and its laws."""

import copy

import pytest
import torch
from condition import Breaks, assert_same, condition, prepared
from finite_differences import slopes
from nets import stages
from tiny import CLASSES, NETWORKS, Head, network, pictures
from torch import nn
from torch.nn import functional

from atcon.attention import trace
from atcon.baselines import (
    LayerAttentionLoss,
    attention_consistency,
    attention_separability,
    layer_attention_maps,
    layer_attention_step,
    sum_of,
)
from atcon.baselines.layer_attention import soft_mask, true_and_confusing
from atcon.errors import InputError
from atcon.training import Batch, SupervisedLoss, supervised_step

PAIRS = {
    "plain": ("0", "4"),
    "grouped": ("2", "5"),
    "relu6": ("0", "2"),
    "inplace": ("0", "3"),
    "residual": ("stem", "conv"),
    "functional": ("first", "last"),
    "preactivation": ("stem", "conv"),
    "edits": ("net.0", "net.4"),
    "smooth": ("second.2", "last.1"),
}
"""The two layers of every tiny network."""

LABELS = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
GENTLE = 3.0
"""An omega under which M is no step on networks whose logits are small."""


def net(name):
    """A tiny network that has positive evidence at both layers; "smooth" has it with seed 5."""
    return network(name, seed=5 if name == "smooth" else 3)


def explicit_maps(model, image, layers, label):
    """The maps of one image, by hooks on a copy of the network and two plain gradients."""
    model = copy.deepcopy(model).eval()
    modules, kept = dict(model.named_modules()), {}

    def keep(name):
        def hook(_module, _inputs, output):
            kept[name] = output
            return output.clone()  # an activation in place must not overwrite what was kept

        return hook

    for name in layers:
        modules[name].register_forward_hook(keep(name))
    score = model(image[None].clone())[0]
    maps = []
    for name in layers:
        (gradient,) = torch.autograd.grad(score[label], kept[name], retain_graph=True)
        features, total = kept[name][0], 0
        for k in range(len(features)):
            total = total + gradient[0, k].clamp(min=0).mean() * features[k]
        maps.append(total.clamp(min=0).detach())
    return score.detach(), maps


def explicit_loss(model, image, layers, labels, omega, threshold=0.55, margin=0.8):
    """L_AC, and L_AS at both layers, of one image, written as in the paper."""
    scores, _ = explicit_maps(model, image, layers, 0)
    wrong = [c for c in range(CLASSES) if not (labels is not None and labels[c])]
    true = [c for c in range(CLASSES) if c not in wrong] or [int(scores.argmax())]
    t = max(true, key=lambda c: float(scores[c]))
    _, (inner, last) = explicit_maps(model, image, layers, t)
    mask = 1 / (1 + (-omega * (last - threshold * last.max())).exp())
    resized = functional.interpolate(
        mask[None, None], inner.shape, mode="bilinear", align_corners=False
    )[0, 0]
    consistency = margin - float((inner * resized).sum() / inner.sum())
    if labels is None or not wrong or not labels.any():
        return consistency, 0.0, 0.0
    top = int(scores.argmax())
    conf = top if top in wrong else max(wrong, key=lambda c: float(scores[c]))
    _, others = explicit_maps(model, image, layers, conf)
    separability = [
        float(2 * (torch.min(a, b) * m).sum() / (a + b).sum())
        for a, b, m in zip((inner, last), others, (resized, mask), strict=True)
    ]
    return consistency, *separability


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_is_that_of_plain_hooks_one_image_at_a_time(name):
    model, images = net(name), pictures(3)
    loss = LayerAttentionLoss(model, separability=True, omega=GENTLE)
    value = loss(images, LABELS)
    assert loss.details.layers == PAIRS[name]
    expected = torch.tensor(
        [
            explicit_loss(model, image, PAIRS[name], labels, GENTLE)
            for image, labels in zip(images, LABELS, strict=True)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(loss.details.consistency, expected[:, 0])
    torch.testing.assert_close(loss.details.separability, expected[:, 1:])
    torch.testing.assert_close(value.detach(), expected.sum(dim=1).mean())


@pytest.mark.parametrize("name", NETWORKS)
def test_without_labels_the_top_class_is_explained_and_only_consistency_counts(name):
    model, images = net(name), pictures(3)
    loss = LayerAttentionLoss(model)
    value = loss(images)
    expected = [explicit_loss(model, image, PAIRS[name], None, 100.0)[0] for image in images]
    torch.testing.assert_close(
        loss.details.consistency, torch.tensor(expected, dtype=torch.float64)
    )
    torch.testing.assert_close(value.detach(), loss.details.consistency.mean())
    assert loss.details.separability is None


def test_labels_choose_the_class_of_consistency_too():
    model, images = network("inplace"), pictures(3)
    loss = LayerAttentionLoss(model, omega=GENTLE)
    loss(images, LABELS)
    expected = [
        explicit_loss(model, image, PAIRS["inplace"], labels, GENTLE)[0]
        for image, labels in zip(images, LABELS, strict=True)
    ]
    torch.testing.assert_close(
        loss.details.consistency, torch.tensor(expected, dtype=torch.float64)
    )


def test_clips_are_averaged_over_space_and_time():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv3d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(4, 5, 3, stride=2),
            nn.ReLU(),
            Head(5),
        ).double()
    clips = pictures(6).reshape(2, 3, 3, 12, 12)
    layers = [model[0], model[2]]
    classes = torch.tensor([2, 0])
    found = layer_attention_maps(trace(model, clips, layers), classes)
    for index, (clip, label) in enumerate(zip(clips, classes, strict=True)):
        _, expected = explicit_maps(model, clip, ("0", "2"), int(label))
        for maps, one in zip(found, expected, strict=True):
            torch.testing.assert_close(maps[index], one)
    loss = LayerAttentionLoss(model)
    loss(clips).backward()
    assert loss.details.layers == ("0", "2")
    assert bool(((loss.details.consistency > -0.2) & (loss.details.consistency < 0.8)).all())


@pytest.mark.parametrize("separability", [False, True])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "edits"])
def test_the_gradient_of_the_weights_matches_finite_differences(name, separability):
    model, images = net(name), pictures(3)
    loss = LayerAttentionLoss(model, separability=separability, omega=GENTLE)
    weights = [*model.parameters()]
    gradients = torch.autograd.grad(loss(images, LABELS), weights, materialize_grads=True)
    assert sum(float(gradient.norm()) for gradient in gradients) > 1e-3, "nothing to compare"
    with torch.no_grad():
        for found, expected in slopes(weights, gradients, lambda: loss(images, LABELS)):
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["inplace", "smooth"])
def test_each_image_by_itself_gives_what_the_batch_gives(name):
    model, images = net(name), pictures(3)
    loss = LayerAttentionLoss(model, separability=True, omega=GENTLE)
    value = loss(images, LABELS)
    whole = loss.details
    alone = [loss(images[i : i + 1], LABELS[i : i + 1]).detach() for i in range(3)]
    torch.testing.assert_close(value.detach(), torch.stack(alone).mean())
    loss(images[1:2], LABELS[1:2])
    torch.testing.assert_close(loss.details.separability[0], whole.separability[1])


class Scaled(nn.Module):
    """A network whose logits are multiplied."""

    def __init__(self, net, by):
        super().__init__()
        self.net, self.by = net, by

    def forward(self, x):
        return self.by * self.net(x)


@pytest.mark.parametrize("by", [0.1, 7.0])
def test_to_scale_the_logits_is_to_scale_omega(by):
    """Both sides of the difference in M are in units of the logit, as are the maps."""
    model, images = network("inplace"), pictures(3)
    classes = torch.tensor([1, 2, 0])
    runs = [trace(one, images, [model[0], model[3]]) for one in (model, Scaled(model, by))]
    plain, scaled = (layer_attention_maps(run, classes) for run in runs)
    for maps, larger in zip(plain, scaled, strict=True):
        torch.testing.assert_close(larger, by * maps)
    masks = [soft_mask(maps[1]) for maps in (plain, scaled)]
    torch.testing.assert_close(masks[1], soft_mask(plain[1], omega=100 * by))
    assert torch.equal(masks[0] > 0.5, masks[1] > 0.5)
    losses = (
        LayerAttentionLoss(Scaled(model, by), ("net.0", "net.3"), separability=True, omega=10.0),
        LayerAttentionLoss(model, separability=True, omega=10.0 * by),
    )
    values = [loss(images, LABELS).detach() for loss in losses]
    torch.testing.assert_close(*values)


def test_the_mask_is_a_half_at_the_threshold_and_knows_no_other_image():
    maps = torch.tensor([[0.0, 1.1, 2.0], [0.0, 0.011, 0.02]], dtype=torch.float64)
    expected = torch.tensor([[-110.0, 0, 90], [-1.1, 0, 0.9]], dtype=torch.float64).sigmoid()
    torch.testing.assert_close(soft_mask(maps), expected)
    torch.testing.assert_close(soft_mask(maps)[1:], soft_mask(maps[1:]))


def test_consistency_is_the_margin_less_the_share_inside_the_mask():
    inner = torch.tensor([[[1.0, 3.0], [0.0, 4.0]]], dtype=torch.float64)
    mask = torch.tensor([[[1.0, 0.0], [1.0, 0.5]]], dtype=torch.float64)
    assert attention_consistency(inner, mask).item() == pytest.approx(0.8 - (1 + 2) / 8)
    assert attention_consistency(inner, torch.ones_like(mask)).item() == pytest.approx(-0.2)
    assert attention_consistency(inner, torch.zeros_like(mask)).item() == pytest.approx(0.8)
    assert attention_consistency(3 * inner, mask).item() == pytest.approx(0.8 - 3 / 8)


def test_separability_is_the_overlap_inside_the_mask():
    true = torch.tensor([[2.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    other = torch.tensor([[0.0, 3.0, 0.0, 2.0]], dtype=torch.float64)
    whole = torch.ones_like(true)
    half = torch.tensor([[1.0, 0.5, 0.0, 0.0]], dtype=torch.float64)
    assert attention_separability(true, other, whole).item() == pytest.approx(2 * 1 / 8)
    assert attention_separability(true, other, half).item() == pytest.approx(2 * 0.5 / 8)
    assert attention_separability(true, true, whole).item() == pytest.approx(1)
    assert attention_separability(true, other[:, [1, 0, 3, 2]] * 0, whole).item() == 0
    torch.testing.assert_close(
        attention_separability(true, other, whole), attention_separability(other, true, whole)
    )


def test_true_is_the_highest_label_and_confusing_the_highest_other():
    logits = torch.tensor([[3.0, 2, 1, 0]] * 6)
    labels = torch.tensor(
        [[1, 0, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    )
    true, confusing, both = true_and_confusing(logits, labels)
    assert true.tolist() == [0, 1, 0, 3, 0, 0]
    assert confusing[:4].tolist() == [1, 0, 2, 0]
    assert both.tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [0, 0, 0, 0]], ids=["all", "none"])
def test_images_with_all_labels_or_none_have_nothing_to_separate(labels):
    model, images = network("inplace"), pictures(2)
    table = torch.stack([LABELS[0], torch.tensor(labels)])
    loss = LayerAttentionLoss(model, separability=True, omega=GENTLE)
    loss(images, table)
    seen = loss.details
    expected = explicit_loss(model, images[1], PAIRS["inplace"], None, GENTLE)[0]
    assert seen.consistency[1].item() == pytest.approx(expected)
    assert seen.separability[1].tolist() == [0, 0]
    assert seen.separability[0].min() > 0
    assert seen.confusing[1] == -1
    assert seen.confusing[0] >= 0
    only = loss(images[1:], table[1:])
    found = torch.autograd.grad(only, [*model.parameters()], materialize_grads=True)
    without = torch.autograd.grad(
        LayerAttentionLoss(model, omega=GENTLE)(images[1:]),
        [*model.parameters()],
        materialize_grads=True,
    )
    torch.testing.assert_close(found, without)


@pytest.mark.parametrize("silent", [("0",), ("4",), ("0", "4")], ids=["inner", "last", "both"])
def test_maps_without_evidence_give_finite_values_and_gradients(silent):
    """A convolution with a large negative shift has no positive evidence anywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.SiLU(), nn.Dropout(), nn.Identity(),
            nn.Conv2d(4, 5, 3, padding=1), nn.SiLU(), Head(5),
        ).double()  # fmt: skip
    with torch.no_grad():
        for name in ("0", "4"):
            model[int(name)].bias.fill_(-20.0 if name in silent else 5.0)
    loss = LayerAttentionLoss(model, ("0", "4"), separability=True)
    value = loss(pictures(2), LABELS[:2])
    value.backward()
    assert value.isfinite()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    evidence = loss.details.evidence.any(dim=0).tolist()
    assert [not found for found in evidence] == ["0" in silent, "4" in silent]
    assert [warning.split("at ")[1].split(",")[0] for warning in loss.details.warnings] == [*silent]
    if "0" in silent:
        assert loss.details.consistency.tolist() == [0.8, 0.8]
        assert loss.details.separability[:, 0].tolist() == [0, 0]
    if "4" in silent:
        assert loss.details.separability[:, 1].tolist() == [0, 0]
        assert loss.details.mask_contrast.tolist() == [0, 0]
    if silent == ("4",):
        torch.testing.assert_close(
            loss.details.consistency, torch.tensor([0.3, 0.3], dtype=torch.float64)
        )


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e12])
def test_no_evidence_has_no_gradient_and_tiny_evidence_a_finite_one(size):
    mask = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    for measure in (
        lambda maps: attention_consistency(maps, mask),
        lambda maps: attention_separability(maps, torch.zeros_like(maps) + size, mask),
    ):
        maps = torch.full((1, 4), size, requires_grad=True)
        value = measure(maps)
        value.sum().backward()
        assert value.isfinite().all()
        assert maps.grad.isfinite().all()
        assert bool((maps.grad == 0).all()) == (size < 1e-19)


def test_what_is_not_finite_is_not_hidden():
    inner = torch.tensor([[torch.nan, 1.0]])
    assert attention_consistency(inner, torch.ones(1, 2)).isnan().all()


@pytest.mark.parametrize("separability", [False, True])
def test_the_loss_lies_within_its_bounds(separability):
    for seed in range(5):
        model = network("inplace", seed=seed)
        loss = LayerAttentionLoss(model, separability=separability)
        loss(pictures(3, seed=seed), LABELS)
        seen = loss.details
        assert seen.consistency.min() >= -0.2
        assert seen.consistency.max() <= 0.8
        if separability:
            assert seen.separability.min() >= 0
            assert seen.separability.max() <= 1


def test_a_step_down_the_gradient_lowers_the_loss():
    model, images = network("inplace"), pictures(3)
    loss = LayerAttentionLoss(model, separability=True, omega=GENTLE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = loss(images, LABELS)
    for _ in range(5):
        optimizer.zero_grad()
        loss(images, LABELS).backward()
        optimizer.step()
    assert loss(images, LABELS) < before


@pytest.mark.parametrize("name", NETWORKS)
def test_the_model_is_given_back_as_it_was(name):
    model, images = prepared(name), pictures(3)
    before, pictures_before = condition(model), images.clone()
    LayerAttentionLoss(model)(images)
    LayerAttentionLoss(model, separability=True)(images, LABELS)
    assert_same(before, condition(model))
    assert torch.equal(images, pictures_before)


def test_the_model_is_given_back_after_an_exception():
    model = Breaks().train()
    before = condition(model)
    with pytest.raises(RuntimeError, match="out of paper"):
        LayerAttentionLoss(model, ("net.net.0", "net.net.4"))(pictures())
    assert_same(before, condition(model))


def test_training_mode_changes_nothing():
    model, images = stages(), pictures(3)
    loss = LayerAttentionLoss(model, separability=True, omega=GENTLE)
    values = [loss.train(mode)(images, LABELS).detach() for mode in (False, True)]
    assert torch.equal(*values)
    assert model.training


def test_under_no_grad_the_value_is_the_same_and_has_no_graph():
    model, images = network("inplace"), pictures(3)
    loss = LayerAttentionLoss(model, separability=True)
    with torch.no_grad():
        silent = loss(images, LABELS)
    assert not silent.requires_grad
    torch.testing.assert_close(silent, loss(images, LABELS).detach())
    with torch.inference_mode():
        inferred = loss(pictures(3), LABELS)
    torch.testing.assert_close(inferred.clone(), silent)


def test_under_autocast_maps_are_compared_in_float32():
    model, images = network("inplace", dtype=torch.float32), pictures(3, dtype=torch.float32)
    loss = LayerAttentionLoss(model, separability=True, omega=GENTLE)
    exact = loss(images, LABELS).detach()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss(images, LABELS)
    rounded.backward()
    assert rounded.dtype == loss.details.consistency.dtype == torch.float32
    assert 0 < float((rounded.detach() - exact).abs()) < 0.05


def test_layers_can_be_named_or_given_and_are_kept_by_name():
    model, images = network("plain"), pictures()
    by_name = LayerAttentionLoss(model, ("2", "6"))
    by_module = LayerAttentionLoss(model, [model[2], model[6]])
    torch.testing.assert_close(by_name(images), by_module(images))
    assert by_name.details.layers == by_module.details.layers == ("2", "6")
    assert [name for name, _ in by_module.named_children()] == ["model"]


@pytest.mark.parametrize("layers", ["features", ("0",), ("0", "2", "4")])
def test_any_other_number_of_layers_is_refused(layers):
    with pytest.raises(InputError, match="layers must be two, the inner one and the last one"):
        LayerAttentionLoss(network("plain"), layers)


def test_the_same_layer_twice_is_refused():
    with pytest.raises(InputError, match="the inner and the last layer are the same: 4"):
        LayerAttentionLoss(network("plain"), ("4", "4"))(pictures())


@pytest.mark.parametrize("wrong", [{"omega": 0.0}, {"threshold": 0.0}, {"threshold": 1.0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="omega must be above 0 and threshold between 0 and 1"):
        LayerAttentionLoss(network("plain"), **wrong)


def test_separability_without_labels_is_refused():
    with pytest.raises(InputError, match="call the loss with images and labels"):
        LayerAttentionLoss(network("plain"), separability=True)(pictures())


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 1]), torch.full((2, CLASSES), 0.5), torch.zeros(3, CLASSES)]
)
def test_labels_that_are_no_table_of_zeros_and_ones_are_refused(labels):
    with pytest.raises(InputError, match=r"labels must be a table of 0 and 1, .*\(2, 4\)"):
        LayerAttentionLoss(network("plain"))(pictures(2), labels)


def batch(labels=LABELS):
    return Batch(pictures(3), labels.double(), ("a", "b", "c"))


def test_a_fine_tuning_step_does_not_look_at_the_labels():
    loss = LayerAttentionLoss(network("inplace"))
    step = layer_attention_step(loss, loss)
    found, other = step(batch()), step(batch(1 - LABELS))
    torch.testing.assert_close(found.loss.detach(), loss(pictures(3)).detach())
    assert float(found.loss.detach()) == pytest.approx(found.logged["layer_consistency"])
    assert torch.equal(found.loss, other.loss)
    assert found.logged == other.logged
    assert found.logged["layer_mask_contrast"] == pytest.approx(
        loss.details.mask_contrast.mean().item()
    )
    assert found.logged["layer_evidence"] == 1


def test_a_full_step_is_the_sum_of_its_three_terms_and_the_supervised_loss():
    model = stages()
    full = LayerAttentionLoss(model, separability=True, omega=GENTLE)
    supervised = SupervisedLoss(model, multi_label=True, batch_norm="frozen")
    model.stages[0][3].p = model.stages[1][3].p = model.stages[2][3].p = 0.0
    step = sum_of(supervised_step(supervised), layer_attention_step(full, full))
    outcome = step(batch())
    terms = outcome.logged
    entropy = functional.binary_cross_entropy_with_logits(
        copy.deepcopy(model).eval()(pictures(3)), LABELS.double()
    )
    expected = terms["layer_consistency"] + terms["separability_inner"] + terms["separability_last"]
    assert float(outcome.loss.detach()) == pytest.approx(expected + float(entropy.detach()))
    assert min(terms["separability_inner"], terms["separability_last"]) > 0
    outcome.loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
