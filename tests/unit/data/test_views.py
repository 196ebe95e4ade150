import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as v2

from atcon.data import AUGMENTATIONS, VIEWS, ViewOptions
from atcon.errors import InputError

ONE_BY_ONE = {
    "crop": ViewOptions(crop=(0.2, 0.9)),
    "flip": ViewOptions(flip=0.5),
    "brightness": ViewOptions(jitter=(0.8, 0.0, 0.0, 0.0)),
    "contrast": ViewOptions(jitter=(0.0, 0.8, 0.0, 0.0)),
    "saturation": ViewOptions(jitter=(0.0, 0.0, 0.8, 0.0)),
    "hue": ViewOptions(jitter=(0.0, 0.0, 0.0, 0.4)),
    "grey": ViewOptions(grey=0.5),
    "blur": ViewOptions(blur=0.5),
    "cutout": ViewOptions(cutout=0.5),
}
ALL = {**VIEWS, **ONE_BY_ONE}
COLOURS = ["brightness", "contrast", "saturation", "hue", "grey"]

each = pytest.mark.parametrize("name", ALL)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=generator(seed), dtype=torch.uint8)


def smooth(*shape: int, seed: int = 0) -> torch.Tensor:
    return (
        v2.gaussian_blur(noise(*shape, seed=seed).float(), [9, 9], [2.0, 2.0])
        .mul(2)
        .sub(128)
        .clamp(0, 255)
        .byte()
    )


SHAPES = [(6, 3, 12, 16), (3, 3, 4, 12, 16)]


