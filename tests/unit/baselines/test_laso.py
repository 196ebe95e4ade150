import copy
from itertools import product

import pytest
import torch
from finite_differences import slopes
from tiny import network, pictures
from torch import nn
from torch.nn import functional

from atcon.baselines.laso import LaSOLoss, fit_classifier, laso_step, partners, union_features
from atcon.baselines.laso_losses import (
    LAWS,
    OPERATIONS,
    laso_losses,
    nested_expressions,
    simple_expressions,
)
from atcon.baselines.laso_networks import LaSO, SetOperation, fresh_linear
from atcon.errors import InputError
from atcon.training import Batch

SETS = [{c for c in range(4) if bits >> c & 1} for bits in range(16)]
SIX = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1.0]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def hot(labels):
    return torch.tensor([float(c in labels) for c in range(4)])


def small(dropout=0.0, seed=0, dtype=torch.float64, features=5):
    return LaSO(features, 3, 7, 9, dropout=dropout, generator=seeded(seed)).to(dtype)


def pairs(count=6, seed=1, dtype=torch.float64):
    """Features and labels of images and of their partners."""
    make = seeded(seed)
    features = torch.randn(2, count, 5, generator=make, dtype=torch.float64)
    labels = torch.randint(2, (2, count, 3), generator=make)
    return *features.to(dtype), *labels.to(dtype)


def six_images(noise=0.1):
    """Features that show each label by its sign."""
    drawn = torch.randn(6, 6, generator=seeded(2))
    return 2 * (2 * SIX - 1).repeat(1, 2) + noise * drawn


def every_expression(operations, a, b):
    simple = simple_expressions(operations, a, b)
    return simple | nested_expressions(operations, simple)


def test_operations_on_label_vectors_are_those_on_sets():
    a, b = (torch.stack([hot(pair[i]) for pair in product(SETS, SETS)]) for i in (0, 1))
    by_sets = {"union": set.union, "intersection": set.intersection, "subtraction": set.difference}
    assert OPERATIONS.keys() == by_sets.keys()
    for name, operation in OPERATIONS.items():
        expected = torch.stack([hot(by_sets[name](x, y)) for x, y in product(SETS, SETS)])
        assert torch.equal(operation(a, b), expected), name


def test_every_expression_is_what_python_makes_of_its_name():
    a, b = (torch.stack([hot(pair[i]) for pair in product(SETS, SETS)]) for i in (0, 1))
    found = every_expression(OPERATIONS, a, b)
    assert len(found) == 20
    for name, labels in found.items():
        values = [eval(name, {"a": x, "b": y}) for x, y in product(SETS, SETS)]  # noqa: S307  names of ours
        assert torch.equal(labels, torch.stack([hot(value) for value in values])), name


def test_every_law_holds_for_sets():
    a, b = (torch.stack([hot(pair[i]) for pair in product(SETS, SETS)]) for i in (0, 1))
    found = every_expression(OPERATIONS, a, b)
    laws = [pair for group in LAWS.values() for pair in group]
    assert len(laws) == len(set(laws)) == 14
    assert all(torch.equal(found[left], found[right]) for left, right in laws)
    assert {name for pair in laws for name in pair} == found.keys()  # none is left without a law


def test_laws_of_a_and_b_come_in_pairs():
    swap = str.maketrans("ab", "ba")
    for law in ("tautology", "reconstruction"):
        assert {(x.translate(swap), y.translate(swap)) for x, y in LAWS[law]} == set(LAWS[law])


