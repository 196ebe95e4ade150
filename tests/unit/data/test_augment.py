import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from atcon.data import AUGMENTATIONS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.randint(0, 256, (400, 3, 8, 8), generator=generator(), dtype=torch.uint8)


each = pytest.mark.parametrize("name", AUGMENTATIONS)


@each
def test_the_generator_decides_alone_and_the_global_state_is_left_alone(name, batch):
    augment = AUGMENTATIONS[name]
    torch.manual_seed(1)
    before, copy = torch.get_rng_state(), batch.clone()
    first = augment(batch, generator(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(batch, copy)
    assert first.dtype == torch.uint8
    assert first.shape == batch.shape
    torch.manual_seed(2)
    assert torch.equal(augment(batch, generator(3)), first)
    assert name == "none" or not torch.equal(augment(batch, generator(4)), first)


@each
def test_a_run_goes_on_from_a_saved_generator(name, batch):
    running = generator(3)
    AUGMENTATIONS[name](batch, running)
    resumed = torch.Generator()
    resumed.set_state(running.get_state())
    expected = AUGMENTATIONS[name](batch, running)
    assert torch.equal(AUGMENTATIONS[name](batch, resumed), expected)


@each
def test_an_empty_batch_stays_empty(name):
    assert AUGMENTATIONS[name](torch.empty(0, 3, 8, 8, dtype=torch.uint8), generator()).numel() == 0


def test_none_changes_nothing(batch):
    assert torch.equal(AUGMENTATIONS["none"](batch, generator()), batch)


def test_rotation_turns_every_image_by_its_own_angle_within_ten_degrees():
    one = torch.zeros(3, 65, 65)
    one[:, 32, 60] = 255
    batch = v2.gaussian_blur(one, [5, 5]).mul(6).clamp(max=255).byte().repeat(200, 1, 1, 1)
    turned = AUGMENTATIONS["rotation"](batch, generator())[:, 0].double()
    grid = torch.arange(65).double() - 32
    rows = (turned.sum(2) * grid).sum(1) / turned.sum((1, 2))
    columns = (turned.sum(1) * grid).sum(1) / turned.sum((1, 2))
    degrees = torch.atan2(rows, columns).rad2deg()
    assert degrees.abs().max() <= 10.1
    assert degrees.min() < -9
    assert degrees.max() > 9
    assert abs(degrees.mean()) < 1.5
    assert abs(degrees.std() - 20 / 12**0.5) < 0.6


@pytest.mark.parametrize(
    ("name", "shares"),
    [("paper", (0.5, 0.25, 0.25)), ("horizontal", (0.5, 0.5, 0)), ("rotation", (1, 0, 0))],
)
def test_flips_come_in_their_shares(name, shares, batch, monkeypatch):
    monkeypatch.setattr("atcon.data.augment.MAX_DEGREES", 0.0)
    flipped = AUGMENTATIONS[name](batch, generator())
    forms = (batch, batch.flip(-1), batch.flip(-2))
    found = [(flipped == form).flatten(1).all(1) for form in forms]
    assert torch.stack(found).sum(0).eq(1).all()
    for form, share in zip(found, shares, strict=True):
        assert abs(form.double().mean() - share) < 0.08  # 3 standard deviations


def test_rotation_agrees_with_torchvision_image_by_image(batch):
    angles = (2 * torch.rand(400, generator=generator(5)) - 1) * 10
    turned = AUGMENTATIONS["rotation"](batch, generator(5))
    bilinear = InterpolationMode.BILINEAR
    for index in (0, 7, 399):
        expected = v2.rotate(batch[index], angles[index].item(), interpolation=bilinear)
        assert torch.equal(turned[index], expected)


@each
def test_all_frames_of_a_clip_share_one_draw(name):
    still = torch.randint(0, 256, (6, 3, 1, 12, 16), generator=generator(), dtype=torch.uint8)
    clips = AUGMENTATIONS[name](still.expand(-1, -1, 5, -1, -1), generator(3))
    assert clips.shape == (6, 3, 5, 12, 16)
    assert (clips == clips[:, :, :1]).all()
    assert name == "none" or not (clips == clips[:1]).all()


@pytest.mark.parametrize("name", ["paper", "horizontal", "rotation"])
def test_a_frame_of_a_clip_is_augmented_like_an_image(name):
    frames = torch.randint(0, 256, (6, 3, 5, 12, 16), generator=generator(), dtype=torch.uint8)
    clips = AUGMENTATIONS[name](frames, generator(3))
    for frame in range(5):
        alone = AUGMENTATIONS[name](frames[:, :, frame], generator(3))
        assert torch.equal(clips[:, :, frame], alone)