@each
@pytest.mark.parametrize("shape", SHAPES)
def test_the_generator_decides_alone_and_pixels_and_global_state_are_left_alone(name, shape):
    pixels = noise(*shape)
    copy = pixels.clone()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = ALL[name](pixels, generator(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(pixels, copy)
    assert first.shape == pixels.shape
    assert first.dtype == torch.uint8
    torch.manual_seed(2)
    assert torch.equal(ALL[name](pixels, generator(3)), first)
    assert not torch.equal(ALL[name](pixels, generator(5)), first)


@each
def test_two_views_in_a_row_differ(name):
    pixels, draws = noise(8, 3, 12, 16), generator(3)
    assert not torch.equal(ALL[name](pixels, draws), ALL[name](pixels, draws))


@each
def test_a_run_goes_on_from_a_saved_generator(name):
    pixels, running, resumed = noise(4, 3, 12, 16), generator(3), torch.Generator()
    ALL[name](pixels, running)
    resumed.set_state(running.get_state())
    expected = ALL[name](pixels, running)
    assert torch.equal(ALL[name](pixels, resumed), expected)


@each
@pytest.mark.parametrize("shape", SHAPES)
def test_a_view_depends_on_its_own_sample_only(name, shape):
    pixels, others = noise(*shape), noise(*shape, seed=9)
    others[1] = pixels[1]
    found, expected = (ALL[name](batch, generator(3)) for batch in (others, pixels))
    assert torch.equal(found[1], expected[1])
    assert not torch.equal(found[0], expected[0])


@each
def test_a_clip_of_identical_frames_stays_one(name):
    clip = smooth(6, 3, 1, 24, 20).expand(-1, -1, 5, -1, -1)
    for seed in range(4):
        view = ALL[name](clip, generator(seed))
        assert torch.equal(view, view[:, :, :1].expand_as(view))


@each
def test_a_clip_of_one_frame_is_seen_as_an_image(name):
    images = smooth(6, 3, 24, 20)
    found = ALL[name](images[:, :, None], generator(3))
    assert torch.equal(found[:, :, 0], ALL[name](images, generator(3)))


@pytest.mark.parametrize("name", COLOURS)
def test_a_colour_stays_one_colour_over_the_frames_of_a_clip(name):
    bright = torch.arange(100, 200, dtype=torch.uint8).repeat(3, 1).reshape(3, 1, 10, 10)
    shifted = torch.stack([bright[0], bright[1].flip(-1), bright[2].flip(-2)])
    dark = shifted // 2
    dark[:, :, :5] = shifted[:, :, :5]  # half of the pixels are those of the first frame
    clip = torch.cat([shifted, dark], dim=1)[None]
    for seed in range(6):
        view = ALL[name](clip, generator(seed))[0]
        assert torch.equal(view[:, 0, :5], view[:, 1, :5])


@each
def test_an_empty_batch_stays_empty(name):
    assert ALL[name](torch.empty(0, 3, 8, 8, dtype=torch.uint8), generator()).shape == (0, 3, 8, 8)


def test_nothing_is_changed_by_default():
    pixels = noise(4, 3, 9, 7)
    assert torch.equal(ViewOptions()(pixels, generator()), pixels)


def test_views_are_called_as_augmentations_are():
    table = {**AUGMENTATIONS, **VIEWS}
    pixels = noise(4, 3, 16, 16)
    assert all(table[name](pixels, generator()).shape == pixels.shape for name in table)
    shared = set(AUGMENTATIONS) & set(VIEWS)  # one name, one meaning
    assert all(AUGMENTATIONS[name] is VIEWS[name] for name in shared)


COORDINATES = torch.stack(
    torch.meshgrid(torch.arange(64) * 4, torch.arange(64) * 4, indexing="ij")
).byte()


def windows(options: ViewOptions, count: int) -> torch.Tensor:
    """Top, left, height and width of crops, `[count, 4]` in shares, read from coordinates."""
    pixels = torch.cat([COORDINATES, torch.zeros(1, 64, 64, dtype=torch.uint8)])
    views = options(pixels.expand(count, -1, -1, -1), generator()).double() / 4
    ends = [views[:, 0, :, 30], views[:, 1, 30, :]]
    # A view's pixels are evenly spaced; its edges are flat, so the inner ones are looked at.
    steps = [(line[:, 54] - line[:, 10]) / 44 for line in ends]
    starts = [line[:, 10] + 0.5 - 10.5 * step for line, step in zip(ends, steps, strict=True)]
    return torch.stack([starts[0] / 64, starts[1] / 64, steps[0], steps[1]], dim=1)


def test_crops_are_inside_and_have_the_area_and_the_shape_asked_for():
    top, left, height, width = windows(ViewOptions(crop=(0.3, 0.8)), 200).T
    near = 0.03
    assert min(top.min(), left.min()) > -near
    assert max((top + height).max(), (left + width).max()) < 1 + near
    areas, shapes = height * width, width / height
    assert 0.3 - near < areas.min() < 0.37
    assert 0.73 < areas.max() < 0.8 + near
    assert 3 / 4 - near < shapes.min() < 0.8
    assert 1.25 < shapes.max() < 4 / 3 + near


def test_crops_are_drawn_as_torchvision_draws_them():
    found = windows(ViewOptions(crop=(0.08, 1.0)), 500)
    reference = RandomResizedCrop(64, scale=(0.08, 1.0))
    image = torch.zeros(3, 64, 64)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = [reference.make_params([image]) for _ in range(500)]
    names = ("top", "left", "height", "width")
    expected = torch.tensor([[one[name] for name in names] for one in drawn]).double() / 64
    share = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    difference = found.quantile(share, dim=0) - expected.quantile(share, dim=0)
    assert difference.abs().max() < 0.1


def test_the_clip_preset_crops_ninety_percent_in_x_and_y():
    options = dataclasses.replace(VIEWS["clip"], flip=0.0, jitter=(0.0, 0.0, 0.0, 0.0))
    top, left, height, width = windows(options, 200).T
    assert (height - 0.9).abs().max() < 0.02
    assert (width - 0.9).abs().max() < 0.02
    assert min(top.min(), left.min()) < 0.01
    assert min(top.max(), left.max()) > 0.08


def test_a_crop_of_an_oblong_image_keeps_its_shape():
    # 0.25 of the area without stretch: half of each side, so that a view is twice as large.
    image = torch.zeros(1, 3, 40, 80, dtype=torch.uint8)
    image[..., ::8, :] = 255
    image[..., :, ::8] = 255
    options = ViewOptions(crop=(0.25, 0.25), stretch=(1.0, 1.0))
    view = options(image, generator())[0, 0].double()
    rows, columns = view.mean(dim=1), view.mean(dim=0)
    for profile in (rows, columns):
        peaks = [
            k
            for k in range(2, len(profile) - 2)
            if profile[k] == profile[k - 2 : k + 3].max() > 1.5 * profile.mean()
        ]
        gaps = {b - a for a, b in pairwise(peaks)} - {1}
        assert gaps <= {15, 16, 17}
        assert gaps


def test_flips_come_in_their_share():
    pixels = noise(600, 3, 4, 4)
    view = ViewOptions(flip=0.3)(pixels, generator())
    same, mirrored = ((view == x).flatten(1).all(1) for x in (pixels, pixels.flip(-1)))
    assert (same | mirrored).all()
    assert abs(mirrored.double().mean() - 0.3) < 0.06


@pytest.mark.parametrize(
    ("name", "adjust", "low", "high"),
    [
        ("brightness", v2.adjust_brightness, 0.2, 1.8),
        ("contrast", v2.adjust_contrast, 0.2, 1.8),
        ("saturation", v2.adjust_saturation, 0.2, 1.8),
        ("hue", v2.adjust_hue, -0.4, 0.4),
    ],
)
def test_one_adjustment_is_torchvisions_with_a_factor_of_its_range(name, adjust, low, high):
    pixel = smooth(1, 3, 6, 6)
    factors = torch.linspace(low, high, 321).tolist()
    table = torch.stack([adjust(pixel[0], factor) for factor in factors]).int()
    views = ONE_BY_ONE[name](pixel.expand(100, -1, -1, -1), generator()).int()
    distance = (views[:, None] - table).abs().flatten(2).amax(dim=2)
    assert distance.min(dim=1).values.max() <= 3  # of the nearest factor in the table
    nearest = distance.argmin(dim=1)
    assert nearest.min() < 20
    assert nearest.max() > 300
    assert abs(nearest.double().mean() - 160) < 35


def test_adjustments_come_in_any_order():
    pixel = smooth(1, 3, 6, 6)
    options = ViewOptions(jitter=(0.8, 0.8, 0.0, 0.0))
    adjust = (v2.adjust_brightness, v2.adjust_contrast)
    seen = set()
    for seed in range(30):
        view = options(pixel, generator(seed))[0]
        draws = generator(seed)
        torch.rand(1, generator=draws, dtype=torch.float64)  # the mirror is drawn before
        order = torch.randperm(4, generator=draws).tolist()
        factors = (0.2 + 1.6 * torch.rand(4, generator=draws, dtype=torch.float64)).tolist()
        expected = pixel[0]
        for index in order:
            if index < 2:
                expected = adjust[index](expected, factors[index])
        assert torch.equal(view, expected)
        seen.add(order.index(0) < order.index(1))
    assert seen == {False, True}


def test_colours_are_jittered_in_their_share():
    pixels = smooth(400, 3, 6, 6)
    view = ViewOptions(jitter=(0.8, 0.8, 0.8, 0.0), jitter_share=0.7)(pixels, generator())
    changed = (view != pixels).flatten(1).any(1).double().mean()
    assert abs(changed - 0.7) < 0.07


def test_grey_is_torchvisions_in_its_share():
    pixels = noise(400, 3, 6, 6)
    view = ViewOptions(grey=0.2)(pixels, generator())
    same, grey = ((view == x).flatten(1).all(1) for x in (pixels, v2.rgb_to_grayscale(pixels, 3)))
    assert (same | grey).all()
    assert abs(grey.double().mean() - 0.2) < 0.06


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_the_square_one_of_torchvision(sigma):
    pixels = noise(2, 3, 30, 24)
    found = ViewOptions(blur=1.0, sigma=(sigma, sigma))(pixels, generator()).int()
    side = 2 * math.ceil(3 * sigma) + 1
    expected = v2.gaussian_blur(pixels, [side, side], [sigma, sigma]).int()
    assert (found - expected).abs().max() <= 1
    assert (found - pixels.int()).abs().max() > 1


def test_blur_comes_in_its_share_and_its_strengths():
    pixels = noise(300, 3, 16, 16)
    view = ViewOptions(blur=0.6)(pixels, generator())
    contrast = view.double().flatten(1).std(dim=1) / pixels.double().flatten(1).std(dim=1)
    assert abs((contrast < 1).double().mean() - 0.6) < 0.12  # a sigma of 0.1 changes nothing
    assert contrast.min() < 0.25


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3, 2, 5)])
def test_the_smallest_images_can_be_blurred(shape):
    pixels = noise(*shape)
    view = ViewOptions(blur=1.0, sigma=(2.0, 2.0))(pixels, generator())
    assert view.shape == pixels.shape
    low, high = pixels.amin(dim=(-1, -2)), pixels.amax(dim=(-1, -2))
    assert (view >= low[..., None, None]).all()
    assert (view <= high[..., None, None]).all()