def naive_losses(laso, a, b, la, lb):
    """The method written out once more, as the authors' code does: every call by hand."""

    def classified(feature, labels):
        logits = feature @ laso.classifier.weight.T + laso.classifier.bias
        p = torch.sigmoid(logits)
        return -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()

    def distance(x, y):
        return (x - y).pow(2).mean()

    sub, both, uni = laso.subtract, laso.intersect, laso.union
    ab, ba = sub(a, b), sub(b, a)
    iab, iba = both(a, b), both(b, a)
    uab, uba = uni(a, b), uni(b, a)
    sets = {"i": la * lb, "u": (la + lb).clamp(max=1), "s": la * (1 - lb), "r": lb * (1 - la)}
    abb, baa, iabb, ibaa = sub(ab, b), sub(ba, a), both(iab, b), both(iba, a)
    uabb, ubaa = uni(uab, b), uni(uba, a)
    rest_a, rest_b = sub(a, iba), sub(b, iab)
    other_a, other_b = sub(a, iab), sub(b, iba)
    again_a, again_b = uni(rest_a, iab), uni(rest_b, iba)
    classification = sum(
        classified(feature, labels)
        for group, labels in (
            ((a, again_a), la),
            ((b, again_b), lb),
            ((ab, abb, rest_a, other_a), sets["s"]),
            ((ba, baa, rest_b, other_b), sets["r"]),
            ((iab, iba, iabb, ibaa), sets["i"]),
            ((uab, uba, uabb, ubaa), sets["u"]),
        )
        for feature in group
    )
    tautology = sum(
        distance(x, y)
        for x, y in (
            *((ab, x) for x in (abb, rest_a, other_a)),
            *((ba, x) for x in (baa, rest_b, other_b)),
            *((iab, iabb), (iba, ibaa), (uab, uabb), (uba, ubaa)),
        )
    )
    return {
        "classification": classification,
        "tautology": tautology,
        "symmetry": distance(iab, iba) + distance(uab, uba),
        "reconstruction": distance(a, again_a) + distance(b, again_b),
    }


@pytest.mark.parametrize("training", [True, False])
def test_losses_are_those_of_the_method_written_out(training):
    laso = small().train(training)
    losses = laso_losses(laso, *pairs())
    for kind, expected in naive_losses(small().train(training), *pairs()).items():
        found = sum(value for name, value in losses.items() if name.startswith(f"{kind}:"))
        torch.testing.assert_close(found, expected)
    assert len(losses) == 34


def test_one_loss_is_that_of_its_name():
    laso, (a, b, labels_a, labels_b) = small().eval(), pairs()
    losses = laso_losses(laso, a, b, labels_a, labels_b)
    torch.testing.assert_close(
        losses["symmetry: b | a = a | b"], functional.mse_loss(laso.union(b, a), laso.union(a, b))
    )
    torch.testing.assert_close(
        losses["classification: a - b"],
        functional.binary_cross_entropy_with_logits(
            laso.classifier(laso.subtract(a, b)), labels_a * (1 - labels_b)
        ),
    )


def test_swapping_the_images_swaps_the_losses():
    laso, (a, b, labels_a, labels_b) = small(), pairs()
    forward = laso_losses(laso, a, b, labels_a, labels_b)
    backward = laso_losses(laso, b, a, labels_b, labels_a)
    swap = str.maketrans("ab", "ba")
    for kind in ("classification", "reconstruction", "tautology"):
        for name in (name for name in forward if name.startswith(kind)):
            twin = kind + name.removeprefix(kind).translate(swap)
            torch.testing.assert_close(forward[name], backward[twin])


def test_gradients_match_finite_differences():
    laso, (a, b, labels_a, labels_b) = small(), pairs()
    moved = [*laso.parameters(), a.requires_grad_(), b.requires_grad_()]

    def value():
        return torch.stack(list(laso_losses(laso, a, b, labels_a, labels_b).values())).sum()

    gradients = torch.autograd.grad(value(), moved)
    assert all(gradient.isfinite().all() for gradient in gradients)
    for by_gradients, by_difference in slopes(moved, gradients, lambda: value().detach()):
        assert by_gradients == pytest.approx(by_difference, rel=1e-6)


def test_every_parameter_is_trained():
    laso = small()
    total = torch.stack(list(laso_losses(laso, *pairs()).values())).sum()
    gradients = torch.autograd.grad(total, list(laso.parameters()))
    first_biases = [
        id(operation.layers[k].bias)
        for operation in (laso.subtract, laso.intersect, laso.union)
        for k in (0, 4)
    ]
    for parameter, gradient in zip(laso.parameters(), gradients, strict=True):
        if id(parameter) in first_biases:  # BatchNorm takes it away again
            assert gradient.abs().max() < 1e-12
        else:
            assert gradient.abs().max() > 1e-6


