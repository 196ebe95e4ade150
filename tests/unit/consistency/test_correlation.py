import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional

from atcon.consistency import CORRELATIONS, between_images, cross_correlation, pearson

TABLE = pytest.mark.parametrize("name", CORRELATIONS)
CENTRED = pytest.mark.parametrize("name", [n for n in CORRELATIONS if n != "cross_correlation"])
SIZES = pytest.mark.parametrize("size", [(7,), (4, 5), (2, 5, 5)], ids=["signal", "image", "clip"])


def maps(count=3, size=(4, 5), seed=0, dtype=torch.float64):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(count, *size, dtype=dtype, generator=make)


def constant_like(maps, value=0.3):
    return torch.full_like(maps, value)


@SIZES
def test_pearson_equals_scipy(size):
    a, b = maps(6, size), maps(6, size, seed=1)
    expected = [
        stats.pearsonr(x.ravel(), y.ravel()).statistic
        for x, y in zip(a.numpy(), b.numpy(), strict=True)
    ]
    np.testing.assert_allclose(pearson(a, b), expected, rtol=0, atol=1e-14)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    seed=st.integers(0, 99),
    scale=st.floats(-8, 8),
    shift=st.floats(-1e3, 1e3),
    negative=st.booleans(),
)
def test_pearson_ignores_scale_and_shift(seed, scale, shift, negative):
    a, b = maps(seed=seed), maps(seed=seed + 100)
    factor = -(10**scale) if negative else 10**scale
    moved = factor * (a + shift)
    sign = -1 if negative else 1
    torch.testing.assert_close(pearson(moved, b), sign * pearson(a, b), rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-18, 1e-10, 1.0, 1e10, 1e20, 1e30])
def test_pearson_ignores_extreme_scales_in_single_precision(scale):
    a, b = maps(dtype=torch.float32), maps(seed=1, dtype=torch.float32)
    a.requires_grad_()
    found = pearson(a * scale, b * scale)
    torch.testing.assert_close(found, pearson(a, b), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), a)
    (expected,) = torch.autograd.grad(pearson(a, b).sum(), a)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


@TABLE
def test_a_map_agrees_with_itself_and_not_with_its_negative(name):
    a = maps()
    torch.testing.assert_close(CORRELATIONS[name](a, a), torch.ones(3).double())
    assert (CORRELATIONS[name](a, -a) < 0).all()


@TABLE
def test_is_symmetric_and_at_most_one(name):
    a, b = maps(50), maps(50, seed=1)
    found = CORRELATIONS[name](a, b)
    torch.testing.assert_close(found, CORRELATIONS[name](b, a))
    assert (found.abs() <= 1 + 1e-12).all()


@TABLE
def test_each_sample_is_compared_with_its_own_partner(name):
    a, b = maps(4), maps(4, seed=1)
    alone = torch.cat([CORRELATIONS[name](a[i : i + 1], b[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(CORRELATIONS[name](a, b), alone)


@CENTRED
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e20, 1e-20])
def test_a_constant_map_correlates_with_nothing_and_teaches_nothing(name, value, dtype):
    flat = constant_like(maps(dtype=dtype), value).requires_grad_()
    other = maps(seed=1, dtype=dtype).requires_grad_()
    found = CORRELATIONS[name](flat, other)
    assert not found.any()
    gradients = torch.autograd.grad(found.sum(), [flat, other])
    assert not any(gradient.any() for gradient in gradients)


@CENTRED
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_no_contrast(name, dtype):
    ripple = maps(size=(9, 9), dtype=dtype).sign() * torch.finfo(dtype).eps
    flat = (0.3 * (1 + ripple)).requires_grad_()
    assert flat.std() > 0
    found = CORRELATIONS[name](flat, maps(size=(9, 9), seed=1, dtype=dtype))
    assert not found.any()
    assert not torch.autograd.grad(found.sum(), flat)[0].any()


@TABLE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_map_of_zeros_agrees_with_nothing_and_teaches_nothing(name, dtype):
    zeros = torch.zeros(3, 4, 5, dtype=dtype, requires_grad=True)
    other = maps(seed=1, dtype=dtype).requires_grad_()
    found = CORRELATIONS[name](zeros, other)
    assert not found.any()
    assert not any(gradient.any() for gradient in torch.autograd.grad(found.sum(), [zeros, other]))


@TABLE
def test_a_constant_map_does_not_spoil_the_other_samples(name):
    a, b = maps(), maps(seed=1)
    expected = CORRELATIONS[name](a, b)
    a[1] = 2.0
    a.requires_grad_()
    found = CORRELATIONS[name](a, b)
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])
    (gradient,) = torch.autograd.grad(found.sum(), a)
    assert gradient.isfinite().all()
    assert gradient[0].any()


@CENTRED
def test_a_map_of_one_position_has_no_correlation(name):
    one = maps(2, (1, 1)).requires_grad_()
    found = CORRELATIONS[name](one, one)
    assert not found.any()
    assert not torch.autograd.grad(found.sum(), one)[0].any()


@TABLE
def test_first_and_second_derivative_match_finite_differences(name):
    a, b = maps(2).requires_grad_(), maps(2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(CORRELATIONS[name], (a, b))
    assert torch.autograd.gradgradcheck(CORRELATIONS[name], (a, b))


@SIZES
def test_cross_correlation_is_the_cosine(size):
    a, b = maps(6, size) + 0.5, maps(6, size, seed=1)
    expected = functional.cosine_similarity(a.flatten(1), b.flatten(1))
    torch.testing.assert_close(cross_correlation(a, b), expected, rtol=0, atol=1e-14)


def test_cross_correlation_is_not_centred():
    a, b = maps(), maps(seed=1)
    torch.testing.assert_close(cross_correlation(5 * a, b / 3), cross_correlation(a, b))
    torch.testing.assert_close(cross_correlation(-a, b), -cross_correlation(a, b))
    centred = [x - x.mean(dim=(1, 2), keepdim=True) for x in (a, b)]
    torch.testing.assert_close(cross_correlation(*centred), pearson(a, b))
    flat = constant_like(a)
    torch.testing.assert_close(cross_correlation(flat, 2 * flat), torch.ones(3).double())
    assert (cross_correlation(a + 100, b + 100) > 0.99).all()


@TABLE
@pytest.mark.parametrize("scale", [1e-18, 1e-10, 1e10, 1e18, 1e30])
def test_extreme_scales_change_nothing_in_single_precision(name, scale):
    a = maps(dtype=torch.float32).requires_grad_()
    b = maps(seed=1, dtype=torch.float32)
    found, expected = CORRELATIONS[name](a * scale, b * scale), CORRELATIONS[name](a, b)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    slopes = [torch.autograd.grad(value.sum(), a)[0] for value in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4)


def test_maps_of_different_images_are_compared_pair_by_pair():
    a = maps(3)
    pairs = [pearson(a[i : i + 1], a[j : j + 1]) for i, j in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(between_images(a), torch.cat(pairs).mean())
    torch.testing.assert_close(between_images(a[:1].repeat(3, 1, 1)), torch.tensor(1.0).double())
    assert between_images(a[:1]).isnan()
