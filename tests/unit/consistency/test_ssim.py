import numpy as np
import pytest
import torch
from scipy import ndimage
from torchmetrics.functional.image import structural_similarity_index_measure

from atcon.consistency import ssim, structural_similarity
from atcon.consistency.windows import blurred

SIZES = [(1,), (2,), (2, 2), (1, 1), (1, 4), (3, 3), (4, 4), (7, 7), (2, 5, 5), (2, 2, 2)]


def maps(count=2, size=(24, 30), seed=0, dtype=torch.float64):
    make = torch.Generator().manual_seed(seed)
    return torch.rand(count, *size, dtype=dtype, generator=make)


def wang(a, b, data_range):
    """Wang et al. (2004), with the windows of SciPy cut to those inside the map."""

    def mean(x):
        full = ndimage.gaussian_filter(x, 1.5, truncate=3.5, mode="constant")
        return full[tuple(slice(5, size - 5) for size in x.shape)]

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2
    cov = mean(a * b) - mu_a * mu_b
    top = (2 * mu_a * mu_b + c1) * (2 * cov + c2)
    return (top / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))).mean()


@pytest.mark.parametrize("data_range", [1.0, 5.0])
@pytest.mark.parametrize("size", [(40,), (24, 30), (22, 21, 23)], ids=["signal", "image", "clip"])
def test_large_maps_have_the_value_of_wang(size, data_range):
    a, b = maps(size=size), 0.5 * maps(size=size) + 0.5 * maps(size=size, seed=1)
    pairs = zip(a.numpy(), b.numpy(), strict=True)
    expected = [wang(x, y, data_range) for x, y in pairs]
    found = structural_similarity(a, b, data_range=data_range)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_windows_inside_the_map_have_the_values_of_torchmetrics():
    a, b = maps(), 0.5 * maps() + 0.5 * maps(seed=1)
    _, every = structural_similarity_index_measure(
        a[:, None], b[:, None], data_range=1.0, return_full_image=True
    )
    expected = every[:, 0, 5:-5, 5:-5].mean(dim=(1, 2))
    torch.testing.assert_close(structural_similarity(a, b), expected, rtol=0, atol=1e-6)


def test_a_map_of_two_by_two_has_one_window():
    a, b = maps(1, (2, 2)), maps(1, (2, 2), seed=1)
    x, y = a.numpy().ravel(), b.numpy().ravel()
    covariance = (x * y).mean() - x.mean() * y.mean()
    top = (2 * x.mean() * y.mean() + 1e-4) * (2 * covariance + 9e-4)
    below = (x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (x.var() + y.var() + 9e-4)
    assert structural_similarity(a, b).item() == pytest.approx(top / below, abs=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_maps_of_every_size_agree_with_themselves_and_have_a_finite_gradient(size):
    a, b = maps(3, size).requires_grad_(), maps(3, size, seed=1)
    one = torch.ones(3).double() if a[0].numel() > 1 else torch.zeros(3).double()
    torch.testing.assert_close(ssim(a, a), one)
    found = ssim(a, b)
    assert (found.abs() <= 1 + 1e-12).all()
    assert torch.autograd.grad(found.sum(), a)[0].isfinite().all()


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (1e-9, 0.0), (1e9, 4e9), (1.0, -7.0)])
def test_ignores_the_scale_and_the_shift_of_either_map(scale, shift):
    a, b = maps(size=(5, 6)), maps(size=(5, 6), seed=1)
    torch.testing.assert_close(ssim(scale * a + shift, b), ssim(a, b), rtol=0, atol=1e-6)
    torch.testing.assert_close(ssim(a, scale * b + shift), ssim(a, b), rtol=0, atol=1e-6)


def test_single_precision_gives_nearly_the_same():
    a, b = maps(), maps(seed=1)
    torch.testing.assert_close(ssim(a.float(), b.float()).double(), ssim(a, b), rtol=0, atol=1e-5)


def test_sees_where_the_structure_lies():
    spot = torch.zeros(1, 8, 8)
    spot[0, 2, 2] = 1
    near, far = blurred(spot, 1.0), blurred(spot.flip(1, 2), 1.0)
    assert ssim(spot, near) > ssim(spot, far) + 0.2


def test_a_blur_keeps_constants_and_equals_scipy_inside():
    flat = torch.full((1, 3, 9), 0.7).double()
    torch.testing.assert_close(blurred(flat, 2.0), flat)
    spot = torch.zeros(1, 31, 31).double()
    spot[0, 15, 15] = 1
    expected = ndimage.gaussian_filter(spot[0].numpy(), 1.5, truncate=12)
    np.testing.assert_allclose(blurred(spot, 1.5)[0], expected, rtol=0, atol=1e-12)
    assert blurred(spot, 0.0) is spot