def test_a_network_is_what_the_paper_draws():
    network = SetOperation(5, 7, dropout=0.5, generator=seeded()).double().eval()
    weights = dict(network.layers.named_parameters())
    a, b = pairs()[:2]
    x = torch.cat([a, b], dim=1)
    for linear in ("0", "4"):
        x = x @ weights[f"{linear}.weight"].T + weights[f"{linear}.bias"]
        x = x / (1 + 1e-5) ** 0.5  # BatchNorm that has seen nothing yet
        x = torch.where(x > 0, x, 0.2 * x)
    expected = x @ weights["8.weight"].T + weights["8.bias"]
    torch.testing.assert_close(network(a, b), expected)
    assert [type(layer).__name__ for layer in network.layers] == [
        *("Linear", "BatchNorm1d", "LeakyReLU", "Dropout") * 2,
        "Linear",
    ]
    assert network.layers[3].p == network.layers[7].p == 0.5


def test_the_default_sizes_are_those_of_the_paper():
    with torch.device("meta"):
        laso = LaSO(16, 4, generator=torch.Generator("cpu"))
    sizes = [laso.union, laso.intersect, laso.subtract]
    assert [one.layers[4].weight.shape[0] for one in sizes] == [2048, 2048, 8192]


def test_in_evaluation_mode_samples_do_not_interact_and_nothing_is_drawn():
    laso, (a, b, *_) = small(dropout=0.5).eval(), pairs()
    random = torch.get_rng_state()
    whole = laso.union(a, b)
    torch.testing.assert_close(
        whole, torch.cat([laso.union(a[i : i + 1], b[i : i + 1]) for i in range(6)])
    )
    assert torch.equal(torch.get_rng_state(), random)


def test_in_training_mode_dropout_and_the_batch_matter():
    (a, b, *_), laso = pairs(), small().train()
    assert not torch.allclose(laso.union(a, b)[:3], laso.union(a[:3], b[:3]))
    laso = small(dropout=0.5).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.allclose(laso.union(a, b), laso.union(a, b))


def test_running_statistics_are_those_of_real_pairs():
    laso, (a, b, *labels) = small().train(), pairs()
    for norm in (m for m in laso.modules() if isinstance(m, nn.BatchNorm1d)):
        norm.momentum = 0.3
    twin = copy.deepcopy(laso)
    laso_losses(laso, a, b, *labels)
    for name, operation in twin.operations.items():
        operation(a, b), operation(b, a)
        for (key, expected), found in zip(
            operation.named_buffers(), laso.operations[name].buffers(), strict=True
        ):
            if "running" in key:
                torch.testing.assert_close(found, expected)
    assert {m.momentum for m in laso.modules() if isinstance(m, nn.BatchNorm1d)} == {0.3}


def test_evaluation_leaves_the_networks_as_they_were():
    laso = small().eval()
    before = {name: value.clone() for name, value in laso.state_dict().items()}
    laso_losses(laso, *pairs())
    assert all(torch.equal(value, before[name]) for name, value in laso.state_dict().items())


def test_six_images_are_learnt_and_every_operation_is_right_in_evaluation_mode():
    first, second = torch.cartesian_prod(torch.arange(6), torch.arange(6)).T
    features, labels = six_images(), SIX
    laso = LaSO(6, 3, 24, 24, dropout=0.0, generator=seeded()).train()
    optimizer = torch.optim.Adam(laso.parameters(), lr=0.02)
    data = features[first], features[second], labels[first], labels[second]
    for _ in range(150):
        optimizer.zero_grad()
        torch.stack(list(laso_losses(laso, *data).values())).sum().backward()
        optimizer.step()
    losses = laso_losses(laso, *data)
    assert {name: x.item() for name, x in losses.items() if x > 0.05} == {}
    laso.eval()
    for name, operation in laso.operations.items():
        predicted = (laso(operation(*data[:2])) > 0).float()
        assert torch.equal(predicted, OPERATIONS[name](*data[2:])), name


def test_weights_come_from_the_generator_alone():
    random = torch.get_rng_state()
    state = small(seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), random)
    again, other = small(seed=3).state_dict(), small(seed=4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    assert not torch.equal(state["union.layers.0.weight"], other["union.layers.0.weight"])
    assert not torch.equal(state["union.layers.0.weight"], state["intersect.layers.0.weight"])


def test_fresh_weights_are_distributed_as_pytorch_draws_them():
    layer = fresh_linear(16, 4000, seeded())
    for values in (layer.weight.detach(), layer.bias.detach()):
        assert values.abs().max() <= 0.25
        assert values.mean().abs() < 0.01
        assert values.std() == pytest.approx(0.5 / 12**0.5, rel=0.03)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_nobody_is_his_own_partner_and_everybody_is_somebodys(count):
    for seed in range(20):
        partner = partners(count, seeded(seed)).tolist()
        assert sorted(partner) == list(range(count))
        assert all(i != j for i, j in enumerate(partner))


def test_all_partnerships_are_equally_likely():
    make = seeded()
    drawn = [tuple(partners(4, make).tolist()) for _ in range(3000)]
    counts = [drawn.count(one) for one in set(drawn)]
    assert len(counts) == 6  # cycles through four images
    assert min(counts) > 420
    assert max(counts) < 580


def backbone_loss(seed=5, **options):
    model = network("plain").train()
    laso = LaSO(5, 4, 7, 9, dropout=0.0, generator=seeded()).double()
    return LaSOLoss(laso, model, "7.fc", generator=seeded(seed), **options)


def four_labels():
    return torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]]).double()


