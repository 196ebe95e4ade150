"""Resizing maps without torch equals torch."""

import numpy as np
import pytest
import torch

from atcon.evaluation import resize


@pytest.mark.parametrize("source", [(1, 1), (2, 5), (7, 7), (8, 10), (31, 17)])
@pytest.mark.parametrize("target", [(1, 1), (5, 3), (8, 8), (64, 48)])
def test_resize_equals_torch_bilinear_interpolation(source, target):
    attention = np.random.default_rng(0).normal(size=source)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(attention)[None, None], size=target, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(resize(attention, *target), expected[0, 0], atol=1e-12)