def test_a_cutout_is_one_grey_rectangle_of_at_most_its_size():
    pixels = torch.zeros(300, 3, 20, 40, dtype=torch.uint8)
    view = ViewOptions(cutout=0.5)(pixels, generator())
    hidden = view[:, 0] == 127
    assert torch.equal(view == 127, hidden[:, None].expand_as(view))
    rows, columns = hidden.any(dim=2), hidden.any(dim=1)
    assert torch.equal(hidden, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(dim=1).max() in (10, 11)
    assert columns.sum(dim=1).max() in (20, 21)
    assert hidden.double().mean(dim=0).min() > 0  # no place is always seen


def test_simclr_is_as_its_authors_for_imagenet():
    options = VIEWS["simclr"]
    assert (options.crop, options.flip, options.grey, options.blur) == ((0.08, 1.0), 0.5, 0.2, 0.5)
    assert (options.jitter, options.jitter_share) == ((0.8, 0.8, 0.8, 0.2), 0.8)


def test_the_clip_preset_is_that_of_the_paper():
    options = VIEWS["clip"]
    assert (options.jitter, options.jitter_share, options.flip) == ((0.8, 0.8, 0.8, 0.4), 1.0, 0.5)
    assert options.grey == options.blur == options.cutout == 0


def test_a_weak_view_is_a_mirror_and_a_shift_of_an_eighth_at_most():
    options = dataclasses.replace(VIEWS["weak"], flip=0.0)
    top, left, height, width = windows(options, 300).T
    assert max(top.max(), left.max()) < 0.125 + 0.02
    assert torch.minimum(height, width).min() > 0.875 - 0.02
    colours = VIEWS["weak"]
    assert colours.jitter == (0, 0, 0, 0)
    assert colours.grey == colours.blur == colours.cutout == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"flip": 1.5}, r"flip must be in \[0, 1\], but it is 1.5"),
        ({"grey": -0.1}, "grey must be in"),
        ({"crop": (0.5, 1.2)}, r"crop must go from .* at most 1.0, but it is \(0.5, 1.2\)"),
        ({"crop": (0.0, 1.0)}, "crop must go from a number above 0"),
        ({"stretch": (2.0, 1.0)}, "stretch must go from"),
        ({"sigma": (0.0, 1.0)}, "sigma must go from"),
        ({"jitter": (0.1, 0.1, 0.1, 0.6)}, "hue at most 0.5"),
        ({"jitter": (-0.1, 0.1, 0.1, 0.1)}, "none below 0"),
    ],
)
def test_options_out_of_range_are_said(options, said):
    with pytest.raises(InputError, match=said):
        ViewOptions(**options)


@pytest.mark.parametrize("pixels", [noise(2, 1, 8, 8), noise(3, 8, 8), noise(2, 3, 8, 8).float()])
def test_what_is_no_batch_of_bytes_is_refused(pixels):
    with pytest.raises(InputError, match="views are made of uint8 pixels"):
        ViewOptions()(pixels, generator())