def test_the_loss_is_the_sum_over_the_batch_and_its_partners():
    loss, images, labels = backbone_loss(), pictures(4), four_labels()
    value = loss(images, labels)
    twin = backbone_loss()
    pooled = twin.model.eval()[:7](images).mean(dim=(2, 3))
    partner = partners(4, seeded(5))
    expected = laso_losses(twin.laso.train(), pooled, pooled[partner], labels, labels[partner])
    torch.testing.assert_close(value, sum(expected.values()))
    assert loss.details == pytest.approx({name: x.item() for name, x in expected.items()})


def test_the_set_operations_train_on_the_batch_also_after_a_validation():
    images, labels, loss = pictures(4), four_labels(), backbone_loss()
    loss.laso.eval()
    torch.testing.assert_close(loss(images, labels), backbone_loss()(images, labels))
    assert loss.laso.training


def test_the_backbone_is_a_constant_unless_it_is_thawed():
    for frozen in (True, False):
        loss = backbone_loss(frozen=frozen)
        statistics = loss.model[1].running_mean.clone()
        loss(pictures(4), four_labels()).backward()
        assert (loss.model[0].weight.grad is None) == frozen
        assert loss.model.training
        assert torch.equal(loss.model[1].running_mean, statistics)
        assert loss.laso.classifier.weight.grad.abs().sum() > 0


def test_pairs_depend_on_the_generator_and_on_nothing_else():
    images, labels = pictures(4), four_labels()
    with torch.random.fork_rng():
        values = []
        for noise, seed in ((0, 5), (1, 5), (1, 6)):
            torch.manual_seed(noise)
            values.append(backbone_loss(seed)(images, labels))
    assert values[0] == values[1] != values[2]


def test_a_step_logs_the_sum_of_every_kind():
    loss = backbone_loss()
    batch = Batch(pictures(4), four_labels(), ("a", "b", "c", "d"))
    outcome = laso_step(loss, loss)(batch)
    assert set(outcome.logged) == {"classification", "tautology", "symmetry", "reconstruction"}
    assert sum(outcome.logged.values()) == pytest.approx(outcome.loss.item())
    symmetric = [value for name, value in loss.details.items() if name.startswith("symmetry")]
    assert outcome.logged["symmetry"] == pytest.approx(sum(symmetric))
    assert outcome.loss.requires_grad


def test_union_features_carry_the_union_of_two_different_images():
    laso = small(dropout=0.5).train()
    features = pairs(4)[0]
    labels = torch.eye(4)[:, :3].double()  # the last image shows nothing
    before = {name: value.clone() for name, value in laso.state_dict().items()}
    made, combined = union_features(laso, features, labels, seeded(), 150)
    assert all(module.training for module in laso.modules())
    assert all(torch.equal(value, before[name]) for name, value in laso.state_dict().items())
    laso.eval()
    all_pairs = list(product(range(4), range(4)))
    first, second = torch.tensor(all_pairs).T
    possible = laso.union(features[first], features[second])
    seen = set()
    for one, its_labels in zip(made, combined, strict=True):
        (found,) = [
            pair for pair, x in zip(all_pairs, possible, strict=True) if torch.allclose(x, one)
        ]
        assert torch.equal(its_labels.bool(), labels[found[0]].bool() | labels[found[1]].bool())
        seen.add(found)
    assert all(i != j for i, j in seen)
    assert len(seen) == 12  # every ordered pair
    assert not made.requires_grad


