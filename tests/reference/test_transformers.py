"""Grad-CAM and the loss on transformers and clips, against hooks and finite differences."""

import pytest
import torch
import torchvision
from finite_differences import slopes
from tiny import CLASSES, pictures
from tiny_transformers import shaken, transformer
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from atcon.attention import ATTENTION, find_layer, grad_cam
from atcon.consistency import ConsistencyLoss

VIDEO = torchvision.models.video


def cam_by_hooks(model, layer, images, classes, arrange):
    """Grad-CAM of what a plain hook sees, arranged as `[batch, channel, *cells]` by hand."""
    kept = []
    hook = layer.register_forward_hook(lambda _m, _i, out: kept.append(out))
    logits = model(images)
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), kept[0])
    features, gradients = arrange(kept[0].detach()), arrange(gradient)
    axes = tuple(range(2, features.ndim))
    return (features * gradients.mean(dim=axes, keepdim=True)).sum(dim=1)


ARRANGED = {
    "vit": ("encoder.layers.encoder_layer_1.ln_1", lambda x: x[:, 1:].mT.unflatten(2, (4, 4))),
    "encoder": ("encoder.layers.1", lambda x: x.mT.unflatten(2, (4, 4))),
    "swin": ("features.3", lambda x: x.permute(0, 3, 1, 2)),
}


@pytest.mark.parametrize("built", ARRANGED)
def test_grad_cam_equals_a_plain_hook_and_its_gradient(built):
    model, images, classes = transformer(built), pictures(2, 32), torch.tensor([1, 3])
    layer, arrange = ARRANGED[built]
    assert find_layer(model, images) == layer
    expected = cam_by_hooks(model, model.get_submodule(layer), images, classes, arrange)
    assert expected.std() > 0
    found = grad_cam(model, images, classes)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max()))


def swin3d():
    return VIDEO.swin_transformer.SwinTransformer3d(
        [2, 4, 4], 8, [1, 1], [1, 2], [2, 2, 2], num_classes=CLASSES
    )


CLIPS = {
    "swin3d": (swin3d, "features.2", lambda x: x.permute(0, 4, 1, 2, 3), (4, 4, 4)),
    "r3d_18": (VIDEO.r3d_18, "layer4", lambda x: x, (1, 2, 2)),
    "mc3_18": (VIDEO.mc3_18, "layer4", lambda x: x, (8, 2, 2)),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clips_have_maps_and_a_loss_with_a_gradient(name):
    build, layer, arrange, cells = CLIPS[name]
    torch.manual_seed(0)
    model = shaken(build())
    images, classes = torch.randn(2, 3, 8, 32, 32), torch.tensor([1, 3])
    assert find_layer(model, images) == layer
    expected = cam_by_hooks(model, model.get_submodule(layer), images, classes, arrange)
    found = grad_cam(model, images, classes)
    assert found.shape == (2, *cells)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    loss = ConsistencyLoss(model, mask="deviation", detach_mask=False)
    loss(images).backward()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.slow
def test_the_papers_clips_have_maps_of_2_by_5_by_5():
    torch.manual_seed(0)
    model, images = VIDEO.r3d_18(), torch.randn(2, 3, 16, 80, 80)
    assert grad_cam(model, images).shape == (2, 2, 5, 5)
    ConsistencyLoss(model)(images).backward()
    assert model.layer4[1].conv2[0].weight.grad.any()


ROLL_OUT_FIRST = ("attention_rollout", "gradient")
ROLL_OUT_MASKS = ("grad_cam", "gradient_rollout")


@pytest.mark.parametrize(
    ("built", "options"),
    [
        ("vit", {}),
        ("swin", {}),
        ("vit", {"detach_mask": True}),
        ("vit", {"maps": ROLL_OUT_FIRST}),
        ("registers", {"maps": ROLL_OUT_MASKS}),
    ],
)
def test_the_gradient_of_the_loss_matches_finite_differences(built, options):
    model, images = transformer(built), pictures(2, 32)
    options = {"mask": "deviation", "detach_mask": False, "target": 1} | options
    consistency = ConsistencyLoss(model, **options)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(consistency(images), parameters, materialize_grads=True)
    if options["detach_mask"]:
        mask = consistency.compare(images).mask
        consistency = ConsistencyLoss(model, **{**options, "mask": lambda _maps: mask})

    def value():
        return -consistency.compare(images).correlation.mean()

    for found, expected in slopes(parameters, gradients, value):
        assert abs(expected) > 1e-5
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", ["grad_cam", "attention_rollout", "gradient_rollout"])
def test_checkpointed_and_compiled_blocks_change_nothing(name):
    images = pictures(2, 32)
    expected = ATTENTION[name](transformer("vit"), images, 1)
    checkpointed = transformer("vit")
    checkpointed.encoder.layers[1] = checkpoint_wrapper(checkpointed.encoder.layers[1])
    compiled = torch.compile(transformer("vit"), backend="eager")
    for model in (checkpointed, compiled):
        torch.testing.assert_close(ATTENTION[name](model, images, 1), expected)


def test_checkpointed_blocks_give_the_same_gradient_of_the_loss():
    results = []
    for wrap in (lambda block: block, checkpoint_wrapper):
        model = transformer("vit")
        for index in range(2):
            model.encoder.layers[index] = wrap(model.encoder.layers[index])
        value = ConsistencyLoss(model, mask="deviation", detach_mask=False)(pictures(2, 32))
        results.append(torch.autograd.grad(value, [*model.parameters()], materialize_grads=True))
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(checkpointed, plain, rtol=1e-10, atol=1e-13)
