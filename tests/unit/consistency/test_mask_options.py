import pytest
import torch
from tiny import network, pictures

from atcon.consistency import MASKS, ConsistencyLoss, MaskOptions, mask_contrast
from atcon.consistency.masks import reference_mask
from atcon.consistency.stochastic import draw, make_mask, strengths, with_floor, with_strength
from atcon.consistency.windows import blurred
from atcon.errors import InputError

TABLE = pytest.mark.parametrize("name", MASKS)


def maps(count=3, size=(6, 7), seed=0):
    make = torch.Generator().manual_seed(seed)
    return torch.rand(count, *size, dtype=torch.float64, generator=make)


@TABLE
def test_without_options_the_mask_is_its_form(name):
    assert make_mask(MASKS[name], MaskOptions()) is MASKS[name]


@TABLE
def test_blur_form_and_floor_come_in_this_order(name):
    mask = make_mask(MASKS[name], MaskOptions(smooth=1.5, floor=0.25))
    expected = 0.25 + 0.75 * MASKS[name](blurred(maps(), 1.5))
    torch.testing.assert_close(mask(maps()), expected)


def test_each_form_has_its_own_parameter():
    steep = make_mask(MASKS["reference"], MaskOptions(slope=40.0))
    torch.testing.assert_close(steep(maps()), reference_mask(maps(), slope=40.0))
    for value in (0.3, 0.7):
        p = make_mask(MASKS["uniform"], MaskOptions(value=value))(maps())
        assert torch.equal(p, torch.full_like(p, value))


@TABLE
def test_a_floor_is_never_undercut_and_lowers_the_contrast(name):
    p = MASKS[name](30 * maps())
    lifted = with_floor(p, 0.4)
    assert (lifted >= 0.4).all()
    torch.testing.assert_close(mask_contrast(lifted), 0.6 * mask_contrast(p))
    assert torch.equal(with_floor(p, 0.0), p)


def test_strength_goes_from_no_mask_to_the_whole():
    p = MASKS["deviation"](maps())
    dimmed = with_strength(p, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(dimmed[0], torch.ones_like(p[0]))
    torch.testing.assert_close(dimmed[1], (1 + p[1]) / 2)
    torch.testing.assert_close(dimmed[2], p[2])


def test_every_image_draws_its_own_strength_within_the_range():
    options, make = MaskOptions(strength=(0.2, 0.6)), torch.Generator().manual_seed(0)
    drawn = strengths(options, draw(options, 500, 2, make)["strength"])
    assert drawn.shape == (500, 2)
    assert 0.2 <= drawn.min() < 0.21
    assert 0.59 < drawn.max() <= 0.6
    assert len(drawn.unique()) > 900


def test_training_draws_and_evaluation_takes_the_middle():
    model, images = network("plain"), pictures(3)
    options = MaskOptions(strength=(0.0, 1.0))
    loss = ConsistencyLoss(
        model, mask="deviation", mask_options=options, generator=torch.Generator().manual_seed(0)
    )
    values = {loss(images).item() for _ in range(3)}
    assert len(values) == 3
    middle = ConsistencyLoss(model, mask="deviation", mask_options=MaskOptions(strength=0.5))
    for _ in range(2):
        assert torch.equal(loss.compare(images).correlation, middle.compare(images).correlation)


def test_a_full_or_no_strength_is_the_mask_or_nothing():
    model, images = network("plain"), pictures(3)
    plain = ConsistencyLoss(model, mask="deviation").compare(images)
    full = ConsistencyLoss(model, mask="deviation", mask_options=MaskOptions(strength=(1.0, 1.0)))
    none = ConsistencyLoss(model, mask="deviation", mask_options=MaskOptions(strength=0.0))
    assert torch.equal(full.compare(images).correlation, plain.correlation)
    assert none.compare(images).correlation.tolist() == pytest.approx([1, 1, 1])


def test_micro_batches_draw_what_the_whole_batch_draws():
    model, images = network("plain"), pictures(5)
    options = MaskOptions(strength=(0.0, 1.0))
    values = []
    for size in (None, 2):
        make = torch.Generator().manual_seed(3)
        loss = ConsistencyLoss(
            model, mask="deviation", mask_options=options, generator=make, micro_batch=size
        )
        values.append(loss(images).item())
    assert values[0] == pytest.approx(values[1], abs=1e-12)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"floor": 1.5}, "mask floor must be between 0 and 1"),
        ({"value": -0.1}, "mask value must be"),
        ({"smooth": -1.0}, "mask smooth must be 0 or larger"),
        ({"strength": (0.9, 0.1)}, "mask strength must be"),
        ({"strength": 2.0}, "mask strength must be"),
    ],
)
def test_options_that_give_no_mask_are_input_errors(wrong, rule):
    with pytest.raises(InputError, match=rule):
        MaskOptions(**wrong)


def test_a_random_strength_asks_for_its_generator():
    with pytest.raises(InputError, match="drawn at random: give generator"):
        ConsistencyLoss(network("plain"), mask_options=MaskOptions(strength=(0.5, 1.0)))