def test_union_features_depend_on_the_generator_alone():
    laso, features, labels = small(dropout=0.5), pairs()[0], pairs()[2]
    one, same, other = (
        union_features(laso, features, labels, seeded(seed), 9)[0] for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("with_unions", [True, False])
def test_a_classifier_separates_what_can_be_separated(with_unions):
    features = six_images()
    laso = small(dtype=torch.float32, features=6) if with_unions else None
    if laso is not None:
        laso.union.forward = torch.maximum  # exact, where the sign is the label
    head = fit_classifier(features, SIX, seeded(), laso=laso, epochs=60, lr=0.03)
    assert torch.equal((head(features) > 0).float(), SIX)
    assert isinstance(head, nn.Linear)
    assert (head.in_features, head.out_features) == (6, 3)


def test_a_classifier_learns_unions_that_no_real_image_shows():
    features, labels = six_images()[:3], SIX[:3]
    laso = small(dtype=torch.float32, features=6)
    laso.union.forward = torch.maximum
    whole, every = torch.full((1, 6), 2.0), torch.ones(1, 3)
    with_unions, without = (
        functional.binary_cross_entropy_with_logits(
            fit_classifier(features, labels, seeded(), laso=one, epochs=60, lr=0.03)(whole), every
        )
        for one in (laso, None)
    )
    assert with_unions < 0.5 * without


@pytest.mark.parametrize("with_unions", [True, False])
def test_the_first_step_of_a_classifier_is_that_of_adam_on_all_its_features(with_unions):
    features, labels = six_images(noise=3.0).double(), SIX.double()
    laso = small(features=6) if with_unions else None
    head = fit_classifier(features, labels, seeded(), laso=laso, epochs=1, batch_size=6, lr=0.01)
    make = seeded()
    start = fresh_linear(6, 3, make).double()
    torch.randperm(6, generator=make)
    shown, their_labels = [features], [labels]
    if laso is not None:
        made, combined = union_features(laso, features, labels, make, 6)
        shown.append(made)
        their_labels.append(combined)
    loss = functional.binary_cross_entropy_with_logits(
        start(torch.cat(shown)), torch.cat(their_labels)
    )
    slopes_of_it = torch.autograd.grad(loss, list(start.parameters()))
    for before, slope, after in zip(
        start.parameters(), slopes_of_it, head.parameters(), strict=True
    ):
        torch.testing.assert_close(after, before - 0.01 * slope / (slope.abs() + 1e-8))


def test_a_classifier_is_a_pure_function_of_its_generator():
    features, labels, laso = six_images(), SIX, small(dtype=torch.float32, features=6)
    random = torch.get_rng_state()
    one, same, other = (
        fit_classifier(features, labels, seeded(seed), laso=laso, epochs=3).weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in laso.parameters())
    assert laso.training


def test_a_classifier_is_trained_under_inference_mode_too():
    features, labels, laso = six_images(), SIX, small(dtype=torch.float32, features=6)
    expected = fit_classifier(features, labels, seeded(), laso=laso, epochs=3)
    with torch.inference_mode():
        found = fit_classifier(features.clone(), labels.clone(), seeded(), laso=laso, epochs=3)
    assert torch.equal(found.weight, expected.weight)
    assert found.weight.requires_grad


def wrong_calls():
    laso, (a, b, la, lb) = small(), pairs()
    one = [x[:1] for x in (a, b, la, lb)]
    return {
        r"shape \(6, 5\) for 6 rows of labels, but they have \(6, 4\)": lambda: laso_losses(
            laso, a[:, :4], b, la, lb
        ),
        r"labels of shape \(6, 3\), but they have \(6, 2\)": lambda: laso_losses(
            laso, a, b, la[:, :2], lb
        ),
        "6 features and 5 partners": lambda: laso_losses(laso, a, b[:5], la, lb[:5]),
        "must be 0 or 1": lambda: laso_losses(laso, a, b, la * 0.5, lb),
        "at least two pairs": lambda: laso_losses(laso, *one),
        "at least two, not 1": lambda: partners(1, seeded()),
        "a union needs two images, but there are 1": lambda: union_features(
            laso, a[:1], la[:1], seeded(), 3
        ),
        r"got \(6, 5\) and \(5, 3\)": lambda: fit_classifier(a, la[:5], seeded()),
        r"got \(0, 5\)": lambda: fit_classifier(a[:0], la[:0], seeded()),
    }


@pytest.mark.parametrize("message", wrong_calls())
def test_what_cannot_be_trained_on_is_named(message):
    with pytest.raises(InputError, match=message):
        wrong_calls()[message]()
