import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from atcon.consistency import MATCHINGS, Matching
from atcon.consistency.matching import pooled, upsampled
from atcon.consistency.windows import blurred
from atcon.errors import InputError

SIZES = pytest.mark.parametrize(
    ("coarse", "fine"),
    [((3,), (7,)), ((4, 5), (11, 13)), ((2, 5, 5), (16, 20, 20))],
    ids=["signal", "image", "clip"],
)


def maps(size, count=2, seed=0):
    make = torch.Generator().manual_seed(seed)
    return torch.randn(count, *size, dtype=torch.float64, generator=make)


def cells(size, parts):
    """Where each cell of the coarse grid begins and ends on the fine one."""
    return [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]


@SIZES
@pytest.mark.parametrize(("pooling", "of"), [("max", np.max), ("average", np.mean)])
def test_pooling_takes_each_cell_over_its_part_of_the_fine_grid(coarse, fine, pooling, of):
    a = maps(fine)
    found = pooled(a, coarse, pooling)
    parts = [cells(size, count) for size, count in zip(fine, coarse, strict=True)]
    for sample, one in zip(found, a.numpy(), strict=True):
        for cell in np.ndindex(*coarse):
            place = tuple(slice(*parts[axis][i]) for axis, i in enumerate(cell))
            assert sample[cell].item() == pytest.approx(of(one[place]), abs=1e-12)


@SIZES
def test_upsampling_is_linear_between_the_centres_of_the_cells(coarse, fine):
    a = maps(coarse)
    places = [
        (np.arange(size) + 0.5) * count / size - 0.5
        for size, count in zip(fine, coarse, strict=True)
    ]
    grid = np.stack(np.meshgrid(*places, indexing="ij"))
    expected = [ndimage.map_coordinates(one, grid, order=1, mode="nearest") for one in a.numpy()]
    np.testing.assert_allclose(upsampled(a, fine), expected, rtol=0, atol=1e-12)


@SIZES
@pytest.mark.parametrize("name", ["upsample", "pool", "average_pool"])
def test_two_maps_get_the_resolution_of_the_finer_or_the_coarser(coarse, fine, name):
    a, b = maps(coarse), maps(fine, seed=1)
    first, second = MATCHINGS[name].match(a, b)
    kept = second is b if name == "upsample" else first is a
    assert kept
    assert first.shape == second.shape == (2, *(fine if name == "upsample" else coarse))
    again = MATCHINGS[name].match(b, a)
    assert torch.equal(again[0], second)
    assert torch.equal(again[1], first)


@pytest.mark.parametrize("name", ["upsample", "pool"])
def test_grids_of_which_neither_is_finer_meet_axis_by_axis(name):
    first, second = MATCHINGS[name].match(maps((2, 9, 9)), maps((8, 3, 3)))
    expected = (8, 9, 9) if name == "upsample" else (2, 3, 3)
    assert first.shape[1:] == second.shape[1:] == expected


def test_maps_of_one_resolution_stay_as_they_are():
    a, b = maps((4, 4)), maps((4, 4), seed=1)
    for name in ("upsample", "pool"):
        assert all(x is y for x, y in zip(MATCHINGS[name].match(a, b), (a, b), strict=True))


def test_smoothing_comes_before_the_interpolation():
    a = maps((5, 6))
    expected = upsampled(blurred(a, 0.8), (11, 13))
    assert torch.equal(upsampled(a, (11, 13), smooth=0.8), expected)
    assert expected.std() < upsampled(a, (11, 13)).std()
    first, second = Matching("upsample", smooth=0.8).match(a, maps((11, 13), seed=1))
    assert torch.equal(first, expected)
    assert torch.equal(second, maps((11, 13), seed=1))


@pytest.mark.parametrize("size", [(3,), (4, 4), (2, 3, 3)], ids=str)
def test_gradients_match_finite_differences(size):
    a = maps(size, 1).requires_grad_()
    finer, coarser = tuple(2 * n + 1 for n in size), tuple(max(n // 2, 1) for n in size)
    for operation in (
        lambda x: upsampled(x, finer, smooth=0.7),
        lambda x: pooled(x, coarser, "max"),
        lambda x: pooled(x, coarser, "average"),
    ):
        assert torch.autograd.gradcheck(operation, (a,))


def test_the_rows_of_table_4_compare_what_the_paper_compares():
    rows = {name: (m.by, m.maps) for name, m in MATCHINGS.items() if m.maps}
    gc, gb = "grad_cam", "guided_backprop"
    assert rows == {
        "guided_backprop_mask": ("mask", (gc, gb)),
        "grad_cam_mask": ("mask", (gb, gc)),
        "grad_cam_upsampled": ("upsample", (gc, gb)),
        "guided_backprop_pooled": ("pool", (gc, gb)),
    }
    assert MATCHINGS["guided_backprop_pooled"].pooling == "max"


def test_wrong_choices_are_input_errors():
    with pytest.raises(InputError, match="by 'mask', 'upsample' or 'pool'"):
        Matching("crop")
    with pytest.raises(InputError, match="pooling 'median'"):
        Matching("pool", pooling="median")
    with pytest.raises(InputError, match="smooth"):
        Matching("upsample", smooth=-1.0)
    with pytest.raises(InputError, match="these have 4"):
        upsampled(maps((2, 2, 2, 2)), (3, 3, 3, 3))


def test_pooling_equals_torch_where_the_grid_divides():
    a = maps((8, 8))
    expected = functional.max_pool2d(a[:, None], 2)[:, 0]
    assert torch.equal(pooled(a, (4, 4)), expected)
