"""A second network that sees the unmasked images and says what should be found."""

import copy
import pickle

import pytest
import torch
from tiny import NETWORKS, network, pictures
from torch import nn

from atcon.attention import grad_cam, guided_backprop
from atcon.consistency import (
    ConsistencyLoss,
    Preset,
    Teacher,
    compare,
    disagreement,
    method_of,
    update_teacher,
)
from atcon.consistency.masks import deviation_mask
from atcon.errors import InputError


def other(name="residual", dtype=torch.float64):
    """A second network: the same layers with other weights."""
    return network(name, seed=5, dtype=dtype)


def gradients(value, model):
    return torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)


def kl(target, logits):
    q, p = target.softmax(dim=1), logits.softmax(dim=1)
    return (q * (q / p).log()).sum(dim=1)


def correlation(a, b):
    pairs = torch.stack([a.flatten(1), b.flatten(1)], dim=1)
    return torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_as_teacher_gives_the_value_and_maps_of_the_model_alone(name):
    model, images = network(name), pictures(3)
    alone = ConsistencyLoss(model, mask="deviation", detach_mask=True, logit_weight=0.5)
    taught = ConsistencyLoss(
        model, mask="deviation", teacher=copy.deepcopy(model), logit_weight=0.5, detach_mask=False
    )
    itself = ConsistencyLoss(model, mask="deviation", teacher=model, logit_weight=0.5)
    values = [loss(images).item() for loss in (alone, taught, itself)]
    assert values[1:] == pytest.approx([values[0]] * 2, abs=1e-12)
    a, b = (loss.compare(images) for loss in (alone, taught))
    torch.testing.assert_close((a.first, a.second, a.mask), (b.first, b.second, b.mask))
    assert torch.equal(a.classes, b.classes)


def test_the_teacher_alone_sees_the_images_and_the_model_alone_what_is_masked():
    model, teacher, images = network("residual"), other(), pictures(3)
    seen = {"model": [], "teacher": []}
    loss = ConsistencyLoss(model, "relu", mask="deviation", teacher=teacher)
    loss.compare(images)  # whatever is found out once for each network
    for name, net in (("model", model), ("teacher", teacher)):
        net.register_forward_pre_hook(lambda _, x, name=name: seen[name].append(x[0].clone()))
    found = loss.compare(images)
    assert [len(inputs) for inputs in seen.values()] == [1, 1]
    assert torch.equal(seen["teacher"][0], images)
    assert torch.equal(seen["model"][0], found.mask[:, None] * images)
    top = teacher(images).argmax(dim=1)
    assert torch.equal(found.classes, top)
    assert not torch.equal(top, model(images).argmax(dim=1))
    torch.testing.assert_close(found.first, grad_cam(teacher, images, top))
    torch.testing.assert_close(found.mask, deviation_mask(guided_backprop(teacher, images, top)))
    torch.testing.assert_close(found.logits, teacher(images))
    torch.testing.assert_close(found.masked_logits[0], model(seen["model"][0]))


def test_a_rule_for_the_class_sees_the_logits_of_the_teacher_also_in_micro_batches():
    model, teacher, images = network("residual"), other(), pictures(5)

    def least(logits):
        return logits.argmin(dim=1)

    for size in (None, 2):
        loss = ConsistencyLoss(model, teacher=teacher, target=least, micro_batch=size)
        loss(images)
        assert torch.equal(loss.details.classes, teacher(images).argmin(dim=1))


def test_the_teacher_is_no_part_of_the_loss_and_is_left_as_it_was():
    model, teacher = network("edits").train(), network("edits", seed=5).train()
    before = copy.deepcopy(teacher.state_dict())
    loss = ConsistencyLoss(model, teacher=teacher, logit_weight=1.0)
    assert loss.teacher is teacher
    loss(pictures()).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(module.training for module in teacher.modules())
    torch.testing.assert_close(dict(teacher.state_dict()), dict(before), rtol=0, atol=0)
    assert teacher not in set(loss.modules())
    assert set(loss.state_dict()) == {f"model.{name}" for name in model.state_dict()}
    loss.eval()
    assert teacher.training


def test_a_saved_loss_keeps_its_teacher():
    loss = ConsistencyLoss(network("residual"), teacher=other(), mask="deviation")
    expected = loss(pictures())
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):  # noqa: S301  ours
        assert again.teacher is not loss.teacher
        assert torch.equal(again(pictures()), expected)


