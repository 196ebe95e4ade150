import random

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """Every test draws the same random numbers each time, alone or after any other test."""
    random.seed(0)
    torch.manual_seed(0)
