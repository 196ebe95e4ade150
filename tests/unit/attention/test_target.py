import pytest
import torch
from tiny import network, pictures

from atcon.attention import TARGETS, choose_classes, grad_cam, selected
from atcon.consistency import ConsistencyLoss
from atcon.errors import InputError

LOGITS = torch.tensor([[1.0, -1.0, 2.0], [-3.0, -1.0, -2.0], [0.0, 0.5, -1.0]])


def test_positive_chooses_all_predicted_classes_or_the_top_one():
    found = choose_classes(LOGITS, "positive")
    assert found.tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0]]
    assert torch.equal(choose_classes(LOGITS, "top"), choose_classes(LOGITS))


def test_weights_explain_the_weighted_sum_of_the_logits():
    model, images = network("residual"), pictures()
    weights = torch.tensor([[1.0, 0, 2, 0], [0, 0, 0, 1]]).double()
    each = torch.stack([grad_cam(model, images, index) for index in range(4)])
    expected = torch.einsum("bc,cbhw->bhw", weights, each)
    torch.testing.assert_close(grad_cam(model, images, weights), expected)
    torch.testing.assert_close(selected(model(images), weights), (weights * model(images)).sum(1))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_a_multi_hot_target_may_have_any_type(dtype):
    hot = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 1]]).to(dtype)
    assert torch.equal(choose_classes(LOGITS, hot), hot.float())
    assert torch.equal(choose_classes(LOGITS, lambda _: hot), hot.float())


def test_the_loss_keeps_the_classes_of_the_unmasked_images():
    model, images = network("residual"), pictures(3)
    loss = ConsistencyLoss(model, mask="deviation", target="positive")
    value = loss(images)
    weights = choose_classes(model(images), "positive")
    assert torch.equal(loss.details.classes, weights)
    seen = loss.compare(images)
    torch.testing.assert_close(seen.first, grad_cam(model, images, weights))
    masked = seen.mask[:, None] * images
    torch.testing.assert_close(seen.second, grad_cam(model, masked, weights))
    value.backward()


def test_an_unknown_rule_gives_the_nearest():
    with pytest.raises(InputError, match="did you mean 'positive'"):
        choose_classes(LOGITS, "positiv")
    assert list(TARGETS) == ["top", "positive"]


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (3, 3, 1)])
def test_weights_of_another_shape_are_an_input_error(shape):
    with pytest.raises(InputError, match=r"class weights, shape \(3, 3\)"):
        choose_classes(LOGITS, torch.ones(shape))