def test_the_gradient_of_images_comes_from_the_masked_pass_alone():
    model, teacher = network("residual"), other()
    images = pictures(2).requires_grad_()
    loss = ConsistencyLoss(model, mask="deviation", teacher=teacher)
    (found,) = torch.autograd.grad(loss(images), images)
    seen = loss.compare(images.detach())
    free = images.detach().clone().requires_grad_()
    again = grad_cam(model, seen.mask[:, None] * free, seen.classes, create_graph=True)
    (expected,) = torch.autograd.grad(-correlation(seen.first, again).mean(), free)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_a_map_without_a_gradient_may_be_the_mask_of_a_teacher():
    loss = ConsistencyLoss(
        network("plain"),
        maps=("grad_cam", "occlusion"),
        mask="deviation",
        detach_mask=False,
        teacher=other("plain"),
    )
    assert any(gradient.any() for gradient in gradients(loss(pictures()), loss.model))


def test_several_layers_and_maps_have_their_teacher_too():
    model, teacher, images = network("plain"), other("plain"), pictures()
    maps = ("grad_cam", "gradient", "guided_backprop")
    loss = ConsistencyLoss(model, ["2", "6"], maps=maps, mask="deviation", teacher=teacher)
    loss.target = 1
    seen = loss.compare(images)
    assert len(seen.masked_logits) == 2  # under the gradient and under Guided Backpropagation
    for layer in ("2", "6"):
        (pair, *_) = (pair for pair in seen.pairs if pair.names[0] == f"grad_cam@{layer}")
        torch.testing.assert_close(pair.first, grad_cam(teacher, images, 1, layer=layer))
        masked = pair.mask[:, None] * images
        torch.testing.assert_close(pair.second, grad_cam(model, masked, 1, layer=layer))
    expected = torch.stack([kl(teacher(images), logits) for logits in seen.masked_logits]).mean(
        dim=0
    )
    torch.testing.assert_close(disagreement(seen, multi_label=False), expected)


def test_choices_about_a_pass_that_is_not_made_are_input_errors():
    model = network("plain")
    with pytest.raises(InputError, match="a teacher is about the pass on the masked images"):
        ConsistencyLoss(model, matching="upsample", teacher=other("plain"))
    with pytest.raises(InputError, match="logit_weight must be 0 or larger, but it is -1"):
        ConsistencyLoss(model, logit_weight=-1.0)
    with pytest.raises(InputError, match="has no layer '6'"):
        ConsistencyLoss(model, "6", teacher=other("residual"))(pictures())
    method = method_of(Preset("deviation", matching="pool"))
    with pytest.raises(InputError, match="choose matching 'mask'"):
        compare(model, pictures(), {"6": model[6]}, method, teacher=Teacher(model, {"6": model[6]}))
    seen = ConsistencyLoss(model, matching="pool").compare(pictures())
    with pytest.raises(InputError, match="no predictions on masked images"):
        disagreement(seen, multi_label=True)


def test_a_teacher_whose_samples_interact_is_refused_in_micro_batches():
    teacher = other("plain")
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    with pytest.raises(InputError, match="statistics of the batch"):
        ConsistencyLoss(network("plain"), teacher=teacher, micro_batch=2)


def test_an_updated_teacher_is_the_average_of_what_it_was_told():
    model = network("plain")
    teacher = copy.deepcopy(model).half()
    held = dict(teacher.named_parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
        model[1].running_mean.add_(1.0)
        model[1].num_batches_tracked.add_(3)
    update_teacher(teacher, model, 0.5)
    for name, parameter in teacher.named_parameters():
        assert parameter is held[name]
        assert parameter.dtype == torch.float16
        expected = network("plain").get_parameter(name) + 0.5
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-2, atol=1e-2)
    assert teacher[1].num_batches_tracked == model[1].num_batches_tracked
    wrapped = torch.nn.Module()
    wrapped.add_module("_orig_mod", teacher)
    update_teacher(wrapped, model, 0.0)
    torch.testing.assert_close(teacher[0].weight.double(), model[0].weight, rtol=1e-2, atol=1e-2)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=r"in \[0, 1\]"):
            update_teacher(teacher, model, wrong)
    with pytest.raises(InputError, match=r"no copy of the model: '0\.weight'"):
        update_teacher(network("grouped"), model, 0.9)


def test_a_taught_model_comes_nearer_to_its_teacher():
    model, teacher, images = network("residual"), other(), pictures(4)
    loss = ConsistencyLoss(model, mask="deviation", teacher=teacher, logit_weight=1.0, mirror=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(images)
        value.backward()
        optimizer.step()
        update_teacher(teacher, model, 1.0)
        values.append(value.item())
    assert values[-1] < values[0] - 0.1
    for name, weight in teacher.named_parameters():
        assert torch.equal(weight, other().get_parameter(name))
