import pytest
import torch
from torch.nn import functional

from atcon.attention import grad_cam, guided_backprop
from atcon.baselines.features import features_of
from atcon.consistency import ConsistencyLoss
from atcon.errors import InputError
from atcon.models import build, load_weights, save_weights
from atcon.training import SupervisedLoss, step_policy

CLIP = (2, 3, 5, 48, 64)  # an odd number of frames, and no square


@pytest.fixture(params=["digits_resnet", "squeezenet1_1"])
def pair(request):
    """A network of images, and the same weights shown every frame of a clip."""
    torch.manual_seed(0)
    image = build(request.param, classes=4, seed=1)
    clip = build(f"frames/{request.param}", classes=4, seed=2)
    clip.module.backbone.load_state_dict(image.module.state_dict())
    return image.module.eval(), clip.module.eval(), clip


def frames_of(clips: torch.Tensor) -> torch.Tensor:
    return clips.transpose(1, 2).flatten(0, 1)


def test_a_linear_head_gives_the_mean_of_the_logits_of_the_frames():
    image, clip = build("digits_resnet", classes=4), build("frames/digits_resnet", classes=4)
    clip.module.backbone.load_state_dict(image.module.state_dict())
    clips = torch.randn(CLIP)
    each = image.module.eval()(frames_of(clips)).view(2, 5, 4)
    torch.testing.assert_close(clip.module.eval()(clips), each.mean(dim=1))


def test_the_head_sees_the_mean_of_the_features_of_the_frames(pair):
    image, clip, network = pair
    clips = torch.randn(CLIP)
    head = network.head.removeprefix("backbone.")
    each = features_of(image, head, frames_of(clips)).view(2, 5, -1)
    torch.testing.assert_close(features_of(clip, network.head, clips), each.mean(dim=1))


def test_maps_have_the_frames_as_their_first_axis_and_those_of_the_images_as_values():
    image, clip = build("digits_resnet", classes=4), build("frames/digits_resnet", classes=4)
    clip.module.backbone.load_state_dict(image.module.state_dict())
    clips, classes = torch.randn(CLIP), torch.tensor([1, 3])
    each = classes.repeat_interleave(5)
    for attention, layers in (
        (grad_cam, ({"layer": "stages"}, {"layer": "backbone.stages"})),
        (guided_backprop, ({}, {})),
    ):
        alone = attention(image.module.eval(), frames_of(clips), each, **layers[0])
        within = attention(clip.module.eval(), clips, classes, **layers[1])
        expected = alone.view(2, 5, *alone.shape[1:]) / 5  # each frame has a fifth of the logit
        torch.testing.assert_close(within, expected)


def test_the_layer_of_the_backbone_is_found(pair):
    _, clip, _ = pair
    loss = ConsistencyLoss(clip)
    clips = torch.randn(CLIP)
    comparison = loss.compare(clips)
    cells = comparison.maps["grad_cam"].shape
    assert cells[:2] == (2, 5)
    assert comparison.maps["guided_backprop"].shape == (2, 5, 48, 64)
    loss(clips).backward()
    assert any(weight.grad is not None for weight in clip.parameters())


def test_the_gradient_of_the_loss_matches_finite_differences():
    network = build("frames/digits_resnet", classes=3, seed=0).module.double().eval()
    clips = torch.randn(1, 3, 2, 32, 32, dtype=torch.float64)
    loss = ConsistencyLoss(network, preset="paper", target=torch.tensor([1]))
    weight = network.backbone.stages[2][0].conv1.weight
    loss(clips).backward()
    direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.manual_seed(3))
    slope = float((weight.grad * direction).sum())
    values = []
    for step in (1e-8, -1e-8):  # small, for a unit that changes its sign is no derivative
        with torch.no_grad():
            weight += step * direction
        values.append(float(loss(clips).detach()))
        with torch.no_grad():
            weight -= step * direction
    assert slope == pytest.approx((values[0] - values[1]) / 2e-8, rel=1e-4, abs=1e-7)


def test_weights_of_images_and_of_clips_load(pair, tmp_path):
    image, clip, _ = pair
    name = "digits_resnet" if hasattr(image, "stages") else "squeezenet1_1"
    save_weights(image, tmp_path / "image.safetensors")
    save_weights(clip, tmp_path / "clip.safetensors")
    for file in ("image", "clip"):
        again = build(f"frames/{name}", classes=4, weights=tmp_path / f"{file}.safetensors")
        for key, value in clip.state_dict().items():
            torch.testing.assert_close(again.module.state_dict()[key], value)
    load_weights(build(f"frames/{name}", classes=4).module, tmp_path / "clip.safetensors")
    other = build(f"frames/{name}", classes=7, weights=tmp_path / "image.safetensors")
    first = next(iter(image.parameters()))
    torch.testing.assert_close(next(iter(other.module.parameters())), first)


def test_it_trains_on_labels():
    network = build("frames/digits_resnet", classes=3, seed=0)
    loss = SupervisedLoss(network.module, multi_label=False, batch_norm=step_policy("batch"))
    clips, labels = torch.randn(CLIP), functional.one_hot(torch.tensor([0, 2]), 3).float()
    optimizer = torch.optim.Adam(network.module.parameters(), 1e-3)
    values = []
    for _ in range(5):
        optimizer.zero_grad()
        value = loss(clips, labels)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0]


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("frames/r3d_18", None, "must be a network of images; 'r3d_18' takes clips already"),
        ("frames/frames/resnet18", None, "must be a network of images"),
        ("frames/resnet1", None, "did you mean"),
        ("r3d_18", "imagenet", "has no 'imagenet' weights, but 'kinetics400' ones"),
        ("frames/resnet18", "kinetics400", "resnet18 has no 'kinetics400' weights"),
    ],
)
def test_what_does_not_fit_is_refused(name, weights, message):
    with pytest.raises(InputError, match=message):
        build(name, classes=3, weights=weights)


def test_networks_say_what_they_take():
    takes = {name: build(name, classes=3).takes for name in ("r3d_18", "resnet18")}
    assert takes == {"r3d_18": "clips", "resnet18": "images"}
    assert build("frames/resnet18", classes=3).takes == "clips"
    r3d = build("r3d_18", classes=3)
    assert (r3d.input_size, r3d.mean) == (112, (0.43216, 0.394666, 0.37645))
