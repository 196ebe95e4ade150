import numpy as np
import pytest
import torch

from atcon.consistency import MASKS, entropy, mask_contrast
from atcon.consistency.masks import reference_mask, squashed

TABLE = pytest.mark.parametrize("name", MASKS)
SHAPES = {**MASKS, "squashed": squashed}


def maps(count=3, size=(4, 5), dtype=torch.float64, seed=0):
    make = torch.Generator().manual_seed(seed)
    return torch.rand(count, *size, dtype=dtype, generator=make)


def logistic(x):
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


FORMULAS = {
    "variance": lambda a: logistic((a - a.mean()) / a.var(ddof=1)),
    "deviation": lambda a: logistic((a - a.mean()) / a.std(ddof=1)),
    "reference": lambda a: logistic(8 * (a - (a.mean() + a.std(ddof=1) / 2))),
    "uniform": lambda a: np.full_like(a, 0.5),
    "squashed": lambda a: logistic((a - a.mean()) / a.std(ddof=1)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("size", [(7,), (4, 5), (2, 5, 5)], ids=["signal", "image", "clip"])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 50.0])
def test_equals_its_formula_on_one_map_at_a_time(name, size, scale):
    a = scale * maps(size=size)
    expected = [FORMULAS[name](one) for one in a.numpy()]
    np.testing.assert_allclose(SHAPES[name](a), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("slope", [8.0, 40.0, 100.0])
def test_the_slope_of_the_reference_is_an_argument(slope):
    a = 0.1 * maps(1)
    one = a[0].numpy()
    expected = logistic(slope * (one - (one.mean() + one.std(ddof=1) / 2)))
    np.testing.assert_allclose(reference_mask(a, slope=slope)[0], expected, atol=1e-12)


@TABLE
@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1.0, 1e6, 1e20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stays_between_zero_and_one_with_a_finite_gradient(name, scale, dtype):
    a = (scale * maps(dtype=dtype)).requires_grad_()
    p = MASKS[name](a)
    assert p.dtype == dtype
    assert p.shape == a.shape
    assert ((p >= 0) & (p <= 1)).all()
    weights = maps(dtype=dtype, seed=1)
    if p.requires_grad:
        (gradient,) = torch.autograd.grad((weights * p).sum(), a, materialize_grads=True)
        assert gradient.isfinite().all()


@TABLE
@pytest.mark.parametrize("size", [(4, 5), (1, 1)], ids=["constant", "one position"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e20, 1e-20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_map_without_contrast_dims_evenly_and_teaches_nothing(name, value, size, dtype):
    a = torch.full((2, *size), value, dtype=dtype, requires_grad=True)
    p = MASKS[name](a)
    assert torch.equal(p.detach(), torch.full_like(p, 0.5))
    if p.requires_grad:
        assert not torch.autograd.grad(p.sum(), a)[0].any()


@TABLE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_no_contrast(name, dtype):
    ripple = (maps(size=(9, 9), dtype=dtype) - 0.5).sign() * torch.finfo(dtype).eps
    flat = 0.3 * (1 + ripple)
    assert flat.std() > 0
    p = MASKS[name](flat)
    assert torch.equal(p, torch.full_like(p, 0.5))


@TABLE
def test_a_flat_map_does_not_spoil_its_neighbours(name):
    a = maps()
    expected = MASKS[name](a)
    a[1] = 0.2
    a.requires_grad_()
    found = MASKS[name](a)
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])
    if found.requires_grad:
        (gradient,) = torch.autograd.grad((found * maps(seed=1)).sum(), a)
        assert gradient.isfinite().all()
        assert gradient[0].any()


@TABLE
def test_a_larger_value_is_masked_no_more_than_a_smaller_one(name):
    a, p = maps(1).flatten(), MASKS[name](maps(1)).flatten()
    assert (p[a.argsort()].diff() >= 0).all()


@TABLE
def test_a_mask_depends_on_its_own_map_only(name):
    a = maps()
    alone = torch.cat([MASKS[name](one[None]) for one in a])
    torch.testing.assert_close(MASKS[name](a), alone)


@TABLE
def test_ignores_a_shift(name):
    torch.testing.assert_close(MASKS[name](maps() + 3), MASKS[name](maps()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-11, 1e-3, 1e3, 1e20])
def test_the_deviation_mask_is_scale_free_and_the_others_are_not(scale):
    a = maps()
    torch.testing.assert_close(MASKS["deviation"](scale * a), MASKS["deviation"](a))
    for name in ("variance", "reference"):
        assert (MASKS[name](scale * a) - MASKS[name](a)).abs().max() > 0.1


def test_the_uniform_mask_is_one_half_and_has_no_contrast():
    p = MASKS["uniform"](maps())
    assert torch.equal(p, torch.full_like(p, 0.5))
    assert not mask_contrast(p).any()


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "uniform"])
def test_first_and_second_derivative_match_finite_differences(name):
    a = maps(2, (3, 3)).requires_grad_()
    assert torch.autograd.gradcheck(SHAPES[name], (a,))
    assert torch.autograd.gradgradcheck(SHAPES[name], (a,))


def test_contrast_is_the_unbiased_standard_deviation_over_the_positions():
    p = maps()
    expected = [one.std(ddof=1) for one in p.numpy()]
    np.testing.assert_allclose(mask_contrast(p), expected, rtol=1e-12)


def test_contrast_of_a_single_position_is_zero():
    assert not mask_contrast(maps(size=(1, 1))).any()


def test_entropy_is_one_for_a_flat_map_and_zero_for_a_single_point():
    point = torch.zeros(1, 3, 3)
    point[0, 1, 2] = 4
    flat = torch.full((1, 3, 3), 0.3)
    halves = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    assert entropy(torch.cat([point, flat])).tolist() == pytest.approx([0, 1])
    assert entropy(halves).item() == pytest.approx(np.log(2) / np.log(4))
    torch.testing.assert_close(entropy(7 * maps() - 2), entropy(maps()))
